//! Numbered cases: this view gives these actions.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use crate::{
    csi::capability::Shape,
    volumes::{
        action::Action,
        decide::{SLOW, decide},
        reason::Reason,
        view::*,
    },
};

const DRIVER: &str = "d.example";

fn id(n: u32) -> VolumeId {
    VolumeId { driver: DRIVER.into(), handle: format!("h{n}") }
}

fn csi(n: u32) -> CsiVolume {
    CsiVolume {
        id: id(n),
        pv: format!("pv{n}"),
        shape: Shape { access_mode: "ReadWriteOnce".into(), ..Shape::default() },
        attributes: BTreeMap::new(),
        stage_secret: None,
        publish_secret: None,
        expand_secret: None,
        read_only: false,
        attach: Attach::Attached,
        pod_info: None,
        one_pod: false,
        growth: None,
    }
}

fn growth() -> Growth {
    Growth {
        namespace: "dev".into(),
        claim: "data".into(),
        claim_uid: "c1".into(),
        bytes: 2,
        quantity: "2".into(),
    }
}

fn local() -> LocalVolume {
    LocalVolume {
        plugin: Plugin::HostPath,
        name: "host".into(),
        source: LocalSource::Path { path: "/srv".into(), check: String::new() },
        block: false,
        read_only: false,
    }
}

fn key(name: &str) -> PodKey {
    PodKey { namespace: "dev".into(), name: name.into(), uid: format!("uid-{name}") }
}

fn pod(name: &str, wanted: Vec<Result<Wanted, Reason>>) -> PodView {
    let volumes = wanted
        .into_iter()
        .enumerate()
        .map(|(n, wanted)| PodVolume { name: format!("v{n}"), wanted, leaving_claim: None })
        .collect();
    PodView { key: key(name), life: Life::Active, created: 0, volumes, reported: None }
}

fn user(name: &str, volume: CsiVolume) -> PodView {
    pod(name, vec![Ok(Wanted::Csi(Box::new(volume)))])
}

fn with(life: Life, mut pod: PodView) -> PodView {
    pod.life = life;
    pod
}

/// A node with a driver that lists volume 1 as in use.
fn node(pods: Vec<PodView>) -> View {
    View {
        pods,
        has_node: true,
        in_use: Some(BTreeSet::from([id(1).unique_name()])),
        drivers: BTreeSet::from([DRIVER.to_owned()]),
        ..View::default()
    }
}

fn staged(mut view: View, state: State) -> View {
    view.actual.devices.insert(id(1), Device { pv: "pv1".into(), block: false, state });
    view
}

fn published(mut view: View, name: &str, state: State) -> View {
    let at = PublicationId { pod: format!("uid-{name}"), plugin: Plugin::Csi, name: "pv1".into() };
    let publication = Publication { volume: Some(id(1)), block: false, state, owner: key(name) };
    view.actual.published.insert(at, publication);
    view
}

/// The actions in short: what, for whom, why.
fn plan(view: &View, now: Instant) -> Vec<String> {
    decide(view, now)
        .into_iter()
        .map(|p| {
            let what = match &p.action {
                Action::SetInUse { volumes } => format!("in-use {}", volumes.len()),
                Action::Stage { volume, .. } => format!("stage {}", volume.pv),
                Action::Publish { volume, pod } => format!("publish {} {}", volume.pv, pod.name),
                Action::Expand { volume, .. } => format!("expand {}", volume.pv),
                Action::Unpublish { id, .. } => format!("unpublish {} {}", id.name, id.pod),
                Action::Unstage { device, .. } => format!("unstage {}", device.pv),
                Action::Mount { volume, .. } => format!("mount {}", volume.name),
                Action::Unmount { id, .. } => format!("unmount {}", id.name),
                Action::ReportPod { pod, report, .. } => format!("report {} {}", pod.name, report.reason),
                Action::DeletePod { pod } => format!("delete {}", pod.name),
            };
            format!("{what} ({})", p.reason.code())
        })
        .collect()
}

fn check(n: u32, view: &View, expected: &[&str]) {
    assert_eq!(plan(view, Instant::now()), expected, "case {n}");
}

#[test]
fn the_way_up() {
    let one = || user("a", csi(1));
    let pending = || user("a", CsiVolume { attach: Attach::Pending, ..csi(1) });
    let mut view = node(vec![one()]);
    view.in_use = Some(BTreeSet::new());
    check(1, &view, &["in-use 1 (InUseStale)"]);
    view.in_use = None;
    check(2, &view, &["in-use 1 (InUseStale)"]);
    view.has_node = false;
    check(3, &view, &[]);
    check(4, &node(vec![pending()]), &["report a WaitingForAttach (ReportStale)"]);
    let mut away = node(vec![one()]);
    away.drivers.clear();
    check(5, &away, &["report a DriverNotRegistered (ReportStale)"]);
    check(6, &node(vec![one()]), &["stage pv1 (PodNeeds)"]);
    check(7, &staged(node(vec![one()]), State::Uncertain), &["stage pv1 (MayBeIncomplete)"]);
    check(8, &staged(node(vec![one()]), State::Done), &["publish pv1 a (PodNeeds)"]);
    let half = published(staged(node(vec![one()]), State::Done), "a", State::Uncertain);
    check(9, &half, &["publish pv1 a (MayBeIncomplete)"]);
    let all = published(staged(node(vec![one()]), State::Done), "a", State::Done);
    check(10, &all, &["report a VolumesPublished (ReportStale)"]);
    let mut reported = all.clone();
    reported.pods[0].reported = Some(Report {
        published: true,
        reason: "VolumesPublished".into(),
        message: "its volume is mounted".into(),
    });
    check(11, &reported, &[]);
    // The attachment's record goes, the mount is there: nothing of an active pod is taken away.
    let mut detached = reported.clone();
    detached.pods[0].volumes[0].wanted =
        Ok(Wanted::Csi(Box::new(CsiVolume { attach: Attach::Pending, ..csi(1) })));
    check(12, &detached, &[]);
    // The same after a reboot: nothing is mounted, and nothing may be until it is attached.
    let rebooted = published(staged(node(vec![pending()]), State::Uncertain), "a", State::Uncertain);
    check(13, &rebooted, &["report a WaitingForAttach (ReportStale)"]);
    let rebooted = published(staged(node(vec![one()]), State::Uncertain), "a", State::Uncertain);
    check(14, &rebooted, &["stage pv1 (MayBeIncomplete)"]);
    check(
        15,
        &node(vec![pod("a", vec![])]),
        &["report a VolumesPublished (ReportStale)", "in-use 0 (InUseStale)"],
    );
}

#[test]
fn two_pods_on_one_claim() {
    let both = || node(vec![user("a", csi(1)), user("b", csi(1))]);
    check(1, &both(), &["stage pv1 (PodNeeds)"]);
    check(2, &staged(both(), State::Done), &["publish pv1 a (PodNeeds)"]);
    let first = published(staged(both(), State::Done), "a", State::Done);
    check(3, &first, &["report a VolumesPublished (ReportStale)", "publish pv1 b (PodNeeds)"]);
    let mut one_leaves = published(first, "b", State::Done);
    one_leaves.pods[0].life = Life::Leaving;
    check(4, &one_leaves, &["unpublish pv1 uid-a (PodLeaving)", "report b VolumesPublished (ReportStale)"]);
    // The first is gone from here; the volume stays for the other, and the first may go.
    let mut view = published(staged(both(), State::Done), "b", State::Done);
    view.pods[0].life = Life::Leaving;
    check(5, &view, &["delete a (Released)", "report b VolumesPublished (ReportStale)"]);
}

#[test]
fn one_pod_only() {
    let only = || CsiVolume { one_pod: true, ..csi(1) };
    let mut view = node(vec![user("a", only()), user("b", only())]);
    view.pods[0].created = 20;
    view.pods[1].created = 10;
    check(1, &view, &["report a HeldByOtherPod (ReportStale)", "stage pv1 (PodNeeds)"]);
    // Who has it keeps it, also when the other is older.
    let view = published(staged(view, State::Done), "a", State::Uncertain);
    check(2, &view, &["publish pv1 a (MayBeIncomplete)", "report b HeldByOtherPod (ReportStale)"]);
    // A pod that is gone but not released yet still has it.
    let view = published(staged(node(vec![user("b", only())]), State::Done), "a", State::Uncertain);
    check(3, &view, &["unpublish pv1 uid-a (PodGone)", "report b HeldByOtherPod (ReportStale)"]);
}

#[test]
fn the_way_down() {
    let leaving = || with(Life::Leaving, user("a", csi(1)));
    let full = |pods| published(staged(node(pods), State::Done), "a", State::Done);
    check(1, &full(vec![leaving()]), &["unpublish pv1 uid-a (PodLeaving)"]);
    check(2, &staged(node(vec![leaving()]), State::Done), &["unstage pv1 (LastUserGone)"]);
    check(3, &staged(node(vec![leaving()]), State::Uncertain), &["unstage pv1 (LastUserGone)"]);
    check(4, &node(vec![leaving()]), &["in-use 0 (InUseStale)"]);
    let mut released = node(vec![leaving()]);
    released.in_use = Some(BTreeSet::new());
    check(5, &released, &["delete a (Released)"]);
    released.in_use = None;
    check(6, &released, &["in-use 0 (InUseStale)"]);
    released.pods[0].life = Life::Left;
    released.in_use = Some(BTreeSet::new());
    check(7, &released, &[]);
    check(8, &full(vec![with(Life::Ended, user("a", csi(1)))]), &["unpublish pv1 uid-a (PodEnded)"]);
    check(9, &full(vec![]), &["unpublish pv1 uid-a (PodGone)"]);
    let mut no_driver = full(vec![leaving()]);
    no_driver.drivers.clear();
    check(10, &no_driver, &["report a Releasing (ReportStale)"]);
    // A later pod of the same name is another pod.
    let mut again = user("a", csi(1));
    again.key.uid = "uid-later".into();
    check(11, &full(vec![again]), &["unpublish pv1 uid-a (PodGone)"]);
}

#[test]
fn what_cannot_be_resolved_stays() {
    let lost = || pod("a", vec![Err(Reason::ClaimNotFound { claim: "data".into() })]);
    let view = published(staged(node(vec![lost()]), State::Done), "a", State::Done);
    check(1, &view, &["report a ClaimNotFound (ReportStale)"]);
    let mut view = node(vec![lost()]);
    view.in_use = Some(BTreeSet::new());
    check(2, &view, &["report a ClaimNotFound (ReportStale)"]);
    // A claim that is being deleted serves who has it and nobody else.
    let mut user = user("a", csi(1));
    user.volumes[0].leaving_claim = Some("data".into());
    check(3, &node(vec![user.clone()]), &["report a ClaimBeingDeleted (ReportStale)"]);
    let view = published(staged(node(vec![user]), State::Done), "a", State::Done);
    check(4, &view, &["report a VolumesPublished (ReportStale)"]);
}

#[test]
fn one_operation_per_volume_and_backoff() {
    let now = Instant::now();
    let mut view = node(vec![user("a", csi(1)), user("b", csi(2))]);
    view.in_use = Some([id(1).unique_name(), id(2).unique_name()].into());
    assert_eq!(plan(&view, now), ["stage pv1 (PodNeeds)", "stage pv2 (PodNeeds)"]);
    view.busy.insert(Lane::Volume(id(1)), now);
    assert_eq!(plan(&view, now), ["stage pv2 (PodNeeds)"], "a hung volume blocks nobody else");
    assert_eq!(
        plan(&view, now + SLOW),
        ["report a Mounting (ReportStale)", "stage pv2 (PodNeeds)"],
        "what takes long is told"
    );
    view.busy.clear();

    let action = Action::Stage { volume: Box::new(csi(1)), pod: key("a") };
    let failure =
        Failure { action: action.attempt(), retry_at: now + Duration::from_secs(1), error: "no".into() };
    view.failures.insert(action.key(), failure);
    assert_eq!(plan(&view, now), ["report a FailedMount (ReportStale)", "stage pv2 (PodNeeds)"]);
    let later = now + Duration::from_secs(2);
    assert_eq!(
        plan(&view, later),
        ["stage pv1 (PodNeeds)", "report a FailedMount (ReportStale)", "stage pv2 (PodNeeds)"]
    );
    // Another pod on the same volume is no reason to try again at once.
    let mut other = view.clone();
    other.pods[0] = user("c", CsiVolume { read_only: true, ..csi(1) });
    assert_eq!(
        plan(&other, now),
        ["stage pv2 (PodNeeds)", "report c FailedMount (ReportStale)"][..]
            .iter()
            .rev()
            .copied()
            .collect::<Vec<_>>()
    );
    // A changed volume is.
    view.pods[0] = user("a", CsiVolume { attributes: [("k".into(), "v".into())].into(), ..csi(1) });
    assert_eq!(plan(&view, now)[0], "stage pv1 (PodNeeds)");
}

#[test]
fn growth_of_a_volume() {
    let grown = || CsiVolume { growth: Some(growth()), ..csi(1) };
    let raw = |mut volume: CsiVolume| {
        volume.shape.block = true;
        volume
    };
    check(1, &staged(node(vec![user("a", grown())]), State::Done), &["expand pv1 (VolumeGrown)"]);
    let online = published(staged(node(vec![user("a", grown())]), State::Done), "a", State::Done);
    check(2, &online, &["expand pv1 (VolumeGrown)", "report a VolumesPublished (ReportStale)"]);
    check(3, &node(vec![user("a", grown())]), &["stage pv1 (PodNeeds)"]);
    let mut block = staged(node(vec![user("a", raw(grown()))]), State::Done);
    block.actual.devices.get_mut(&id(1)).unwrap().block = true;
    check(4, &block, &["publish pv1 a (PodNeeds)"]);
    // A growth that fails does not keep the pod waiting.
    let now = Instant::now();
    let mut failed = staged(node(vec![user("a", grown())]), State::Done);
    let action = Action::Expand { volume: Box::new(grown()), growth: growth(), pod: key("a") };
    let failure =
        Failure { action: action.attempt(), retry_at: now + Duration::from_secs(9), error: "no".into() };
    failed.failures.insert(action.key(), failure);
    assert_eq!(plan(&failed, now), ["publish pv1 a (PodNeeds)"]);
}

#[test]
fn a_former_use_in_another_mode_goes_first() {
    let mut block = csi(1);
    block.shape.block = true;
    let view = staged(node(vec![user("a", block)]), State::Done);
    check(1, &view, &["report a ReleasingFormerUse (ReportStale)", "unstage pv1 (LastUserGone)"]);
}

#[test]
fn volumes_without_a_driver() {
    let user = || pod("a", vec![Ok(Wanted::Local(local()))]);
    let mut view =
        View { has_node: true, in_use: Some(BTreeSet::new()), pods: vec![user()], ..View::default() };
    check(1, &view, &["mount host (PodNeeds)"]);
    let at = PublicationId { pod: "uid-a".into(), plugin: Plugin::HostPath, name: "host".into() };
    let there = |state| Publication { volume: None, block: false, state, owner: key("a") };
    view.actual.published.insert(at.clone(), there(State::Uncertain));
    check(2, &view, &["mount host (MayBeIncomplete)"]);
    view.actual.published.insert(at, there(State::Done));
    check(3, &view, &["report a VolumesPublished (ReportStale)"]);
    view.pods[0].life = Life::Leaving;
    check(4, &view, &["unmount host (PodLeaving)"]);
    view.actual.published.clear();
    check(5, &view, &["delete a (Released)"]);
}

mod properties {
    use proptest::prelude::*;

    use super::*;

    fn state() -> impl Strategy<Value = Option<State>> {
        prop_oneof![Just(None), Just(Some(State::Uncertain)), Just(Some(State::Done))]
    }

    fn life() -> impl Strategy<Value = Option<Life>> {
        prop_oneof![
            Just(None),
            Just(Some(Life::Active)),
            Just(Some(Life::Ended)),
            Just(Some(Life::Leaving)),
            Just(Some(Life::Left))
        ]
    }

    proptest! {
        /// The invariants at the top of `decide.rs`, for every combination of two pods on one volume.
        #[test]
        fn invariants(
            device in state(), a in state(), b in state(), life_a in life(), life_b in life(),
            listed: bool, known: bool, driver: bool, attached: bool, one_pod: bool,
        ) {
            let attach = if attached { Attach::Attached } else { Attach::Pending };
            let volume = CsiVolume { attach, one_pod, ..csi(1) };
            let pods = [("a", life_a), ("b", life_b)];
            let pods: Vec<PodView> = pods
                .into_iter()
                .filter_map(|(name, life)| Some(with(life?, user(name, volume.clone()))))
                .collect();
            let mut view = node(pods);
            if !listed { view.in_use = Some(BTreeSet::new()); }
            if !known { view.in_use = None; }
            if !driver { view.drivers.clear(); }
            if let Some(state) = device { view = staged(view, state); }
            if let Some(state) = a { view = published(view, "a", state); }
            if let Some(state) = b { view = published(view, "b", state); }

            let planned = decide(&view, Instant::now());
            let lanes: BTreeSet<Lane> = planned.iter().map(|p| p.action.lane()).collect();
            prop_assert_eq!(lanes.len(), planned.len(), "one operation per lane");
            let active = |uid: &str| view.pods.iter().any(|p| p.key.uid == uid && p.life == Life::Active);
            for p in &planned {
                match &p.action {
                    Action::Stage { .. } | Action::Publish { .. } => {
                        prop_assert!(listed && known && attached && driver);
                    }
                    Action::Unpublish { id, .. } => prop_assert!(!active(&id.pod)),
                    Action::Unstage { .. } => {
                        prop_assert!(a.is_none() && b.is_none());
                        prop_assert!(!active("uid-a") && !active("uid-b"));
                    }
                    Action::SetInUse { volumes } if device.is_some() || a.is_some() || b.is_some() => {
                        prop_assert_eq!(volumes.len(), 1, "what may exist is listed");
                    }
                    Action::DeletePod { pod } => {
                        let own = if pod.name == "a" { a } else { b };
                        prop_assert!(own.is_none());
                    }
                    _ => {}
                }
            }
        }
    }
}

/// What may still be staged is never taken off the list: it would be detached under its mount.
#[test]
fn unreadable_stagings_stay_listed() {
    let now = Instant::now();
    assert_eq!(decide(&node(vec![]), now).len(), 1, "without one the list is emptied");
    let mut folder = node(vec![]);
    let hash = crate::layout::handle_hash(&id(1).handle);
    folder.actual.unread.folders.insert((DRIVER.to_owned(), hash.clone()));
    assert!(decide(&folder, now).is_empty());
    let mut others = node(vec![]);
    others.actual.unread.folders.insert(("other.example".to_owned(), hash));
    assert_eq!(decide(&others, now).len(), 1);
    let mut block = node(vec![]);
    block.actual.unread.block = true;
    assert!(decide(&block, now).is_empty());
}
