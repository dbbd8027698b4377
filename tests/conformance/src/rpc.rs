//! Every RPC of CSI v1.12, and what one sends and gets.

use std::fmt::Debug;

use holdfast_proto::csi;
use http::uri::PathAndQuery;

/// A request, with what belongs to it.
pub(crate) trait Call: prost::Message + Clone + Default + Debug + 'static {
    /// What answers it.
    type Answer: prost::Message + Clone + Default + PartialEq + Debug + 'static;
    /// How it is called.
    const RPC: Rpc;
}

macro_rules! rpcs {
    ($($service:ident { $($name:ident ),* $(,)? })*) => {
        /// The RPCs of CSI v1.12, in the order of the specification.
        #[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Hash)]
        #[allow(missing_docs, reason = "the names are the specification's")]
        pub enum Rpc { $($($name),*),* }

        impl Rpc {
            /// The gRPC service that has it.
            #[must_use]
            pub const fn service(self) -> &'static str {
                match self { $($(Self::$name)|* => stringify!($service)),* }
            }

            /// Its name.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $($(Self::$name => stringify!($name)),*),* }
            }

            pub(crate) fn path(self) -> PathAndQuery {
                match self {
                    $($(Self::$name => PathAndQuery::from_static(concat!("/csi.v1.", stringify!($service), "/", stringify!($name)))),*),*
                }
            }
        }
    };
}

rpcs! {
    Identity { GetPluginInfo, GetPluginCapabilities, Probe }
    Controller {
        CreateVolume, DeleteVolume, ControllerPublishVolume, ControllerUnpublishVolume,
        ValidateVolumeCapabilities, ListVolumes, ControllerGetVolume, ControllerModifyVolume, GetCapacity,
        ControllerGetCapabilities, CreateSnapshot, DeleteSnapshot, ListSnapshots, GetSnapshot,
        ControllerExpandVolume,
    }
    Node {
        NodeStageVolume, NodeUnstageVolume, NodePublishVolume, NodeUnpublishVolume, NodeGetVolumeStats,
        NodeGetCapabilities, NodeGetInfo, NodeExpandVolume,
    }
    GroupController {
        GroupControllerGetCapabilities, CreateVolumeGroupSnapshot, DeleteVolumeGroupSnapshot,
        GetVolumeGroupSnapshot,
    }
    SnapshotMetadata { GetMetadataAllocated, GetMetadataDelta }
}

macro_rules! calls {
    ($($rpc:ident: $request:ident => $answer:ident),* $(,)?) => {$(
        impl Call for csi::$request {
            type Answer = csi::$answer;
            const RPC: Rpc = Rpc::$rpc;
        }
    )*};
}

calls! {
    GetPluginInfo: GetPluginInfoRequest => GetPluginInfoResponse,
    GetPluginCapabilities: GetPluginCapabilitiesRequest => GetPluginCapabilitiesResponse,
    Probe: ProbeRequest => ProbeResponse,
    CreateVolume: CreateVolumeRequest => CreateVolumeResponse,
    DeleteVolume: DeleteVolumeRequest => DeleteVolumeResponse,
    ControllerPublishVolume: ControllerPublishVolumeRequest => ControllerPublishVolumeResponse,
    ControllerUnpublishVolume: ControllerUnpublishVolumeRequest => ControllerUnpublishVolumeResponse,
    ValidateVolumeCapabilities: ValidateVolumeCapabilitiesRequest => ValidateVolumeCapabilitiesResponse,
    ListVolumes: ListVolumesRequest => ListVolumesResponse,
    ControllerGetVolume: ControllerGetVolumeRequest => ControllerGetVolumeResponse,
    ControllerModifyVolume: ControllerModifyVolumeRequest => ControllerModifyVolumeResponse,
    GetCapacity: GetCapacityRequest => GetCapacityResponse,
    ControllerGetCapabilities: ControllerGetCapabilitiesRequest => ControllerGetCapabilitiesResponse,
    CreateSnapshot: CreateSnapshotRequest => CreateSnapshotResponse,
    DeleteSnapshot: DeleteSnapshotRequest => DeleteSnapshotResponse,
    ListSnapshots: ListSnapshotsRequest => ListSnapshotsResponse,
    GetSnapshot: GetSnapshotRequest => GetSnapshotResponse,
    ControllerExpandVolume: ControllerExpandVolumeRequest => ControllerExpandVolumeResponse,
    NodeStageVolume: NodeStageVolumeRequest => NodeStageVolumeResponse,
    NodeUnstageVolume: NodeUnstageVolumeRequest => NodeUnstageVolumeResponse,
    NodePublishVolume: NodePublishVolumeRequest => NodePublishVolumeResponse,
    NodeUnpublishVolume: NodeUnpublishVolumeRequest => NodeUnpublishVolumeResponse,
    NodeGetVolumeStats: NodeGetVolumeStatsRequest => NodeGetVolumeStatsResponse,
    NodeGetCapabilities: NodeGetCapabilitiesRequest => NodeGetCapabilitiesResponse,
    NodeGetInfo: NodeGetInfoRequest => NodeGetInfoResponse,
    NodeExpandVolume: NodeExpandVolumeRequest => NodeExpandVolumeResponse,
    GroupControllerGetCapabilities: GroupControllerGetCapabilitiesRequest => GroupControllerGetCapabilitiesResponse,
    CreateVolumeGroupSnapshot: CreateVolumeGroupSnapshotRequest => CreateVolumeGroupSnapshotResponse,
    DeleteVolumeGroupSnapshot: DeleteVolumeGroupSnapshotRequest => DeleteVolumeGroupSnapshotResponse,
    GetVolumeGroupSnapshot: GetVolumeGroupSnapshotRequest => GetVolumeGroupSnapshotResponse,
    GetMetadataAllocated: GetMetadataAllocatedRequest => GetMetadataAllocatedResponse,
    GetMetadataDelta: GetMetadataDeltaRequest => GetMetadataDeltaResponse,
}
