//! Every call of CSI v1.12, and the codes that the specification gives it for a request that
//! can be decoded. INTERNAL and UNKNOWN are nowhere among them: those are bugs.

use Code::{
    Aborted, AlreadyExists, FailedPrecondition, InvalidArgument, NotFound, OutOfRange, ResourceExhausted,
    Unimplemented,
};
use holdfast_proto::csi;
use prost::Message;
use tonic::Code;

use super::seeds::{self, World};

pub(super) struct Rpc {
    pub(super) service: &'static str,
    pub(super) method: &'static str,
    pub(super) streams: bool,
    pub(super) codes: &'static [Code],
    pub(super) seed: fn(&mut World) -> Vec<u8>,
    pub(super) decodes: fn(&[u8]) -> bool,
}

fn decodes<M: Message + Default>(_: fn(&mut World) -> M, bytes: &[u8]) -> bool {
    M::decode(bytes).is_ok()
}

macro_rules! rpcs {
    ($($service:literal { $($method:literal $seed:expr, [$($code:expr),*];)* })*) => {
        &[$($(Rpc {
            service: $service,
            method: concat!($service, "/", $method),
            streams: matches!($service.as_bytes(), b"SnapshotMetadata"),
            codes: &[$($code),*],
            seed: |world| $seed(world).encode_to_vec(),
            decodes: |bytes| decodes($seed, bytes),
        }),*),*]
    };
}

pub(super) const RPCS: &[Rpc] = rpcs! {
    "Identity" {
        "GetPluginInfo" seeds::empty::<csi::GetPluginInfoRequest>, [];
        "GetPluginCapabilities" seeds::empty::<csi::GetPluginCapabilitiesRequest>, [];
        "Probe" seeds::empty::<csi::ProbeRequest>, [];
    }
    "Controller" {
        "CreateVolume" seeds::create_volume,
            [InvalidArgument, NotFound, AlreadyExists, ResourceExhausted, OutOfRange];
        "DeleteVolume" seeds::delete_volume, [InvalidArgument, FailedPrecondition];
        "ControllerPublishVolume" seeds::controller_publish,
            [InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, ResourceExhausted];
        "ControllerUnpublishVolume" seeds::controller_unpublish, [InvalidArgument, NotFound, FailedPrecondition];
        "ValidateVolumeCapabilities" seeds::validate, [InvalidArgument, NotFound];
        "ListVolumes" seeds::list_volumes, [InvalidArgument, Aborted];
        "GetCapacity" seeds::get_capacity, [InvalidArgument];
        "ControllerGetCapabilities" seeds::empty::<csi::ControllerGetCapabilitiesRequest>, [];
        "CreateSnapshot" seeds::create_snapshot,
            [InvalidArgument, NotFound, AlreadyExists, ResourceExhausted, FailedPrecondition, Unimplemented];
        "DeleteSnapshot" seeds::delete_snapshot, [InvalidArgument, FailedPrecondition, Unimplemented];
        "ListSnapshots" seeds::list_snapshots, [InvalidArgument, Aborted, Unimplemented];
        "GetSnapshot" seeds::get_snapshot, [InvalidArgument, NotFound, Unimplemented];
        "ControllerExpandVolume" seeds::controller_expand,
            [InvalidArgument, NotFound, FailedPrecondition, OutOfRange, ResourceExhausted];
        "ControllerGetVolume" seeds::controller_get, [InvalidArgument, NotFound];
        "ControllerModifyVolume" seeds::modify, [InvalidArgument, NotFound, FailedPrecondition, Unimplemented];
    }
    "GroupController" {
        "GroupControllerGetCapabilities" seeds::empty::<csi::GroupControllerGetCapabilitiesRequest>, [Unimplemented];
        "CreateVolumeGroupSnapshot" seeds::create_group,
            [InvalidArgument, NotFound, AlreadyExists, ResourceExhausted, FailedPrecondition, Unimplemented];
        "DeleteVolumeGroupSnapshot" seeds::delete_group, [InvalidArgument, FailedPrecondition, Unimplemented];
        "GetVolumeGroupSnapshot" seeds::get_group, [InvalidArgument, NotFound, Unimplemented];
    }
    "SnapshotMetadata" {
        "GetMetadataAllocated" seeds::allocated,
            [InvalidArgument, NotFound, OutOfRange, FailedPrecondition, Unimplemented];
        "GetMetadataDelta" seeds::delta,
            [InvalidArgument, NotFound, OutOfRange, FailedPrecondition, Unimplemented];
    }
    "Node" {
        "NodeStageVolume" seeds::stage,
            [InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, OutOfRange, ResourceExhausted];
        "NodeUnstageVolume" seeds::unstage, [InvalidArgument, NotFound, FailedPrecondition];
        "NodePublishVolume" seeds::publish,
            [InvalidArgument, NotFound, AlreadyExists, FailedPrecondition, OutOfRange, ResourceExhausted];
        "NodeUnpublishVolume" seeds::unpublish, [InvalidArgument, NotFound, FailedPrecondition];
        "NodeGetVolumeStats" seeds::stats, [InvalidArgument, NotFound];
        "NodeExpandVolume" seeds::node_expand, [InvalidArgument, NotFound, FailedPrecondition, OutOfRange];
        "NodeGetCapabilities" seeds::empty::<csi::NodeGetCapabilitiesRequest>, [];
        "NodeGetInfo" seeds::empty::<csi::NodeGetInfoRequest>, [];
    }
};
