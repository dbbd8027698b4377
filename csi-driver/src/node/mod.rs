//! The Node service: the calls and what they answer. The work is in the files
//! beside this one.

mod ephemeral;
mod expand;
mod publish;
mod stage;
mod stats;

use std::{collections::HashMap, sync::Arc};

use holdfast_proto::csi::{
    self, NodeServiceCapability, Topology,
    node_server::Node,
    node_service_capability::{self, Rpc, rpc},
};
use tonic::{Request, Response, Status};

use crate::{config::TOPOLOGY_NODE, controller::undeclared, operation::Operations, server::Driver};

const CAPABILITIES: [rpc::Type; 3] =
    [rpc::Type::GetVolumeStats, rpc::Type::VolumeCondition, rpc::Type::SingleNodeMultiWriter];
/// What it can do besides with volumes that CreateVolume made.
const OF_CREATED: [rpc::Type; 2] = [rpc::Type::StageUnstageVolume, rpc::Type::ExpandVolume];

/// Answers the Node calls.
#[derive(Debug)]
pub(crate) struct NodeService {
    driver: Arc<Driver>,
    operations: Operations,
}

impl NodeService {
    pub(crate) fn new(driver: Arc<Driver>, operations: Operations) -> Self {
        Self { driver, operations }
    }

    /// Refuses what only volumes that CreateVolume made can do, where it makes none.
    fn expect_created(&self, capability: rpc::Type) -> Result<(), Status> {
        if self.driver.makes_volumes() { Ok(()) } else { Err(undeclared(capability.as_str_name())) }
    }
}

/// Runs one call: `$work(&driver, &request)` on a thread that may block.
macro_rules! call {
    ($self:ident, $request:ident, $method:literal, $work:path) => {{
        let driver = $self.driver.clone();
        let request = $request.into_inner();
        let volume = request.volume_id.clone();
        $self
            .operations
            .run(concat!("/csi.v1.Node/", $method), &volume, move || $work(&driver, &request))
            .await
    }};
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Node for NodeService {
    async fn node_stage_volume(
        &self,
        request: Request<csi::NodeStageVolumeRequest>,
    ) -> Answer<csi::NodeStageVolumeResponse> {
        self.expect_created(rpc::Type::StageUnstageVolume)?;
        call!(self, request, "NodeStageVolume", stage::stage)
    }

    async fn node_unstage_volume(
        &self,
        request: Request<csi::NodeUnstageVolumeRequest>,
    ) -> Answer<csi::NodeUnstageVolumeResponse> {
        self.expect_created(rpc::Type::StageUnstageVolume)?;
        call!(self, request, "NodeUnstageVolume", stage::unstage)
    }

    async fn node_publish_volume(
        &self,
        request: Request<csi::NodePublishVolumeRequest>,
    ) -> Answer<csi::NodePublishVolumeResponse> {
        call!(self, request, "NodePublishVolume", publish::publish)
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<csi::NodeUnpublishVolumeRequest>,
    ) -> Answer<csi::NodeUnpublishVolumeResponse> {
        call!(self, request, "NodeUnpublishVolume", publish::unpublish)
    }

    async fn node_get_volume_stats(
        &self,
        request: Request<csi::NodeGetVolumeStatsRequest>,
    ) -> Answer<csi::NodeGetVolumeStatsResponse> {
        call!(self, request, "NodeGetVolumeStats", stats::stats)
    }

    async fn node_expand_volume(
        &self,
        request: Request<csi::NodeExpandVolumeRequest>,
    ) -> Answer<csi::NodeExpandVolumeResponse> {
        self.expect_created(rpc::Type::ExpandVolume)?;
        call!(self, request, "NodeExpandVolume", expand::expand)
    }

    async fn node_get_capabilities(
        &self,
        _: Request<csi::NodeGetCapabilitiesRequest>,
    ) -> Answer<csi::NodeGetCapabilitiesResponse> {
        let capability = |r#type: rpc::Type| NodeServiceCapability {
            r#type: Some(node_service_capability::Type::Rpc(Rpc { r#type: r#type.into() })),
        };
        Ok(Response::new(csi::NodeGetCapabilitiesResponse {
            capabilities: CAPABILITIES
                .into_iter()
                .chain(OF_CREATED.into_iter().filter(|_| self.driver.makes_volumes()))
                .map(capability)
                .collect(),
        }))
    }

    async fn node_get_info(&self, _: Request<csi::NodeGetInfoRequest>) -> Answer<csi::NodeGetInfoResponse> {
        let node_id = self.driver.node_id.clone();
        Ok(Response::new(csi::NodeGetInfoResponse {
            accessible_topology: Some(Topology {
                segments: HashMap::from([(TOPOLOGY_NODE.to_owned(), node_id.clone())]),
            }),
            node_id,
            // No limit of this driver's own.
            max_volumes_per_node: 0,
        }))
    }
}
