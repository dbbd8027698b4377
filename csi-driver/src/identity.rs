//! The Identity service.

use std::{collections::HashMap, sync::Arc};

use holdfast_proto::csi::{
    GetPluginCapabilitiesRequest, GetPluginCapabilitiesResponse, GetPluginInfoRequest, GetPluginInfoResponse,
    PluginCapability, ProbeRequest, ProbeResponse,
    identity_server::Identity,
    plugin_capability::{self, Service, VolumeExpansion, service, volume_expansion},
};
use tonic::{Request, Response, Status};

use crate::server::Driver;

/// Says who this driver is.
#[derive(Debug)]
pub(crate) struct IdentityService {
    pub(crate) driver: Arc<Driver>,
}

#[tonic::async_trait]
impl Identity for IdentityService {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse {
            name: self.driver.name.clone(),
            vendor_version: env!("CARGO_PKG_VERSION").to_owned(),
            manifest: HashMap::new(),
        }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let service = |r#type: service::Type| PluginCapability {
            r#type: Some(plugin_capability::Type::Service(Service { r#type: r#type.into() })),
        };
        let blocks =
            self.driver.abilities().block_metadata.then(|| service(service::Type::SnapshotMetadataService));
        let groups = self.driver.abilities().groups.then(|| service(service::Type::GroupControllerService));
        let online = VolumeExpansion { r#type: volume_expansion::Type::Online.into() };
        let mut capabilities = vec![service(service::Type::VolumeAccessibilityConstraints)];
        if self.driver.makes_volumes() {
            capabilities.push(service(service::Type::ControllerService));
            capabilities
                .push(PluginCapability { r#type: Some(plugin_capability::Type::VolumeExpansion(online)) });
        }
        capabilities.extend(groups);
        capabilities.extend(blocks);
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    /// The socket is served only while every pool is open, so an answer is a yes.
    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse { ready: Some(true) }))
    }
}
