//! A CSI driver in memory, on a real socket. It keeps the promises of the specification
//! (idempotent under a name) unless it is told to fail, and records every call.

use std::{
    collections::{BTreeMap, VecDeque},
    path::Path,
    sync::Arc,
};

use holdfast_proto::csi::{
    controller_server::{Controller, ControllerServer},
    controller_service_capability::{self, Rpc, rpc},
    group_controller_server::GroupControllerServer,
    identity_server::{Identity, IdentityServer},
    plugin_capability::{self, Service, service},
    *,
};
use parking_lot::Mutex;
use tokio::{net::UnixListener, sync::Semaphore};
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Code, Request, Response, Status};

use super::DRIVER;

/// What to do with the next call of a method.
pub(crate) enum Fault {
    /// Answer with this, and do nothing.
    Answer(Code, &'static str),
    /// Do it, and then answer with this.
    DoneBut(Code, &'static str),
    /// Wait for a permit, then do it.
    Hold(Arc<Semaphore>),
    /// Wait for a permit, then answer with this, and do nothing.
    HoldThenAnswer(Arc<Semaphore>, Code, &'static str),
    /// Do it, and wait for a permit before answering.
    DoneThenHold(Arc<Semaphore>),
}

mod groups;

#[derive(Default)]
struct Inner {
    /// Name → volume.
    volumes: BTreeMap<String, Volume>,
    /// Name → snapshot.
    snapshots: BTreeMap<String, Snapshot>,
    /// Name → group snapshot.
    groups: BTreeMap<String, VolumeGroupSnapshot>,
    takes_groups: bool,
    /// For how many calls more a new snapshot is not ready.
    unready: usize,
    lists_snapshots: bool,
    /// (volume, node)
    published: Vec<(String, String)>,
    calls: Vec<(String, String)>,
    faults: BTreeMap<&'static str, VecDeque<Fault>>,
    requests: Vec<CreateVolumeRequest>,
    topology: bool,
    node_expansion: bool,
}

#[derive(Clone, Default)]
pub(crate) struct Driver(Arc<Mutex<Inner>>);

impl Driver {
    pub(crate) fn serve(&self, socket: &Path) {
        let listener = UnixListener::bind(socket).expect("binds");
        let server = tonic::transport::Server::builder()
            .add_service(IdentityServer::new(self.clone()))
            .add_service(ControllerServer::new(self.clone()))
            .add_service(GroupControllerServer::new(self.clone()))
            .serve_with_incoming(UnixListenerStream::new(listener));
        tokio::spawn(server);
    }

    pub(crate) fn with_topology(&self) {
        self.0.lock().topology = true;
    }

    pub(crate) fn with_node_expansion(&self) {
        self.0.lock().node_expansion = true;
    }

    pub(crate) fn with_lists_of_snapshots(&self) {
        self.0.lock().lists_snapshots = true;
    }

    /// The next snapshots become ready only after this many calls.
    pub(crate) fn slow_snapshots(&self, calls: usize) {
        self.0.lock().unready = calls;
    }

    /// A snapshot that is there already.
    pub(crate) fn put_snapshot(&self, id: &str) {
        let snapshot = Snapshot { snapshot_id: id.to_owned(), ready_to_use: true, ..Snapshot::default() };
        self.0.lock().snapshots.insert(id.to_owned(), snapshot);
    }

    pub(crate) fn snapshots(&self) -> Vec<String> {
        self.0.lock().snapshots.values().map(|snapshot| snapshot.snapshot_id.clone()).collect()
    }

    pub(crate) fn fault(&self, method: &'static str, fault: Fault) {
        self.0.lock().faults.entry(method).or_default().push_back(fault);
    }

    /// How often `method` was called.
    pub(crate) fn count(&self, method: &str) -> usize {
        self.0.lock().calls.iter().filter(|(called, _)| called == method).count()
    }

    pub(crate) fn volumes(&self) -> Vec<String> {
        self.0.lock().volumes.keys().cloned().collect()
    }

    pub(crate) fn published(&self) -> Vec<(String, String)> {
        self.0.lock().published.clone()
    }

    pub(crate) fn create_requests(&self) -> Vec<CreateVolumeRequest> {
        self.0.lock().requests.clone()
    }

    async fn do_it<T>(
        &self,
        method: &'static str,
        about: &str,
        work: impl FnOnce(&mut Inner) -> T,
    ) -> Result<Response<T>, Status> {
        let fault = {
            let mut inner = self.0.lock();
            inner.calls.push((method.to_owned(), about.to_owned()));
            inner.faults.get_mut(method).and_then(VecDeque::pop_front)
        };
        match fault {
            Some(Fault::Answer(code, message)) => return Err(Status::new(code, message)),
            Some(Fault::DoneBut(code, message)) => {
                work(&mut self.0.lock());
                return Err(Status::new(code, message));
            }
            Some(Fault::HoldThenAnswer(gate, code, message)) => {
                gate.acquire().await.expect("never closed").forget();
                return Err(Status::new(code, message));
            }
            Some(Fault::DoneThenHold(gate)) => {
                let reply = work(&mut self.0.lock());
                gate.acquire().await.expect("never closed").forget();
                return Ok(Response::new(reply));
            }
            Some(Fault::Hold(gate)) => gate.acquire().await.expect("never closed").forget(),
            None => {}
        }
        Ok(Response::new(work(&mut self.0.lock())))
    }
}

#[tonic::async_trait]
impl Identity for Driver {
    async fn get_plugin_info(
        &self,
        _: Request<GetPluginInfoRequest>,
    ) -> Result<Response<GetPluginInfoResponse>, Status> {
        Ok(Response::new(GetPluginInfoResponse { name: DRIVER.to_owned(), ..Default::default() }))
    }

    async fn get_plugin_capabilities(
        &self,
        _: Request<GetPluginCapabilitiesRequest>,
    ) -> Result<Response<GetPluginCapabilitiesResponse>, Status> {
        let mut kinds = vec![service::Type::ControllerService];
        if self.0.lock().topology {
            kinds.push(service::Type::VolumeAccessibilityConstraints);
        }
        if self.0.lock().takes_groups {
            kinds.push(service::Type::GroupControllerService);
        }
        let capabilities = kinds
            .into_iter()
            .map(|kind| PluginCapability {
                r#type: Some(plugin_capability::Type::Service(Service { r#type: kind.into() })),
            })
            .collect();
        Ok(Response::new(GetPluginCapabilitiesResponse { capabilities }))
    }

    async fn probe(&self, _: Request<ProbeRequest>) -> Result<Response<ProbeResponse>, Status> {
        Ok(Response::new(ProbeResponse::default()))
    }
}

fn refuse<T>() -> Result<Response<T>, Status> {
    Err(Status::unimplemented("not part of this test"))
}

#[tonic::async_trait]
impl Controller for Driver {
    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Result<Response<ControllerGetCapabilitiesResponse>, Status> {
        let mut kinds = vec![
            rpc::Type::CreateDeleteVolume,
            rpc::Type::PublishUnpublishVolume,
            rpc::Type::ExpandVolume,
            rpc::Type::CreateDeleteSnapshot,
            rpc::Type::CloneVolume,
        ];
        if self.0.lock().lists_snapshots {
            kinds.push(rpc::Type::ListSnapshots);
        }
        let capabilities = kinds
            .into_iter()
            .map(|kind| ControllerServiceCapability {
                r#type: Some(controller_service_capability::Type::Rpc(Rpc { r#type: kind.into() })),
            })
            .collect();
        Ok(Response::new(ControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_volume(
        &self,
        request: Request<CreateVolumeRequest>,
    ) -> Result<Response<CreateVolumeResponse>, Status> {
        let request = request.into_inner();
        self.0.lock().requests.push(request.clone());
        self.do_it("CreateVolume", &request.name.clone(), move |inner| {
            let bytes = request.capacity_range.map(|range| range.required_bytes).unwrap_or_default();
            let volume = Volume {
                volume_id: format!("id-{}", request.name),
                capacity_bytes: bytes,
                accessible_topology: request
                    .accessibility_requirements
                    .map(|r| r.preferred[..1].to_vec())
                    .unwrap_or_default(),
                ..Default::default()
            };
            let volume = inner.volumes.entry(request.name).or_insert(volume).clone();
            CreateVolumeResponse { volume: Some(volume) }
        })
        .await
    }

    async fn delete_volume(
        &self,
        request: Request<DeleteVolumeRequest>,
    ) -> Result<Response<DeleteVolumeResponse>, Status> {
        let id = request.into_inner().volume_id;
        self.do_it("DeleteVolume", &id.clone(), move |inner| {
            inner.volumes.retain(|_, volume| volume.volume_id != id);
            DeleteVolumeResponse {}
        })
        .await
    }

    async fn controller_publish_volume(
        &self,
        request: Request<ControllerPublishVolumeRequest>,
    ) -> Result<Response<ControllerPublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.do_it("ControllerPublishVolume", &request.volume_id.clone(), move |inner| {
            let pair = (request.volume_id, request.node_id);
            if !inner.published.contains(&pair) {
                inner.published.push(pair);
            }
            ControllerPublishVolumeResponse {
                publish_context: [("device".to_owned(), "x".to_owned())].into(),
            }
        })
        .await
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<ControllerUnpublishVolumeRequest>,
    ) -> Result<Response<ControllerUnpublishVolumeResponse>, Status> {
        let request = request.into_inner();
        self.do_it("ControllerUnpublishVolume", &request.volume_id.clone(), move |inner| {
            inner.published.retain(|pair| *pair != (request.volume_id.clone(), request.node_id.clone()));
            ControllerUnpublishVolumeResponse {}
        })
        .await
    }

    async fn controller_expand_volume(
        &self,
        request: Request<ControllerExpandVolumeRequest>,
    ) -> Result<Response<ControllerExpandVolumeResponse>, Status> {
        let request = request.into_inner();
        self.do_it("ControllerExpandVolume", &request.volume_id, move |inner| {
            ControllerExpandVolumeResponse {
                capacity_bytes: request.capacity_range.map(|range| range.required_bytes).unwrap_or_default(),
                node_expansion_required: inner.node_expansion,
            }
        })
        .await
    }

    async fn validate_volume_capabilities(
        &self,
        _: Request<ValidateVolumeCapabilitiesRequest>,
    ) -> Result<Response<ValidateVolumeCapabilitiesResponse>, Status> {
        refuse()
    }
    async fn list_volumes(
        &self,
        _: Request<ListVolumesRequest>,
    ) -> Result<Response<ListVolumesResponse>, Status> {
        refuse()
    }
    async fn get_capacity(
        &self,
        _: Request<GetCapacityRequest>,
    ) -> Result<Response<GetCapacityResponse>, Status> {
        refuse()
    }
    async fn create_snapshot(
        &self,
        request: Request<CreateSnapshotRequest>,
    ) -> Result<Response<CreateSnapshotResponse>, Status> {
        let request = request.into_inner();
        self.do_it("CreateSnapshot", &request.name.clone(), move |inner| {
            let ready = inner.unready == 0;
            inner.unready = inner.unready.saturating_sub(1);
            let snapshot = inner.snapshots.entry(request.name.clone()).or_insert_with(|| Snapshot {
                snapshot_id: format!("id-{}", request.name),
                source_volume_id: request.source_volume_id,
                size_bytes: 1 << 30,
                creation_time: Some(prost_types::Timestamp { seconds: 1_700_000_000, nanos: 5 }),
                ..Snapshot::default()
            });
            snapshot.ready_to_use = ready;
            CreateSnapshotResponse { snapshot: Some(snapshot.clone()) }
        })
        .await
    }
    async fn delete_snapshot(
        &self,
        request: Request<DeleteSnapshotRequest>,
    ) -> Result<Response<DeleteSnapshotResponse>, Status> {
        let id = request.into_inner().snapshot_id;
        self.do_it("DeleteSnapshot", &id.clone(), move |inner| {
            inner.snapshots.retain(|_, snapshot| snapshot.snapshot_id != id);
            DeleteSnapshotResponse {}
        })
        .await
    }
    /// Without heed of the filter, as some drivers are.
    async fn list_snapshots(
        &self,
        request: Request<ListSnapshotsRequest>,
    ) -> Result<Response<ListSnapshotsResponse>, Status> {
        self.do_it("ListSnapshots", &request.into_inner().snapshot_id, move |inner| {
            let entry =
                |snapshot: &Snapshot| list_snapshots_response::Entry { snapshot: Some(snapshot.clone()) };
            let entries = inner.snapshots.values().map(entry).collect();
            ListSnapshotsResponse { entries, ..Default::default() }
        })
        .await
    }
    async fn get_snapshot(
        &self,
        _: Request<GetSnapshotRequest>,
    ) -> Result<Response<GetSnapshotResponse>, Status> {
        refuse()
    }
    async fn controller_get_volume(
        &self,
        _: Request<ControllerGetVolumeRequest>,
    ) -> Result<Response<ControllerGetVolumeResponse>, Status> {
        refuse()
    }
    async fn controller_modify_volume(
        &self,
        _: Request<ControllerModifyVolumeRequest>,
    ) -> Result<Response<ControllerModifyVolumeResponse>, Status> {
        refuse()
    }
}
