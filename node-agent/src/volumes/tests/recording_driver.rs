//! A CSI node service that really mounts, writes down what it is asked, and fails when told to,
//! before or after the effect: the two sides of a crash.

use std::{
    collections::BTreeMap,
    fs,
    path::{Path, PathBuf},
    sync::{Arc, Mutex},
};

use holdfast_proto::csi::{
    node_server::{Node, NodeServer},
    node_service_capability::{Rpc, Type, rpc},
    *,
};
use rustix::mount::{UnmountFlags, mount_bind, unmount};
use tokio::net::UnixListener;
use tokio_stream::wrappers::UnixListenerStream;
use tonic::{Request, Response, Status};

use crate::volumes::mountinfo::Mounts;

/// When a call fails.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Side {
    Before,
    After,
    /// Nothing is done, and the driver knows no such volume.
    NotFound,
}

#[derive(Clone)]
pub(crate) struct RecordingDriver {
    /// What every volume shows.
    backing: PathBuf,
    pub(crate) calls: Arc<Mutex<Vec<String>>>,
    pub(crate) fail: Arc<Mutex<BTreeMap<&'static str, Side>>>,
}

impl RecordingDriver {
    pub(crate) fn serve(socket: &Path, backing: &Path) -> Self {
        let driver = Self { backing: backing.to_owned(), calls: Arc::default(), fail: Arc::default() };
        let listener = UnixListenerStream::new(UnixListener::bind(socket).unwrap());
        let service = NodeServer::new(driver.clone());
        tokio::spawn(tonic::transport::Server::builder().add_service(service).serve_with_incoming(listener));
        driver
    }

    pub(crate) fn calls(&self) -> Vec<String> {
        std::mem::take(&mut self.calls.lock().unwrap())
    }

    fn step(
        &self,
        method: &'static str,
        effect: impl FnOnce() -> rustix::io::Result<()>,
    ) -> Result<(), Status> {
        self.calls.lock().unwrap().push(method.to_owned());
        let side = self.fail.lock().unwrap().remove(method);
        if side == Some(Side::Before) {
            return Err(Status::unavailable("told to fail before"));
        }
        if side == Some(Side::NotFound) {
            return Err(Status::not_found("no such volume"));
        }
        effect().map_err(|e| Status::internal(e.to_string()))?;
        if side == Some(Side::After) {
            return Err(Status::deadline_exceeded("told to fail after"));
        }
        Ok(())
    }
}

fn bind(from: &Path, at: &Path) -> rustix::io::Result<()> {
    if Mounts::read().unwrap().is_mounted(at) { Ok(()) } else { mount_bind(from, at) }
}

fn unbind(at: &Path) -> rustix::io::Result<()> {
    if Mounts::read().unwrap().is_mounted(at) { unmount(at, UnmountFlags::NOFOLLOW) } else { Ok(()) }
}

#[tonic::async_trait]
impl Node for RecordingDriver {
    async fn node_stage_volume(
        &self,
        request: Request<NodeStageVolumeRequest>,
    ) -> Result<Response<NodeStageVolumeResponse>, Status> {
        let path = PathBuf::from(request.into_inner().staging_target_path);
        self.step("stage", || bind(&self.backing, &path))?;
        Ok(Response::new(Default::default()))
    }

    async fn node_unstage_volume(
        &self,
        request: Request<NodeUnstageVolumeRequest>,
    ) -> Result<Response<NodeUnstageVolumeResponse>, Status> {
        let path = PathBuf::from(request.into_inner().staging_target_path);
        self.step("unstage", || unbind(&path))?;
        Ok(Response::new(Default::default()))
    }

    async fn node_publish_volume(
        &self,
        request: Request<NodePublishVolumeRequest>,
    ) -> Result<Response<NodePublishVolumeResponse>, Status> {
        let request = request.into_inner();
        let (from, to) = (PathBuf::from(request.staging_target_path), PathBuf::from(request.target_path));
        let block = matches!(
            request.volume_capability.and_then(|c| c.access_type),
            Some(volume_capability::AccessType::Block(_))
        );
        self.step("publish", || {
            if block {
                return fs::write(&to, "").map_err(|_| rustix::io::Errno::IO);
            }
            fs::create_dir_all(&to).map_err(|_| rustix::io::Errno::IO)?;
            bind(&from, &to)
        })?;
        Ok(Response::new(Default::default()))
    }

    async fn node_unpublish_volume(
        &self,
        request: Request<NodeUnpublishVolumeRequest>,
    ) -> Result<Response<NodeUnpublishVolumeResponse>, Status> {
        let path = PathBuf::from(request.into_inner().target_path);
        self.step("unpublish", || {
            unbind(&path)?;
            if path.is_dir() {
                fs::remove_dir(&path).map_err(|_| rustix::io::Errno::IO)?;
            }
            Ok(())
        })?;
        Ok(Response::new(Default::default()))
    }

    async fn node_get_volume_stats(
        &self,
        _: Request<NodeGetVolumeStatsRequest>,
    ) -> Result<Response<NodeGetVolumeStatsResponse>, Status> {
        Err(Status::unimplemented("not asked by the node agent"))
    }

    async fn node_expand_volume(
        &self,
        request: Request<NodeExpandVolumeRequest>,
    ) -> Result<Response<NodeExpandVolumeResponse>, Status> {
        self.step("expand", || Ok(()))?;
        let capacity_bytes = request.into_inner().capacity_range.map_or(0, |r| r.required_bytes);
        Ok(Response::new(NodeExpandVolumeResponse { capacity_bytes }))
    }

    async fn node_get_capabilities(
        &self,
        _: Request<NodeGetCapabilitiesRequest>,
    ) -> Result<Response<NodeGetCapabilitiesResponse>, Status> {
        let capabilities = [rpc::Type::StageUnstageVolume, rpc::Type::ExpandVolume];
        let capabilities = capabilities
            .map(|t| NodeServiceCapability { r#type: Some(Type::Rpc(Rpc { r#type: t.into() })) })
            .to_vec();
        Ok(Response::new(NodeGetCapabilitiesResponse { capabilities }))
    }

    async fn node_get_info(
        &self,
        _: Request<NodeGetInfoRequest>,
    ) -> Result<Response<NodeGetInfoResponse>, Status> {
        Ok(Response::new(NodeGetInfoResponse {
            node_id: "node-id".into(),
            max_volumes_per_node: 3,
            accessible_topology: Some(Topology { segments: [("zone".to_owned(), "a".to_owned())].into() }),
        }))
    }
}
