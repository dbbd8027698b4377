//! The CSI calls that the sidecars make, each with a timeout, a metric and a typed error.

use std::{future::Future, path::PathBuf, time::Duration};

use holdfast_proto::csi::{
    ControllerExpandVolumeRequest, ControllerExpandVolumeResponse, ControllerGetCapabilitiesRequest,
    ControllerGetVolumeRequest, ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest,
    CreateSnapshotRequest, CreateVolumeGroupSnapshotRequest, CreateVolumeRequest, DeleteSnapshotRequest,
    DeleteVolumeGroupSnapshotRequest, DeleteVolumeRequest, GetPluginCapabilitiesRequest,
    GetPluginInfoRequest, GetSnapshotRequest, GetVolumeGroupSnapshotRequest,
    GroupControllerGetCapabilitiesRequest, ListSnapshotsRequest, ListVolumesRequest,
    NodeGetCapabilitiesRequest, ProbeRequest, Snapshot, Volume, VolumeCondition, VolumeGroupSnapshot,
    controller_client::ControllerClient, group_controller_client::GroupControllerClient,
    identity_client::IdentityClient, node_client::NodeClient,
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, time::Instant};
use tonic::{
    Code, Request, Response, Status,
    body::Body,
    transport::{Channel, Endpoint},
};

use super::{CsiError, DriverFacts, Origin};
use crate::{election::Fence, metrics::Metrics};

/// A connection to one plugin. Cheap to clone; reconnects by itself when the driver restarts.
#[derive(Clone)]
pub(crate) struct CsiClient {
    channel: Channel,
    timeout: Duration,
    metrics: Metrics,
    driver: String,
    fence: Fence,
}

/// The way to the plugin, past the fence.
#[derive(Clone)]
struct Way {
    channel: Channel,
    fence: Fence,
}

impl tower::Service<http::Request<Body>> for Way {
    type Response = http::Response<Body>;
    type Error = <Channel as tower::Service<http::Request<Body>>>::Error;
    type Future = <Channel as tower::Service<http::Request<Body>>>::Future;

    fn poll_ready(&mut self, cx: &mut std::task::Context<'_>) -> std::task::Poll<Result<(), Self::Error>> {
        tower::Service::poll_ready(&mut self.channel, cx)
    }

    fn call(&mut self, request: http::Request<Body>) -> Self::Future {
        let fence = &self.fence;
        tower::Service::call(&mut self.channel, request.map(|body| Body::new(fence.guard(body))))
    }
}

impl CsiClient {
    /// Prepares a connection to the socket at `path`; nothing is dialled before the first call.
    pub(crate) fn new(path: PathBuf, timeout: Duration, metrics: Metrics) -> Self {
        // The authority is not used on a unix socket, but HTTP/2 wants one.
        let channel = Endpoint::from_static("http://localhost").connect_with_connector_lazy(
            tower::service_fn(move |_: http::Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            }),
        );
        let driver = "unknown-driver".to_owned();
        Self { channel, timeout, metrics, driver, fence: Fence::open() }
    }

    /// Names the driver in the metrics from here on.
    pub(crate) fn named(mut self, driver: &str) -> Self {
        driver.clone_into(&mut self.driver);
        self
    }

    /// Makes every call end with the lease that `fence` stands for.
    pub(crate) fn behind(mut self, fence: Fence) -> Self {
        self.fence = fence;
        self
    }

    fn way(&self) -> Way {
        Way { channel: self.channel.clone(), fence: self.fence.clone() }
    }

    fn request<T>(&self, message: T) -> Request<T> {
        let mut request = Request::new(message);
        request.set_timeout(self.timeout);
        request
    }

    async fn call<T>(
        &self,
        method: &'static str,
        call: impl Future<Output = Result<Response<T>, Status>>,
    ) -> Result<T, CsiError> {
        let begun = Instant::now();
        // Whether it is sent is only known when the lease is lost before.
        let unsent = self.fence.left().is_zero();
        let result = match self.fence.pass(tokio::time::timeout(self.timeout, call)).await {
            Ok(Ok(Ok(response))) => Ok(response.into_inner()),
            Ok(Ok(Err(status))) => Err(CsiError::from_status(method, &status)),
            Ok(Err(_)) => Err(CsiError::timeout(method, self.timeout)),
            Err(lost) => Err(CsiError {
                method,
                code: Code::Cancelled,
                message: lost.to_string(),
                origin: if unsent { Origin::Unsent } else { Origin::Way },
            }),
        };
        let code = result.as_ref().map_or_else(|error| error.code, |_| Code::Ok);
        self.metrics.observe_call(&self.driver, method, code, begun.elapsed());
        result
    }

    /// Whether the plugin says that it is ready; an answer without an opinion counts as yes.
    pub(crate) async fn probe(&self) -> Result<bool, CsiError> {
        let mut client = IdentityClient::new(self.way());
        let reply = self.call("Probe", client.probe(self.request(ProbeRequest {}))).await?;
        Ok(reply.ready.unwrap_or(true))
    }

    /// The plugin's name alone, for what needs no controller service.
    pub(crate) async fn plugin_name(&self) -> Result<String, CsiError> {
        let mut identity = IdentityClient::new(self.way());
        let info = self
            .call("GetPluginInfo", identity.get_plugin_info(self.request(GetPluginInfoRequest {})))
            .await?;
        Ok(info.name)
    }

    /// Asks the plugin for its name and everything that it can do.
    pub(crate) async fn learn(&self) -> Result<DriverFacts, CsiError> {
        let mut identity = IdentityClient::new(self.way());
        let mut facts = DriverFacts::new(self.plugin_name().await?);
        let request = self.request(GetPluginCapabilitiesRequest {});
        facts.learn_plugin(
            &self.call("GetPluginCapabilities", identity.get_plugin_capabilities(request)).await?,
        );
        if facts.controller {
            let mut controller = ControllerClient::new(self.way());
            let request = self.request(ControllerGetCapabilitiesRequest {});
            let reply = self
                .call("ControllerGetCapabilities", controller.controller_get_capabilities(request))
                .await?;
            facts.learn_controller(&reply.capabilities);
        }
        if facts.group_controller {
            let mut groups = GroupControllerClient::new(self.way());
            let request = self.request(GroupControllerGetCapabilitiesRequest {});
            let call = groups.group_controller_get_capabilities(request);
            facts.learn_groups(&self.call("GroupControllerGetCapabilities", call).await?.capabilities);
        }
        let mut node = NodeClient::new(self.way());
        let request = self.request(NodeGetCapabilitiesRequest {});
        match self.call("NodeGetCapabilities", node.node_get_capabilities(request)).await {
            Ok(reply) => facts.learn_node(&reply.capabilities),
            // A controller-only deployment serves no node service on this socket.
            Err(error) if error.code == Code::Unimplemented && error.origin == Origin::Driver => {}
            Err(error) => return Err(error),
        }
        Ok(facts)
    }

    pub(crate) async fn create_volume(&self, request: CreateVolumeRequest) -> Result<Volume, CsiError> {
        let mut client = ControllerClient::new(self.way());
        let reply = self.call("CreateVolume", client.create_volume(self.request(request))).await?;
        // Success without a volume breaks the protocol: what exists is not known.
        reply.volume.filter(|volume| !volume.volume_id.is_empty()).ok_or_else(|| CsiError {
            method: "CreateVolume",
            code: Code::Internal,
            message: "the driver answered success but no volume id: this is a fault of the driver".to_owned(),
            origin: Origin::Way,
        })
    }

    pub(crate) async fn delete_volume(&self, request: DeleteVolumeRequest) -> Result<(), CsiError> {
        let mut client = ControllerClient::new(self.way());
        self.call("DeleteVolume", client.delete_volume(self.request(request))).await.map(drop)
    }

    pub(crate) async fn publish(
        &self,
        request: ControllerPublishVolumeRequest,
    ) -> Result<std::collections::HashMap<String, String>, CsiError> {
        let mut client = ControllerClient::new(self.way());
        let call = client.controller_publish_volume(self.request(request));
        Ok(self.call("ControllerPublishVolume", call).await?.publish_context)
    }

    pub(crate) async fn unpublish(&self, request: ControllerUnpublishVolumeRequest) -> Result<(), CsiError> {
        let mut client = ControllerClient::new(self.way());
        let call = client.controller_unpublish_volume(self.request(request));
        self.call("ControllerUnpublishVolume", call).await.map(drop)
    }

    pub(crate) async fn expand(
        &self,
        request: ControllerExpandVolumeRequest,
    ) -> Result<ControllerExpandVolumeResponse, CsiError> {
        let mut client = ControllerClient::new(self.way());
        self.call("ControllerExpandVolume", client.controller_expand_volume(self.request(request))).await
    }

    /// The conditions of all volumes that the driver tells one of, by their ids. Needs `LIST_VOLUMES`.
    pub(crate) async fn list_conditions(&self) -> Result<Vec<(String, VolumeCondition)>, CsiError> {
        const METHOD: &str = "ListVolumes";
        let (mut found, mut starting_token) = (Vec::new(), String::new());
        loop {
            let mut client = ControllerClient::new(self.way());
            let request = ListVolumesRequest { starting_token: starting_token.clone(), ..Default::default() };
            let page = self.call(METHOD, client.list_volumes(self.request(request))).await?;
            found.extend(page.entries.into_iter().filter_map(|entry| {
                let condition = entry.status?.volume_condition?;
                Some((entry.volume?.volume_id, condition))
            }));
            match page.next_token {
                token if token.is_empty() => return Ok(found),
                token if token == starting_token => {
                    let message =
                        "the driver gives the same page again and again: this is a fault of the driver";
                    let message = message.to_owned();
                    return Err(CsiError {
                        method: METHOD,
                        code: Code::Internal,
                        message,
                        origin: Origin::Way,
                    });
                }
                token => starting_token = token,
            }
        }
    }

    /// The condition of one volume, if the driver tells one. Needs `GET_VOLUME`.
    pub(crate) async fn volume_condition(
        &self,
        request: ControllerGetVolumeRequest,
    ) -> Result<Option<VolumeCondition>, CsiError> {
        let mut client = ControllerClient::new(self.way());
        let call = client.controller_get_volume(self.request(request));
        let reply = self.call("ControllerGetVolume", call).await?;
        Ok(reply.status.and_then(|status| status.volume_condition))
    }

    pub(crate) async fn create_snapshot(&self, request: CreateSnapshotRequest) -> Result<Snapshot, CsiError> {
        const METHOD: &str = "CreateSnapshot";
        let mut client = ControllerClient::new(self.way());
        let reply = self.call(METHOD, client.create_snapshot(self.request(request))).await?;
        // As with CreateVolume: success without an id tells nothing.
        reply.snapshot.filter(|snapshot| !snapshot.snapshot_id.is_empty()).ok_or_else(|| nothing(METHOD))
    }

    pub(crate) async fn delete_snapshot(&self, request: DeleteSnapshotRequest) -> Result<(), CsiError> {
        let mut client = ControllerClient::new(self.way());
        self.call("DeleteSnapshot", client.delete_snapshot(self.request(request))).await.map(drop)
    }

    /// Needs `GET_SNAPSHOT`. `None` when the driver says that there is none of this id.
    pub(crate) async fn get_snapshot(
        &self,
        request: GetSnapshotRequest,
    ) -> Result<Option<Snapshot>, CsiError> {
        const METHOD: &str = "GetSnapshot";
        let mut client = ControllerClient::new(self.way());
        match self.call(METHOD, client.get_snapshot(self.request(request))).await {
            Ok(reply) => reply.snapshot.map(Some).ok_or_else(|| nothing(METHOD)),
            Err(error) if error.code == Code::NotFound && error.origin == Origin::Driver => Ok(None),
            Err(error) => Err(error),
        }
    }

    /// Needs `LIST_SNAPSHOTS`. `None` when the driver lists none of this id.
    pub(crate) async fn list_snapshot(
        &self,
        request: ListSnapshotsRequest,
    ) -> Result<Option<Snapshot>, CsiError> {
        let id = request.snapshot_id.clone();
        let mut client = ControllerClient::new(self.way());
        let reply = self.call("ListSnapshots", client.list_snapshots(self.request(request))).await?;
        // A driver that ignores the filter lists others too.
        let found = reply.entries.into_iter().filter_map(|entry| entry.snapshot);
        Ok(found.into_iter().find(|snapshot| snapshot.snapshot_id == id))
    }

    /// Needs `CREATE_DELETE_GET_VOLUME_GROUP_SNAPSHOT`, as the next two.
    pub(crate) async fn create_group_snapshot(
        &self,
        request: CreateVolumeGroupSnapshotRequest,
    ) -> Result<VolumeGroupSnapshot, CsiError> {
        const METHOD: &str = "CreateVolumeGroupSnapshot";
        let mut client = GroupControllerClient::new(self.way());
        let reply = self.call(METHOD, client.create_volume_group_snapshot(self.request(request))).await?;
        reply
            .group_snapshot
            .filter(|group| !group.group_snapshot_id.is_empty())
            .ok_or_else(|| nothing(METHOD))
    }

    /// `None` when the driver says that there is none of this id.
    pub(crate) async fn get_group_snapshot(
        &self,
        request: GetVolumeGroupSnapshotRequest,
    ) -> Result<Option<VolumeGroupSnapshot>, CsiError> {
        const METHOD: &str = "GetVolumeGroupSnapshot";
        let mut client = GroupControllerClient::new(self.way());
        match self.call(METHOD, client.get_volume_group_snapshot(self.request(request))).await {
            Ok(reply) => reply.group_snapshot.map(Some).ok_or_else(|| nothing(METHOD)),
            Err(error) if error.code == Code::NotFound && error.origin == Origin::Driver => Ok(None),
            Err(error) => Err(error),
        }
    }

    pub(crate) async fn delete_group_snapshot(
        &self,
        request: DeleteVolumeGroupSnapshotRequest,
    ) -> Result<(), CsiError> {
        let mut client = GroupControllerClient::new(self.way());
        let call = client.delete_volume_group_snapshot(self.request(request));
        self.call("DeleteVolumeGroupSnapshot", call).await.map(drop)
    }
}

fn nothing(method: &'static str) -> CsiError {
    CsiError {
        method,
        code: Code::Internal,
        message: "the driver answered success but no snapshot: this is a fault of the driver".to_owned(),
        origin: Origin::Way,
    }
}
