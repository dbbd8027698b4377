//! The Controller service: the calls and what they answer. The work is in the files
//! beside this one.

mod attach;
mod capacity;
mod create;
mod expand;
mod list;
mod modify;
mod name;
mod page;
pub(crate) mod snapshot;
mod source;

use std::{collections::HashMap, sync::Arc};

pub(crate) use name::check_name;

use holdfast_proto::csi::{
    self, ControllerGetCapabilitiesRequest, ControllerGetCapabilitiesResponse, ControllerServiceCapability,
    Topology,
    controller_server::Controller,
    controller_service_capability::{self, Rpc, rpc},
};
use tonic::{Request, Response, Status};

use crate::{
    backend::{Abilities, Backend},
    capability::{Access, Capability},
    config::{Attach, TOPOLOGY_NODE},
    error::Error,
    operation::Operations,
    pool::Pool,
    server::Driver,
    volume::{Content, Volume},
};

/// What this driver can do with every pool; everything else answers UNIMPLEMENTED.
const CAPABILITIES: [rpc::Type; 7] = [
    rpc::Type::CreateDeleteVolume,
    rpc::Type::ListVolumes,
    rpc::Type::GetCapacity,
    rpc::Type::GetVolume,
    rpc::Type::VolumeCondition,
    rpc::Type::ExpandVolume,
    rpc::Type::SingleNodeMultiWriter,
];

/// What it can do besides where volumes are attached.
const ATTACHING: [rpc::Type; 2] = [rpc::Type::PublishUnpublishVolume, rpc::Type::ListVolumesPublishedNodes];

/// Answers the Controller calls.
#[derive(Debug)]
pub(crate) struct ControllerService {
    driver: Arc<Driver>,
    operations: Operations,
}

/// What it can do besides, where one pool at least can.
fn pool_capabilities(abilities: Abilities) -> impl Iterator<Item = rpc::Type> {
    let snapshots = [rpc::Type::CreateDeleteSnapshot, rpc::Type::ListSnapshots, rpc::Type::GetSnapshot];
    let clones = [rpc::Type::CloneVolume];
    let modify = [rpc::Type::ModifyVolume];
    snapshots
        .into_iter()
        .filter(move |_| abilities.snapshots)
        .chain(clones.into_iter().filter(move |_| abilities.clones))
        .chain(modify.into_iter().filter(move |_| abilities.modify))
}

impl ControllerService {
    pub(crate) fn new(driver: Arc<Driver>, operations: Operations) -> Self {
        Self { driver, operations }
    }

    /// Refuses a call of a capability that no pool gives.
    fn expect(&self, declared: bool, capability: &str) -> Result<(), Status> {
        if declared { Ok(()) } else { Err(undeclared(capability)) }
    }
}

/// Runs one call: `$work(&driver, &request)` on a thread that may block, and that counts for
/// the pool of the volume, or `in class` for that of the class's parameters.
macro_rules! call {
    ($self:ident, $request:ident, $method:literal, $volume:ident, $work:path) => {{
        let driver = $self.driver.clone();
        let request = $request.into_inner();
        let volume = request.$volume.clone();
        $self
            .operations
            .run(concat!("/csi.v1.Controller/", $method), &volume, move || $work(&driver, &request))
            .await
    }};
    (in class, $self:ident, $request:ident, $method:literal, $volume:expr, $work:path) => {{
        let driver = $self.driver.clone();
        let request = $request.into_inner();
        let class = request.parameters.get("pool").map(String::as_str);
        let pool = create::pool_of_class(&driver, class).ok().map(|pool| pool.name.clone());
        let volume: String = $volume(&request);
        $self
            .operations
            .run_in(pool.as_deref(), concat!("/csi.v1.Controller/", $method), &volume, move || {
                $work(&driver, &request)
            })
            .await
    }};
    ($self:ident, $request:ident, $method:literal, $work:path) => {{
        let driver = $self.driver.clone();
        let request = $request.into_inner();
        $self
            .operations
            .run(concat!("/csi.v1.Controller/", $method), "", move || $work(&driver, &request))
            .await
    }};
}

type Answer<T> = Result<Response<T>, Status>;

#[tonic::async_trait]
impl Controller for ControllerService {
    async fn create_volume(
        &self,
        request: Request<csi::CreateVolumeRequest>,
    ) -> Answer<csi::CreateVolumeResponse> {
        self.expect(self.driver.makes_volumes(), "CREATE_DELETE_VOLUME")?;
        let name = |request: &csi::CreateVolumeRequest| request.name.clone();
        call!(in class, self, request, "CreateVolume", name, create::create)
    }

    async fn delete_volume(
        &self,
        request: Request<csi::DeleteVolumeRequest>,
    ) -> Answer<csi::DeleteVolumeResponse> {
        self.expect(self.driver.makes_volumes(), "CREATE_DELETE_VOLUME")?;
        call!(self, request, "DeleteVolume", volume_id, create::delete)
    }

    async fn controller_publish_volume(
        &self,
        request: Request<csi::ControllerPublishVolumeRequest>,
    ) -> Answer<csi::ControllerPublishVolumeResponse> {
        self.expect(self.driver.attach == Attach::Required, "PUBLISH_UNPUBLISH_VOLUME")?;
        call!(self, request, "ControllerPublishVolume", volume_id, attach::attach)
    }

    async fn controller_unpublish_volume(
        &self,
        request: Request<csi::ControllerUnpublishVolumeRequest>,
    ) -> Answer<csi::ControllerUnpublishVolumeResponse> {
        self.expect(self.driver.attach == Attach::Required, "PUBLISH_UNPUBLISH_VOLUME")?;
        call!(self, request, "ControllerUnpublishVolume", volume_id, attach::detach)
    }

    async fn validate_volume_capabilities(
        &self,
        request: Request<csi::ValidateVolumeCapabilitiesRequest>,
    ) -> Answer<csi::ValidateVolumeCapabilitiesResponse> {
        call!(self, request, "ValidateVolumeCapabilities", volume_id, list::validate)
    }

    async fn list_volumes(
        &self,
        request: Request<csi::ListVolumesRequest>,
    ) -> Answer<csi::ListVolumesResponse> {
        call!(self, request, "ListVolumes", list::list)
    }

    async fn get_capacity(
        &self,
        request: Request<csi::GetCapacityRequest>,
    ) -> Answer<csi::GetCapacityResponse> {
        let none = |_: &csi::GetCapacityRequest| String::new();
        call!(in class, self, request, "GetCapacity", none, capacity::capacity)
    }

    async fn controller_get_capabilities(
        &self,
        _: Request<ControllerGetCapabilitiesRequest>,
    ) -> Answer<ControllerGetCapabilitiesResponse> {
        let capability = |r#type: rpc::Type| ControllerServiceCapability {
            r#type: Some(controller_service_capability::Type::Rpc(Rpc { r#type: r#type.into() })),
        };
        Ok(Response::new(ControllerGetCapabilitiesResponse {
            capabilities: CAPABILITIES
                .into_iter()
                .chain(ATTACHING.into_iter().filter(|_| self.driver.attach == Attach::Required))
                .filter(|_| self.driver.makes_volumes())
                .chain(pool_capabilities(self.driver.abilities()))
                .map(capability)
                .collect(),
        }))
    }

    async fn controller_expand_volume(
        &self,
        request: Request<csi::ControllerExpandVolumeRequest>,
    ) -> Answer<csi::ControllerExpandVolumeResponse> {
        call!(self, request, "ControllerExpandVolume", volume_id, expand::expand)
    }

    async fn controller_get_volume(
        &self,
        request: Request<csi::ControllerGetVolumeRequest>,
    ) -> Answer<csi::ControllerGetVolumeResponse> {
        call!(self, request, "ControllerGetVolume", volume_id, list::get)
    }

    async fn create_snapshot(
        &self,
        request: Request<csi::CreateSnapshotRequest>,
    ) -> Answer<csi::CreateSnapshotResponse> {
        self.expect(self.driver.abilities().snapshots, "CREATE_DELETE_SNAPSHOT")?;
        call!(self, request, "CreateSnapshot", source_volume_id, snapshot::create)
    }

    async fn delete_snapshot(
        &self,
        request: Request<csi::DeleteSnapshotRequest>,
    ) -> Answer<csi::DeleteSnapshotResponse> {
        self.expect(self.driver.abilities().snapshots, "CREATE_DELETE_SNAPSHOT")?;
        call!(self, request, "DeleteSnapshot", snapshot_id, snapshot::delete)
    }

    async fn list_snapshots(
        &self,
        request: Request<csi::ListSnapshotsRequest>,
    ) -> Answer<csi::ListSnapshotsResponse> {
        self.expect(self.driver.abilities().snapshots, "LIST_SNAPSHOTS")?;
        call!(self, request, "ListSnapshots", snapshot::list)
    }

    async fn get_snapshot(
        &self,
        request: Request<csi::GetSnapshotRequest>,
    ) -> Answer<csi::GetSnapshotResponse> {
        self.expect(self.driver.abilities().snapshots, "GET_SNAPSHOT")?;
        call!(self, request, "GetSnapshot", snapshot_id, snapshot::get)
    }

    async fn controller_modify_volume(
        &self,
        request: Request<csi::ControllerModifyVolumeRequest>,
    ) -> Answer<csi::ControllerModifyVolumeResponse> {
        // Not declared while the cgroup is missing; what to do about that, the call says.
        let known = self.driver.abilities().modify
            || modify::lacks_cgroup(&self.driver, &request.get_ref().volume_id);
        self.expect(known, "MODIFY_VOLUME")?;
        call!(self, request, "ControllerModifyVolume", volume_id, modify::modify)
    }
}

/// The answer to a call of a capability that is not declared.
pub(crate) fn undeclared(capability: &str) -> Status {
    Status::unimplemented(format!("this driver does not declare the capability {capability}"))
}

/// The one place from which this node's volumes can be reached.
fn topology(driver: &Driver) -> Topology {
    Topology { segments: HashMap::from([(TOPOLOGY_NODE.to_owned(), driver.node_id.clone())]) }
}

/// Whether this node is in `topology`: every segment has to agree.
fn is_here(driver: &Driver, topology: &Topology) -> bool {
    topology.segments.iter().all(|(key, value)| key == TOPOLOGY_NODE && *value == driver.node_id)
}

/// A volume as the wire shows it.
fn wire_volume(driver: &Driver, pool: &Pool, volume: &Volume) -> Result<csi::Volume, Error> {
    Ok(csi::Volume {
        capacity_bytes: wire_bytes(volume.capacity),
        volume_id: volume.id.to_string(),
        volume_context: volume_context(pool),
        content_source: volume.origin.as_ref().map(source::wire),
        accessible_topology: vec![topology(driver)],
    })
}

/// What goes with every volume of a pool; for people, nothing depends on it.
pub(crate) fn volume_context(pool: &Pool) -> HashMap<String, String> {
    HashMap::from([
        ("pool".to_owned(), pool.name.clone()),
        ("backend".to_owned(), pool.backend.kind().as_str().to_owned()),
    ])
}

/// The wire has signed bytes.
fn wire_bytes(bytes: u64) -> i64 {
    i64::try_from(bytes).unwrap_or(i64::MAX)
}

/// Whether a volume that holds `content` can be used so.
pub(crate) fn check_use(
    backend: &dyn Backend,
    content: Content,
    capability: &Capability,
) -> Result<(), Error> {
    let fits = match (&capability.access, content) {
        (Access::Mount { fs_type, .. }, Content::Filesystem(_)) if fs_type.is_empty() => true,
        (access, content) => backend.content(access)? == content,
    };
    if !fits {
        return Err(Error::Invalid(format!(
            "the volume holds {content}, and {} was asked for",
            match &capability.access {
                Access::Block => "a raw block device".to_owned(),
                Access::Mount { fs_type, .. } => format!("a mounted file system {fs_type:?}"),
            }
        )));
    }
    if let Access::Mount { flags, .. } = &capability.access {
        crate::kernel::flags::check(content, flags)?;
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use std::{
        sync::{
            atomic::{AtomicUsize, Ordering},
            mpsc,
        },
        time::Duration,
    };

    use holdfast_test_needs::{Need, missing};
    use tokio::{task::JoinSet, time::timeout};

    use super::*;
    use crate::{
        config::{Config, PoolConfig},
        operation::AT_ONCE,
        server,
    };

    fn request(pool: &str) -> Request<csi::CreateVolumeRequest> {
        use csi::volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode};
        let access_mode = Some(AccessMode { mode: Mode::SingleNodeWriter.into() });
        let access_type = Some(AccessType::Mount(MountVolume::default()));
        Request::new(csi::CreateVolumeRequest {
            // As an id of the other pool's volume would look.
            name: format!("a.for-{pool}"),
            volume_capabilities: vec![csi::VolumeCapability { access_mode, access_type }],
            capacity_range: Some(csi::CapacityRange { required_bytes: 64 << 20, limit_bytes: 0 }),
            parameters: HashMap::from([("pool".to_owned(), pool.to_owned())]),
            ..Default::default()
        })
    }

    /// Whatever of the one pool and of no pool hangs: the other makes volumes and says what
    /// room it has.
    #[tokio::test(flavor = "multi_thread")]
    async fn a_pool_that_hangs_keeps_no_other_from_making_volumes() {
        if missing(&[Need::Root]) {
            return;
        }
        let scratch = tempfile::tempdir().unwrap();
        let pools = ["a", "b"].map(|name| PoolConfig::image(name, scratch.path().join(name)));
        let config = Config::new("node-1", scratch.path().join("csi.sock"), pools.to_vec());
        let driver = Arc::new(server::open(&config).await.unwrap());
        let operations = Operations::new("driver", config.metrics.clone(), driver.pools.keys());
        let service = Arc::new(ControllerService::new(driver.clone(), operations.clone()));
        let (release, hang) = mpsc::channel::<()>();
        let hang = Arc::new(parking_lot::Mutex::new(hang));
        let begun = Arc::new(AtomicUsize::new(0));
        let mut hung = JoinSet::new();
        for volume in ["a.hangs", ""].iter().flat_map(|volume| [volume; AT_ONCE]) {
            let (operations, hang, begun) = (operations.clone(), Arc::clone(&hang), Arc::clone(&begun));
            hung.spawn(async move {
                let work = move || {
                    begun.fetch_add(1, Ordering::Relaxed);
                    hang.lock().recv().map_err(|error| Error::Lost(error.to_string()))
                };
                operations.run("Method", volume, work).await
            });
        }
        let all_hang = async {
            while begun.load(Ordering::Relaxed) != 2 * AT_ONCE {
                tokio::task::yield_now().await;
            }
        };
        timeout(Duration::from_secs(60), all_hang).await.unwrap();

        let waiting = tokio::spawn({
            let service = Arc::clone(&service);
            async move { service.create_volume(request("a")).await }
        });
        let made = timeout(Duration::from_secs(60), service.create_volume(request("b"))).await.unwrap();
        assert!(made.unwrap().into_inner().volume.unwrap().volume_id.starts_with("b."));
        let capacity = csi::GetCapacityRequest {
            parameters: HashMap::from([("pool".to_owned(), "b".to_owned())]),
            ..Default::default()
        };
        let capacity = timeout(Duration::from_secs(60), service.get_capacity(Request::new(capacity))).await;
        assert!(capacity.unwrap().unwrap().into_inner().available_capacity > 0);
        assert!(!waiting.is_finished(), "it took no turn of its pool's");

        for _ in 0..2 * AT_ONCE {
            release.send(()).unwrap();
        }
        while let Some(done) = hung.join_next().await {
            done.unwrap().unwrap();
        }
        assert!(waiting.await.unwrap().unwrap().into_inner().volume.unwrap().volume_id.starts_with("a."));
        operations.finish().await;
    }
}
