//! Requests as orchestrators send them, about what is there: the mutations begin with these.

use std::collections::{BTreeMap, HashMap};

use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability,
    volume_capability::access_mode::Mode,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng, seq::IndexedRandom as _};

use crate::harness::{MIB, NODE, block, mounted_as, parameters};

/// Must appear in no answer.
pub(super) const SECRET: &str = "hunter2-in-every-secret";
pub(super) const STAGINGS: u64 = 8;
pub(super) const POOLS: [&str; 3] = ["default", "folders", "snaps"];

/// What the requests speak of.
pub(super) struct World {
    pub(super) rng: StdRng,
    /// The scratch folder.
    pub(super) home: String,
    pub(super) volumes: Vec<String>,
    pub(super) snapshots: Vec<String>,
    /// Of the snapshots, in bytes: at the ends of things is where code goes wrong.
    pub(super) sizes: BTreeMap<String, i64>,
    /// With their members.
    pub(super) groups: BTreeMap<String, Vec<String>>,
}

impl World {
    pub(super) fn new(seed: u64, home: String) -> Self {
        Self {
            rng: StdRng::seed_from_u64(seed),
            home,
            volumes: Vec::new(),
            snapshots: Vec::new(),
            sizes: BTreeMap::new(),
            groups: BTreeMap::new(),
        }
    }

    fn name(&mut self) -> String {
        ["a", "b", "c", "Ünïcode", "a.b", "d"].choose(&mut self.rng).copied().unwrap_or_default().to_owned()
    }

    fn volume(&mut self) -> String {
        match self.volumes.choose(&mut self.rng) {
            Some(id) if self.rng.random_ratio(9, 10) => id.clone(),
            _ => format!("{}.{}", POOLS[self.rng.random_range(0..3)], self.name()),
        }
    }

    fn snapshot(&mut self) -> String {
        match self.snapshots.choose(&mut self.rng) {
            Some(id) if self.rng.random_ratio(9, 10) => id.clone(),
            _ => "snaps.absent".to_owned(),
        }
    }

    /// As the volume was made, mostly: else hardly any call would get far.
    fn capability(&mut self, volume: &str) -> VolumeCapability {
        let modes = [Mode::SingleNodeMultiWriter, Mode::SingleNodeSingleWriter, Mode::SingleNodeReaderOnly];
        let mode =
            if self.rng.random_ratio(9, 10) { modes[0] } else { *modes.choose(&mut self.rng).unwrap() };
        let kind = if self.rng.random_ratio(9, 10) { usual(volume) } else { self.rng.random_range(0..4) };
        match kind {
            0 if volume.starts_with(POOLS[0]) => block(mode),
            1 => mounted_as("", &["noatime"], mode),
            _ => mounted_as("", &[], mode),
        }
    }

    fn range(&mut self) -> Option<CapacityRange> {
        let (one, other) = (self.rng.random_range(1..48) * MIB, self.rng.random_range(1..48) * MIB);
        let (required_bytes, limit_bytes) = match self.rng.random_range(0..16) {
            0 => (0, one),
            1 => (one, other),
            _ => (one, 0),
        };
        Some(CapacityRange { required_bytes, limit_bytes })
    }

    /// Where to begin in a snapshot.
    fn offset(&mut self, snapshot: &str) -> i64 {
        let size = self.sizes.get(snapshot).copied().unwrap_or(MIB);
        let any = self.rng.random_range(0..8) * MIB;
        *[0, any, any, size / 2, size - 4096, size - 1, size, size + 1].choose(&mut self.rng).unwrap()
    }

    fn staging(&mut self, volume: &str) -> String {
        let number =
            if self.rng.random_ratio(9, 10) { usual(volume) } else { self.rng.random_range(0..STAGINGS) };
        format!("{}/staging-{number}", self.home)
    }

    fn target(&mut self, volume: &str) -> String {
        let number =
            if self.rng.random_ratio(9, 10) { usual(volume) } else { self.rng.random_range(0..STAGINGS) };
        format!("{}/pods/{number}-{}", self.home, self.rng.random_range(0..2))
    }

    fn secrets(&mut self) -> HashMap<String, String> {
        parameters(&[("password", SECRET)])
    }

    /// Other strings to try in place of any.
    pub(super) fn words(&self) -> Vec<String> {
        let mut words: Vec<String> = [
            "",
            "..",
            ".",
            "a",
            "default",
            "folders",
            "snaps",
            "nowhere",
            "default.a",
            "folders.a",
            "snaps.a",
            ".new-a",
            "default..",
            "ext4",
            "xfs",
            "btrfs",
            "ntfs",
            "ro",
            "noatime",
            "errors=panic",
            "loop",
            "bind",
            "pool",
            "enforceSize",
            "true",
            "false",
            NODE,
            "node-2",
            "relative/path",
            "zz",
            "64656661756c742e61",
            "topology.csi.holdfast.dev/node",
            "csi.storage.k8s.io/pvc/name",
            "csi.storage.k8s.io/ephemeral",
            "size",
        ]
        .map(str::to_owned)
        .into();
        // `outside` must stay as it is: the link and `..` lead there.
        for end in [
            "pods/../outside/x",
            "link/x",
            "link",
            "disk-btrfs/default/volumes",
            "disk-btrfs",
            "pods",
            "csi.sock",
            "pods/7",
            "staging-0",
        ] {
            words.push(format!("{}/{end}", self.home));
        }
        words.extend(self.volumes.iter().chain(&self.snapshots).chain(self.groups.keys()).cloned());
        words
    }
}

/// What goes with a volume every time it is spoken of.
fn usual(volume: &str) -> u64 {
    volume.bytes().map(u64::from).sum::<u64>() % STAGINGS
}

pub(super) fn empty<M: Default>(_: &mut World) -> M {
    M::default()
}

pub(super) fn create_volume(w: &mut World) -> csi::CreateVolumeRequest {
    let pool = POOLS[w.rng.random_range(0..3)];
    let name = w.name();
    let capability = w.capability(&format!("{pool}.{name}"));
    let enforce = if pool == "default" { "true" } else { "false" };
    let source = match w.rng.random_range(0..6) {
        0 => Some(Type::Snapshot(SnapshotSource { snapshot_id: w.snapshot() })),
        1 => Some(Type::Volume(VolumeSource { volume_id: w.volume() })),
        _ => None,
    };
    csi::CreateVolumeRequest {
        name,
        capacity_range: w.range(),
        volume_capabilities: vec![capability],
        parameters: parameters(&[("pool", pool), ("enforceSize", enforce)]),
        secrets: w.secrets(),
        volume_content_source: source.map(|source| csi::VolumeContentSource { r#type: Some(source) }),
        ..Default::default()
    }
}

pub(super) fn delete_volume(w: &mut World) -> csi::DeleteVolumeRequest {
    csi::DeleteVolumeRequest { volume_id: w.volume(), secrets: w.secrets() }
}

pub(super) fn controller_publish(w: &mut World) -> csi::ControllerPublishVolumeRequest {
    let volume_id = w.volume();
    csi::ControllerPublishVolumeRequest {
        node_id: NODE.to_owned(),
        volume_capability: Some(w.capability(&volume_id)),
        readonly: w.rng.random_ratio(1, 16),
        secrets: w.secrets(),
        volume_id,
        ..Default::default()
    }
}

pub(super) fn controller_unpublish(w: &mut World) -> csi::ControllerUnpublishVolumeRequest {
    csi::ControllerUnpublishVolumeRequest {
        volume_id: w.volume(),
        node_id: NODE.to_owned(),
        secrets: w.secrets(),
    }
}

pub(super) fn validate(w: &mut World) -> csi::ValidateVolumeCapabilitiesRequest {
    let volume_id = w.volume();
    csi::ValidateVolumeCapabilitiesRequest {
        volume_capabilities: vec![w.capability(&volume_id), w.capability(&volume_id)],
        secrets: w.secrets(),
        volume_id,
        ..Default::default()
    }
}

pub(super) fn list_volumes(w: &mut World) -> csi::ListVolumesRequest {
    let token = w.volume().bytes().map(|byte| format!("{byte:02x}")).collect();
    csi::ListVolumesRequest { max_entries: w.rng.random_range(0..4), starting_token: token }
}

pub(super) fn get_capacity(w: &mut World) -> csi::GetCapacityRequest {
    let pool = POOLS[w.rng.random_range(0..3)];
    csi::GetCapacityRequest {
        volume_capabilities: vec![w.capability(pool)],
        parameters: parameters(&[("pool", pool)]),
        accessible_topology: Some(csi::Topology {
            segments: parameters(&[("topology.csi.holdfast.dev/node", NODE)]),
        }),
    }
}

pub(super) fn controller_expand(w: &mut World) -> csi::ControllerExpandVolumeRequest {
    let volume_id = w.volume();
    csi::ControllerExpandVolumeRequest {
        capacity_range: w.range(),
        secrets: w.secrets(),
        volume_capability: Some(w.capability(&volume_id)),
        volume_id,
    }
}

pub(super) fn controller_get(w: &mut World) -> csi::ControllerGetVolumeRequest {
    csi::ControllerGetVolumeRequest { volume_id: w.volume() }
}

pub(super) fn modify(w: &mut World) -> csi::ControllerModifyVolumeRequest {
    csi::ControllerModifyVolumeRequest {
        volume_id: w.volume(),
        secrets: w.secrets(),
        mutable_parameters: parameters(&[("compression", "zstd")]),
    }
}

pub(super) fn create_snapshot(w: &mut World) -> csi::CreateSnapshotRequest {
    csi::CreateSnapshotRequest {
        source_volume_id: w.volume(),
        name: w.name(),
        secrets: w.secrets(),
        ..Default::default()
    }
}

pub(super) fn delete_snapshot(w: &mut World) -> csi::DeleteSnapshotRequest {
    csi::DeleteSnapshotRequest { snapshot_id: w.snapshot(), secrets: w.secrets() }
}

pub(super) fn list_snapshots(w: &mut World) -> csi::ListSnapshotsRequest {
    csi::ListSnapshotsRequest {
        max_entries: w.rng.random_range(0..3),
        source_volume_id: if w.rng.random() { w.volume() } else { String::new() },
        snapshot_id: if w.rng.random() { w.snapshot() } else { String::new() },
        secrets: w.secrets(),
        ..Default::default()
    }
}

pub(super) fn get_snapshot(w: &mut World) -> csi::GetSnapshotRequest {
    csi::GetSnapshotRequest { snapshot_id: w.snapshot(), secrets: w.secrets() }
}

pub(super) fn create_group(w: &mut World) -> csi::CreateVolumeGroupSnapshotRequest {
    let first = w.volume();
    let pool = first.split('.').next().unwrap_or_default().to_owned();
    let mut source_volume_ids: Vec<String> =
        w.volumes.iter().filter(|id| id.starts_with(&pool) && w.rng.random()).cloned().collect();
    source_volume_ids.push(first);
    source_volume_ids.sort();
    source_volume_ids.dedup();
    csi::CreateVolumeGroupSnapshotRequest {
        name: w.name(),
        source_volume_ids,
        secrets: w.secrets(),
        ..Default::default()
    }
}

pub(super) fn delete_group(w: &mut World) -> csi::DeleteVolumeGroupSnapshotRequest {
    let (group_snapshot_id, snapshot_ids) = group(w);
    csi::DeleteVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets: w.secrets() }
}

pub(super) fn get_group(w: &mut World) -> csi::GetVolumeGroupSnapshotRequest {
    let (group_snapshot_id, snapshot_ids) = group(w);
    csi::GetVolumeGroupSnapshotRequest { group_snapshot_id, snapshot_ids, secrets: w.secrets() }
}

fn group(w: &mut World) -> (String, Vec<String>) {
    let at = w.rng.random_range(0..w.groups.len() + 1);
    let there = w.groups.iter().nth(at).map(|(group, members)| (group.clone(), members.clone()));
    there.unwrap_or_else(|| (format!("default.{}", w.name()), vec![w.snapshot(), w.snapshot()]))
}

pub(super) fn allocated(w: &mut World) -> csi::GetMetadataAllocatedRequest {
    let snapshot_id = w.snapshot();
    csi::GetMetadataAllocatedRequest {
        starting_offset: w.offset(&snapshot_id),
        max_results: w.rng.random_range(0..4),
        secrets: w.secrets(),
        snapshot_id,
    }
}

pub(super) fn delta(w: &mut World) -> csi::GetMetadataDeltaRequest {
    let target_snapshot_id = w.snapshot();
    csi::GetMetadataDeltaRequest {
        base_snapshot_id: w.snapshot(),
        starting_offset: w.offset(&target_snapshot_id),
        max_results: w.rng.random_range(0..4),
        secrets: w.secrets(),
        target_snapshot_id,
    }
}

pub(super) fn stage(w: &mut World) -> csi::NodeStageVolumeRequest {
    let volume_id = w.volume();
    csi::NodeStageVolumeRequest {
        staging_target_path: w.staging(&volume_id),
        volume_capability: Some(w.capability(&volume_id)),
        secrets: w.secrets(),
        volume_id,
        ..Default::default()
    }
}

pub(super) fn unstage(w: &mut World) -> csi::NodeUnstageVolumeRequest {
    let volume_id = w.volume();
    csi::NodeUnstageVolumeRequest { staging_target_path: w.staging(&volume_id), volume_id }
}

pub(super) fn publish(w: &mut World) -> csi::NodePublishVolumeRequest {
    let volume_id = w.volume();
    csi::NodePublishVolumeRequest {
        staging_target_path: w.staging(&volume_id),
        target_path: w.target(&volume_id),
        volume_capability: Some(w.capability(&volume_id)),
        readonly: w.rng.random_ratio(1, 4),
        secrets: w.secrets(),
        volume_id,
        ..Default::default()
    }
}

pub(super) fn unpublish(w: &mut World) -> csi::NodeUnpublishVolumeRequest {
    let volume_id = w.volume();
    csi::NodeUnpublishVolumeRequest { target_path: w.target(&volume_id), volume_id }
}

pub(super) fn stats(w: &mut World) -> csi::NodeGetVolumeStatsRequest {
    let volume_id = w.volume();
    csi::NodeGetVolumeStatsRequest {
        volume_path: w.target(&volume_id),
        staging_target_path: w.staging(&volume_id),
        volume_id,
    }
}

pub(super) fn node_expand(w: &mut World) -> csi::NodeExpandVolumeRequest {
    let volume_id = w.volume();
    csi::NodeExpandVolumeRequest {
        volume_path: w.target(&volume_id),
        capacity_range: w.range(),
        volume_capability: Some(w.capability(&volume_id)),
        secrets: w.secrets(),
        volume_id,
        ..Default::default()
    }
}
