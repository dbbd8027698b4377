//! One of the 64 clients: what it asks for, and what it holds to be a right answer.

use std::{
    collections::{BTreeMap, BTreeSet},
    fs,
    path::{Path, PathBuf},
};

use holdfast_proto::csi::{
    self, CapacityRange, controller_client::ControllerClient, node_client::NodeClient,
};
use rand::{RngExt as _, rngs::StdRng};
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{MIB, NODE, parameters},
    load::{CLIENTS, SHARED},
    load_model::{Call, Known, Name, expected},
};

/// Calls of each client, after it made its volumes.
pub(crate) const CALLS: usize = 60;
const TARGETS: u8 = 2;

pub(crate) struct Client {
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
    pub(crate) home: PathBuf,
    pub(crate) rng: StdRng,
    pub(crate) own: BTreeMap<Name, Option<Known>>,
}

pub(crate) fn path(home: &Path, kind: &str, name: &Name) -> String {
    home.join(format!("{kind}-{}", name.id())).to_str().unwrap().to_owned()
}

impl Client {
    async fn call(&mut self, call: Call, name: &Name) -> Result<(), Status> {
        let volume_id = name.id();
        let staging_target_path = path(&self.home, "staging", name);
        let target = |number: u8| path(&self.home, &format!("target{number}"), name);
        let volume_capability = Some(name.capability());
        match call {
            Call::Create => {
                let enforce = if name.pool == "images" { "true" } else { "false" };
                let request = csi::CreateVolumeRequest {
                    name: name.name.clone(),
                    capacity_range: Some(CapacityRange { required_bytes: MIB, limit_bytes: MIB }),
                    volume_capabilities: vec![name.capability()],
                    parameters: parameters(&[("pool", name.pool), ("enforceSize", enforce)]),
                    ..Default::default()
                };
                self.controller.create_volume(request).await.map(drop)
            }
            Call::Delete => {
                let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
                self.controller.delete_volume(request).await.map(drop)
            }
            Call::Attach => {
                let request = csi::ControllerPublishVolumeRequest {
                    volume_id,
                    node_id: NODE.to_owned(),
                    volume_capability,
                    ..Default::default()
                };
                self.controller.controller_publish_volume(request).await.map(drop)
            }
            Call::Detach => {
                let request = csi::ControllerUnpublishVolumeRequest {
                    volume_id,
                    node_id: NODE.to_owned(),
                    ..Default::default()
                };
                self.controller.controller_unpublish_volume(request).await.map(drop)
            }
            Call::Stage => {
                fs::create_dir_all(&staging_target_path).unwrap();
                let request = csi::NodeStageVolumeRequest {
                    volume_id,
                    staging_target_path,
                    volume_capability,
                    ..Default::default()
                };
                self.node.node_stage_volume(request).await.map(drop)
            }
            Call::Unstage => {
                let request = csi::NodeUnstageVolumeRequest { volume_id, staging_target_path };
                self.node.node_unstage_volume(request).await.map(drop)
            }
            Call::Publish(number) => {
                let request = csi::NodePublishVolumeRequest {
                    volume_id,
                    staging_target_path,
                    target_path: target(number),
                    volume_capability,
                    ..Default::default()
                };
                self.node.node_publish_volume(request).await.map(drop)
            }
            Call::Unpublish(number) => {
                let request = csi::NodeUnpublishVolumeRequest { volume_id, target_path: target(number) };
                self.node.node_unpublish_volume(request).await.map(drop)
            }
            Call::Expand => {
                // More than it can have: no repetition comes near it.
                let required_bytes =
                    self.own.get(name).and_then(Option::as_ref).map_or(MIB, |known| known.size + MIB);
                let request = csi::ControllerExpandVolumeRequest {
                    volume_id,
                    capacity_range: Some(CapacityRange { required_bytes, limit_bytes: 0 }),
                    ..Default::default()
                };
                self.controller.controller_expand_volume(request).await.map(drop)
            }
        }
    }

    /// A call on a volume that nobody else uses: it has one right answer.
    pub(crate) async fn on_own(&mut self, call: Call, name: &Name) {
        let now = self.own[name].clone();
        let (code, next) = expected(call, now.as_ref());
        let answer = self.call(call, name).await;
        let got = answer.as_ref().err().map_or(Code::Ok, Status::code);
        assert_eq!(got, code, "{call:?} of {}, {now:?}: {answer:?}", name.id());
        self.own.insert(name.clone(), next);
    }

    /// Whatever the others do to it, this is answered, or refused for a reason of the specification.
    async fn on_shared(&mut self, call: Call, name: &Name) -> Code {
        let Err(status) = self.call(call, name).await else { return Code::Ok };
        assert!(
            matches!(
                status.code(),
                Code::Aborted | Code::NotFound | Code::FailedPrecondition | Code::AlreadyExists
            ),
            "{call:?} of {}: {status}",
            name.id()
        );
        status.code()
    }

    /// While the others make and delete volumes, a list has all that stay and none twice.
    async fn look_at_list(&mut self) {
        let listed = list(&mut self.controller, self.rng.random_range(50..400)).await;
        let own: BTreeSet<String> =
            self.own.iter().filter(|(_, known)| known.is_some()).map(|(name, _)| name.id()).collect();
        let all: BTreeSet<String> = self.own.keys().map(Name::id).collect();
        let seen: BTreeSet<String> = listed.into_keys().filter(|id| all.contains(id)).collect();
        assert_eq!(seen, own);
    }

    fn any_call(&mut self) -> Call {
        let target = self.rng.random_range(0..TARGETS);
        match self.rng.random_range(0..16) {
            0 => Call::Create,
            1 => Call::Delete,
            2..5 => Call::Attach,
            5 => Call::Detach,
            6..9 => Call::Stage,
            9 => Call::Unstage,
            10..13 => Call::Publish(target),
            13 => Call::Unpublish(target),
            _ => Call::Expand,
        }
    }

    pub(crate) async fn work(&mut self) -> BTreeMap<String, u64> {
        let mut codes = BTreeMap::new();
        let mut names: Vec<Name> = self.own.keys().cloned().collect();
        names.sort_by_key(Name::number);
        for _ in 0..CALLS {
            match self.rng.random_range(0..60) {
                0 => self.look_at_list().await,
                1..20 => {
                    let call = self.any_call();
                    let name = Name::shared(self.rng.random_range(0..SHARED));
                    let code = self.on_shared(call, &name).await;
                    *codes.entry(format!("{code:?}")).or_default() += 1;
                }
                _ => {
                    // Few of its own, so that they come far.
                    let name = names[self.rng.random_range(0..names.len().min(3))].clone();
                    let call = self.any_call();
                    let detaches_staged = matches!(call, Call::Detach)
                        && self.own[&name].as_ref().is_some_and(|known| known.staged);
                    // Loop devices are the machine's: one at most for each client.
                    let may_stage = name.pool == "folders" || name.number() < CLIENTS;
                    if !detaches_staged && (may_stage || !matches!(call, Call::Stage)) {
                        self.on_own(call, &name).await;
                    }
                }
            }
        }
        codes
    }

    pub(crate) async fn take_down(&mut self, name: &Name) {
        for target in 0..TARGETS {
            drop(self.call(Call::Unpublish(target), name).await);
        }
        for call in [Call::Unstage, Call::Detach, Call::Delete] {
            match self.call(call, name).await {
                Err(status) if !(matches!(call, Call::Unstage) && status.code() == Code::NotFound) => {
                    panic!("{call:?} of {}: {status}", name.id())
                }
                _ => {}
            }
        }
    }
}

/// The whole list in pages: by id the size, and whether it is attached.
pub(crate) async fn list(
    controller: &mut ControllerClient<Channel>,
    max_entries: i32,
) -> BTreeMap<String, (i64, bool)> {
    let mut all = BTreeMap::new();
    let mut starting_token = String::new();
    loop {
        let request = csi::ListVolumesRequest { max_entries, starting_token };
        let page = controller.list_volumes(request).await.unwrap().into_inner();
        assert!(page.entries.len() <= max_entries as usize);
        for entry in page.entries {
            let volume = entry.volume.unwrap();
            let attached = !entry.status.unwrap().published_node_ids.is_empty();
            let before = all.insert(volume.volume_id.clone(), (volume.capacity_bytes, attached));
            assert_eq!(before, None, "{} is listed twice", volume.volume_id);
        }
        if page.next_token.is_empty() {
            return all;
        }
        starting_token = page.next_token;
    }
}
