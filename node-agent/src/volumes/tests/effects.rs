//! The effects on real mounts, with a driver that fails on either side of each step, and what a
//! restart reads from what was left.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_api::attachment::{BOOT_ID, MACHINE_ID, attachment_name};
use holdfast_test_needs::{Need, missing};
use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::{
    Api,
    api::{Patch, PatchParams, PostParams},
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use serde_json::json;
use tempfile::TempDir;
use tokio::time::Instant;

use super::recording_driver::{RecordingDriver, Side};
use crate::{
    csi::{Driver, capability::Shape},
    events::Recorder,
    layout::Layout,
    metrics::Metrics,
    plugins::Drivers,
    test_api,
    volumes::{
        action::Action, actual, api::attachment_metadata, apply, apply::Io, decide::decide, journal::Journal,
        mountinfo::Mounts, view::*,
    },
};

const DRIVER: &str = "d.example";
const BOOT: &str = "boot-1";

pub(super) struct Place {
    pub(super) folder: TempDir,
    pub(super) io: Io,
    driver: RecordingDriver,
}

impl Place {
    pub(super) async fn new() -> Self {
        let folder = tempfile::tempdir().unwrap();
        let backing = folder.path().join("backing");
        fs::create_dir(&backing).unwrap();
        fs::write(backing.join("hello"), "there").unwrap();
        let socket = folder.path().join("csi.sock");
        let recording = RecordingDriver::serve(&socket, &backing);
        let layout = Arc::new(Layout::prepare(&folder.path().join("kubelet")).unwrap());
        let (driver, info) =
            Driver::connect(DRIVER, &socket, Duration::from_secs(10), 4, Metrics::default()).await.unwrap();
        assert_eq!(info.node_id, "node-id");
        let drivers = Drivers::new();
        drivers.put(driver);
        let client = test_api::client(&test_api::Objects::default());
        let recorder = Recorder::new(client.clone(), "n1");
        let io = Io {
            client,
            node: "n1".into(),
            layout,
            drivers,
            recorder,
            boot_id: BOOT.into(),
            machine_id: "m1".into(),
        };
        Self { folder, io, driver: recording }
    }

    fn kubelet(&self) -> PathBuf {
        self.folder.path().canonicalize().unwrap().join("kubelet")
    }

    pub(super) fn mounts(&self) -> usize {
        Mounts::read().unwrap().below(&self.kubelet()).count()
    }

    fn scan(&self, boot: &str) -> actual::Scan {
        actual::scan(&self.io.layout, boot, false).unwrap()
    }

    /// Decides and acts, beginning with what a scan finds, until nothing is left to do. Failures
    /// are tried again at once.
    async fn settle(&self, pods: &[PodView]) {
        for _ in 0..40 {
            let actual = self.scan(BOOT).actual;
            let in_use = Some([id().unique_name()].into());
            let drivers = [DRIVER.to_owned()].into();
            let view = View { pods: pods.to_vec(), actual, in_use, drivers, ..View::default() };
            let planned: Vec<Action> = decide(&view, Instant::now()).into_iter().map(|p| p.action).collect();
            let effects: Vec<_> = planned
                .iter()
                .filter(|a| !matches!(a, Action::ReportPod { .. } | Action::DeletePod { .. }))
                .collect();
            if effects.is_empty() {
                return;
            }
            for action in effects {
                // A crash right after: only the disk remembers, as the next scan reads it.
                let _ = apply::apply(&self.io, action, &mut Vec::new()).await;
            }
        }
        panic!("does not settle: {:?}", self.scan(BOOT).actual);
    }

    /// Every file and folder below `plugins` and `pods` but the first levels.
    pub(super) fn left(&self) -> Vec<PathBuf> {
        let mut found = Vec::new();
        let mut folders = vec![self.kubelet().join("pods"), self.io.layout.csi()];
        while let Some(folder) = folders.pop() {
            for entry in fs::read_dir(folder).unwrap() {
                let path = entry.unwrap().path();
                if path.is_dir() && !path.is_symlink() {
                    folders.push(path.clone());
                }
                found.push(path);
            }
        }
        let base = [DRIVER, "volumeDevices", "publish", "staging"];
        found.retain(|p| !base.iter().any(|b| p.ends_with(b)));
        found
    }
}

impl Drop for Place {
    fn drop(&mut self) {
        // A test that failed must not leave mounts behind.
        let kubelet = self.kubelet();
        let mounts: Vec<PathBuf> = Mounts::read().unwrap().below(&kubelet).map(Path::to_owned).collect();
        for mount in mounts.iter().rev() {
            let _ = unmount(mount, UnmountFlags::DETACH);
        }
    }
}

fn id() -> VolumeId {
    VolumeId { driver: DRIVER.into(), handle: "h1".into() }
}

fn pod(name: &str, block: bool) -> PodView {
    let volume = CsiVolume {
        id: id(),
        pv: "pv1".into(),
        shape: Shape { block, access_mode: "ReadWriteOnce".into(), ..Shape::default() },
        attributes: BTreeMap::new(),
        stage_secret: None,
        publish_secret: None,
        expand_secret: None,
        read_only: false,
        attach: Attach::NotNeeded,
        pod_info: None,
        one_pod: false,
        growth: None,
    };
    PodView {
        key: PodKey { namespace: "dev".into(), name: name.into(), uid: format!("uid-{name}") },
        life: Life::Active,
        created: 0,
        volumes: vec![PodVolume {
            name: "v".into(),
            wanted: Ok(Wanted::Csi(Box::new(volume))),
            leaving_claim: None,
        }],
        reported: None,
    }
}

#[tokio::test]
async fn what_another_machine_of_the_name_has_is_not_used() {
    let place = Place::new().await;
    let name = attachment_name(DRIVER, "h1", "n1");
    let api: Api<VolumeAttachment> = Api::all(place.io.client.clone());
    let made_for = |boot: &str, machine: &str| {
        json!({
            "metadata": {"name": name, "annotations": {BOOT_ID: boot, MACHINE_ID: machine}},
            "spec": {"attacher": DRIVER, "nodeName": "n1", "source": {"persistentVolumeName": "pv1"}},
            "status": {"attached": true},
        })
    };
    let attachment = serde_json::from_value(made_for("boot-0", "m1")).unwrap();
    api.create(&PostParams::default(), &attachment).await.unwrap();
    for (boot, machine, is_used) in [("boot-0", "m1", true), (BOOT, "m0", true), ("boot-0", "m0", false)] {
        api.patch(&name, &PatchParams::default(), &Patch::Merge(made_for(boot, machine))).await.unwrap();
        let metadata = attachment_metadata(&place.io, &id(), "pv1").await;
        assert_eq!(metadata.is_ok(), is_used, "{boot} {machine}: {metadata:?}");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn staged_once_published_twice_released_in_order() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    place.settle(&[pod("a", false), pod("b", false)]).await;
    assert_eq!(place.driver.calls(), ["stage", "publish", "publish"]);
    for uid in ["uid-a", "uid-b"] {
        let file = place.io.layout.csi_target(uid, "pv1").join("hello");
        assert_eq!(fs::read_to_string(file).unwrap(), "there");
    }
    place.settle(&[pod("b", false)]).await;
    assert_eq!(place.driver.calls(), ["unpublish"]);
    assert!(place.io.layout.csi_target("uid-b", "pv1").join("hello").exists());
    place.settle(&[]).await;
    assert_eq!(place.driver.calls(), ["unpublish", "unstage"]);
    assert_eq!((place.mounts(), place.left()), (0, Vec::new()));
    assert!(place.folder.path().join("backing/hello").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_failure_on_either_side_of_any_step_leaves_nothing() {
    if missing(&[Need::Root]) {
        return;
    }
    for method in ["stage", "publish", "unpublish", "unstage"] {
        for side in [Side::Before, Side::After] {
            let place = Place::new().await;
            place.driver.fail.lock().unwrap().insert(method, side);
            place.settle(&[pod("a", false)]).await;
            assert!(place.io.layout.csi_target("uid-a", "pv1").join("hello").exists(), "{method} {side:?}");
            place.settle(&[]).await;
            assert_eq!((place.mounts(), place.left()), (0, Vec::new()), "{method} {side:?}");

            // The pod goes right after the failure: what may exist is undone, not forgotten.
            place.driver.fail.lock().unwrap().insert(method, side);
            for action in decide(
                &View {
                    pods: vec![pod("a", false)],
                    in_use: Some([id().unique_name()].into()),
                    drivers: [DRIVER.to_owned()].into(),
                    ..View::default()
                },
                Instant::now(),
            ) {
                let _ = apply::apply(&place.io, &action.action, &mut Vec::new()).await;
            }
            place.settle(&[]).await;
            assert_eq!((place.mounts(), place.left()), (0, Vec::new()), "{method} {side:?}, pod gone");
        }
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_block_has_its_own_paths() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    place.settle(&[pod("a", true)]).await;
    let link = place.io.layout.pod_device("uid-a", "kubernetes.io~csi", "pv1");
    assert_eq!(fs::read_link(&link).unwrap(), place.io.layout.block_target("pv1", "uid-a"));
    let scan = place.scan(BOOT);
    assert!(scan.actual.devices[&id()].block);
    assert!(scan.actual.published.values().all(|p| p.block && p.state == State::Done));
    place.settle(&[]).await;
    assert_eq!((place.mounts(), place.left()), (0, Vec::new()));
}

#[tokio::test(flavor = "multi_thread")]
async fn what_a_restart_reads() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    place.settle(&[pod("a", false)]).await;
    let states = |scan: &actual::Scan| {
        (scan.actual.devices[&id()].state, scan.actual.published.values().next().unwrap().state)
    };
    assert_eq!(states(&place.scan(BOOT)), (State::Done, State::Done));
    assert_eq!(states(&place.scan("boot-2")), (State::Uncertain, State::Uncertain), "mounts of another boot");
    let owner = place.scan(BOOT).actual.published.into_values().next().unwrap().owner;
    assert_eq!(owner, pod("a", false).key, "events find the pod without its object");

    // Somebody unmounts by hand: it is mounted again.
    let target = place.io.layout.csi_target("uid-a", "pv1");
    unmount(&target, UnmountFlags::NOFOLLOW).unwrap();
    assert_eq!(states(&place.scan(BOOT)), (State::Done, State::Uncertain));
    place.settle(&[pod("a", false)]).await;
    assert!(target.join("hello").exists());

    // A broken journal: what it stands for is neither mounted over nor undone.
    let journal = place.io.layout.csi_publication_journal("uid-a", "pv1");
    let text = fs::read(&journal).unwrap();
    fs::write(&journal, "{").unwrap();
    let scan = place.scan(BOOT);
    assert!(scan.actual.published.is_empty() && scan.leftovers.is_empty() && scan.unknown.len() == 1);
    fs::write(&journal, text).unwrap();

    // A staging whose journal is broken or gone may be this volume: it stays listed as in use.
    let staged = place.io.layout.device_journal(DRIVER, "h1");
    let text = fs::read(&staged).unwrap();
    for damage in [Some("{"), None] {
        match damage {
            Some(damage) => fs::write(&staged, damage).unwrap(),
            None => Journal::remove(&staged).unwrap(),
        }
        let actual = place.scan(BOOT).actual;
        assert!(actual.devices.is_empty() && actual.unread.may_be(&id().unique_name()));
        assert!(!actual.unread.may_be("kubernetes.io/csi/d.example^another"));
        fs::write(&staged, &text).unwrap();
    }
    assert_eq!(place.scan(BOOT).actual.unread, Default::default());

    // A mount without a journal, as if the journal was deleted: told and left alone.
    Journal::remove(&journal).unwrap();
    let scan = place.scan(BOOT);
    assert!(scan.leftovers.is_empty() && scan.unknown.len() == 1, "{:?}", scan.unknown);
    assert!(target.join("hello").exists());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_driver_that_lies_is_not_believed() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    place.settle(&[pod("a", false)]).await;
    // A second mount on the staging path, which the driver's one unmount does not take away.
    let staging = place.io.layout.global_mount(DRIVER, "h1");
    mount_bind(place.folder.path().join("backing"), &staging).unwrap();
    let device = Device { pv: "pv1".into(), block: false, state: State::Done };
    let mut changes = Vec::new();
    let action = Action::Unstage { id: id(), device };
    let error = apply::apply(&place.io, &action, &mut changes).await.unwrap_err();
    assert!(error.to_string().contains("still mounted"), "{error}");
    assert_eq!(place.scan(BOOT).actual.devices[&id()].state, State::Uncertain);
    place.settle(&[]).await;
    assert_eq!((place.mounts(), place.left()), (0, Vec::new()));
}

/// A volume that the driver lost is let go of once the kernel shows nothing of it, not before.
#[tokio::test(flavor = "multi_thread")]
async fn a_volume_that_the_driver_does_not_know() {
    if missing(&[Need::Root]) {
        return;
    }
    let place = Place::new().await;
    place.settle(&[pod("a", false)]).await;
    let actual = place.scan(BOOT).actual;
    let (at, publication) = actual.published.into_iter().next().unwrap();
    let device = actual.devices[&id()].clone();
    let target = place.io.layout.csi_target(&at.pod, &at.name);
    let staging = place.io.layout.global_mount(DRIVER, "h1");
    let unpublish = Action::Unpublish { id: at, publication, volume: id() };
    let unstage = Action::Unstage { id: id(), device };
    for (action, method, path) in [(unpublish, "unpublish", target), (unstage, "unstage", staging)] {
        place.driver.fail.lock().unwrap().insert(method, Side::NotFound);
        let error = apply::apply(&place.io, &action, &mut Vec::new()).await.unwrap_err().to_string();
        assert!(error.contains("NOT_FOUND") && error.contains("still mounted"), "{error}");
        unmount(&path, UnmountFlags::NOFOLLOW).unwrap();
        place.driver.fail.lock().unwrap().insert(method, Side::NotFound);
        apply::apply(&place.io, &action, &mut Vec::new()).await.unwrap();
    }
    assert_eq!((place.mounts(), place.left()), (0, Vec::new()));
}
