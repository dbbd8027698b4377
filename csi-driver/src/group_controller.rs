//! The GroupController service: snapshots of several volumes at one moment.

use std::{collections::BTreeSet, sync::Arc};

use holdfast_proto::csi::{
    self, CreateVolumeGroupSnapshotRequest, CreateVolumeGroupSnapshotResponse,
    DeleteVolumeGroupSnapshotRequest, DeleteVolumeGroupSnapshotResponse, GetVolumeGroupSnapshotRequest,
    GetVolumeGroupSnapshotResponse, GroupControllerGetCapabilitiesRequest,
    GroupControllerGetCapabilitiesResponse, GroupControllerServiceCapability,
    group_controller_server::GroupController,
    group_controller_service_capability::{self, Rpc, rpc},
};
use tonic::{Request, Response, Status};

use crate::{
    config::BackendKind,
    controller::{
        check_name,
        snapshot::{check_parameters, expect_unused, wire_snapshot},
        undeclared,
    },
    error::Error,
    guard::{Guard, Name},
    operation::Operations,
    pool::{Pool, Wish},
    server::Driver,
    snapshot::{Group, GroupId, SnapshotId},
    volume_id::VolumeId,
};

const CAPABILITY: rpc::Type = rpc::Type::CreateDeleteGetVolumeGroupSnapshot;

/// Answers the GroupController calls.
#[derive(Debug)]
pub(crate) struct GroupControllerService {
    driver: Arc<Driver>,
    operations: Operations,
}

impl GroupControllerService {
    pub(crate) fn new(driver: Arc<Driver>, operations: Operations) -> Self {
        Self { driver, operations }
    }

    /// Runs one call, where a pool can cut groups at all.
    async fn run<Q: Send + 'static, A: Send + 'static>(
        &self,
        method: &'static str,
        of: String,
        request: Request<Q>,
        work: fn(&Driver, &Q) -> Result<A, Error>,
    ) -> Result<Response<A>, Status> {
        if !self.driver.abilities().groups {
            return Err(undeclared(CAPABILITY.as_str_name()));
        }
        let (driver, request) = (self.driver.clone(), request.into_inner());
        self.operations.run(method, &of, move || work(&driver, &request)).await
    }
}

#[tonic::async_trait]
impl GroupController for GroupControllerService {
    async fn group_controller_get_capabilities(
        &self,
        _: Request<GroupControllerGetCapabilitiesRequest>,
    ) -> Result<Response<GroupControllerGetCapabilitiesResponse>, Status> {
        let capability = GroupControllerServiceCapability {
            r#type: Some(group_controller_service_capability::Type::Rpc(Rpc { r#type: CAPABILITY.into() })),
        };
        let capabilities = self.driver.abilities().groups.then_some(capability).into_iter().collect();
        Ok(Response::new(GroupControllerGetCapabilitiesResponse { capabilities }))
    }

    async fn create_volume_group_snapshot(
        &self,
        request: Request<CreateVolumeGroupSnapshotRequest>,
    ) -> Result<Response<CreateVolumeGroupSnapshotResponse>, Status> {
        let of = request.get_ref().source_volume_ids.first().cloned().unwrap_or_default();
        self.run("/csi.v1.GroupController/CreateVolumeGroupSnapshot", of, request, create).await
    }

    async fn delete_volume_group_snapshot(
        &self,
        request: Request<DeleteVolumeGroupSnapshotRequest>,
    ) -> Result<Response<DeleteVolumeGroupSnapshotResponse>, Status> {
        let of = request.get_ref().group_snapshot_id.clone();
        self.run("/csi.v1.GroupController/DeleteVolumeGroupSnapshot", of, request, delete).await
    }

    async fn get_volume_group_snapshot(
        &self,
        request: Request<GetVolumeGroupSnapshotRequest>,
    ) -> Result<Response<GetVolumeGroupSnapshotResponse>, Status> {
        let of = request.get_ref().group_snapshot_id.clone();
        self.run("/csi.v1.GroupController/GetVolumeGroupSnapshot", of, request, get).await
    }
}

/// CSI v1.12, CreateVolumeGroupSnapshot. The ids of the group and of its members follow from
/// the name and the pool, so a repeated call finds what the first one made.
fn create(
    driver: &Driver,
    request: &CreateVolumeGroupSnapshotRequest,
) -> Result<CreateVolumeGroupSnapshotResponse, Error> {
    check_name(&request.name)?;
    check_parameters(&request.parameters)?;
    let sources =
        request.source_volume_ids.iter().map(|id| VolumeId::parse(id)).collect::<Result<Vec<_>, Error>>()?;
    let pool = one_pool(driver, &sources)?;
    let id = GroupId::derive(&pool.name, &request.name);
    let _name = driver.guards.take(&Name::group(&request.name))?;
    let _guard = driver.guards.take(&id)?;
    let answer =
        |group: &Group| Ok(CreateVolumeGroupSnapshotResponse { group_snapshot: Some(wire(pool, group)?) });
    if let Some(group) = pool.find_group(&id)? {
        check_same(&group, &request.name, &sources)?;
        // The one that made it may have ended before all members had their names.
        pool.finish_group(&group)?;
        return answer(&group);
    }
    // The pool is part of the id, so the same name for volumes elsewhere would not be seen.
    // From memory, as in CreateVolume.
    for other in driver.pools.values().filter(|other| other.name != pool.name) {
        if other.has_group(&GroupId::derive(&other.name, &request.name)) {
            return Err(Error::Exists(format!(
                "group snapshot {:?} exists in pool {:?}, of other volumes; use another name",
                request.name, other.name
            )));
        }
    }
    let _guards = sources.iter().map(|id| driver.guards.take(id)).collect::<Result<Vec<Guard>, Error>>()?;
    let folders = sources.iter().map(|id| pool.folder(id)).collect::<Result<Vec<_>, Error>>()?;
    let mut wishes = Vec::with_capacity(sources.len());
    for (source, folder) in sources.iter().zip(&folders) {
        // No name of a snapshot by itself has a slash in its id: see `VolumeId::derive`.
        let name = format!("{}/{source}", request.name);
        let id = SnapshotId::derive(&pool.name, &name);
        if pool.find_snapshot(&id)?.is_some() {
            return Err(Error::Exists(format!(
                "snapshot {name:?} exists by itself; use another name for the group"
            )));
        }
        wishes.push(Wish { id, name, source: folder, volume: pool.read_grown(folder)? });
    }
    let members = wishes.iter().map(|wish| driver.guards.take(&wish.id));
    let _member_guards = members.collect::<Result<Vec<Guard>, Error>>()?;
    let group = pool.cut_group(&id, &request.name, &wishes)?;
    tracing::info!(group = %group.id, volumes = sources.len(), "cut");
    answer(&group)
}

/// The pool of all the volumes: nothing holds several pools still at once.
fn one_pool<'a>(driver: &'a Driver, sources: &[VolumeId]) -> Result<&'a Pool, Error> {
    let [first, others @ ..] = sources else {
        return Err(Error::Invalid("source_volume_ids must have at least one entry".to_owned()));
    };
    if sources.iter().collect::<BTreeSet<_>>().len() < sources.len() {
        return Err(Error::Invalid("source_volume_ids names a volume twice".to_owned()));
    }
    // What does not exist is said first: a wrong id would look like another pool.
    for id in sources {
        driver.pool_of(id)?.folder(id)?;
    }
    if let Some(other) = others.iter().find(|other| other.pool() != first.pool()) {
        return Err(Error::Precondition(format!(
            "volumes {first} and {other} are in different pools and cannot be cut at one moment; make one group \
             snapshot for each pool"
        )));
    }
    let pool = driver.pool_of(first)?;
    if pool.backend.abilities().groups {
        return Ok(pool);
    }
    Err(Error::Precondition(format!(
        "pool {:?} cannot cut several volumes at one moment: {}; snapshot the volumes one by one",
        pool.name,
        match pool.backend.kind() {
            BackendKind::Image => "that takes a file system whose files share blocks (xfs, btrfs)",
            BackendKind::Btrfs =>
                "btrfs makes one snapshot at a time, and nothing holds the other volumes still meanwhile",
            BackendKind::Directory | BackendKind::Tmpfs => "pools of this kind make no snapshots",
        }
    )))
}

fn check_same(group: &Group, name: &str, sources: &[VolumeId]) -> Result<(), Error> {
    let differs = |what: String| {
        Err(Error::Exists(format!(
            "group snapshot {name:?} exists and {what}; use another name or the same request"
        )))
    };
    if group.name != name {
        return differs(format!("was made as {:?}", group.name));
    }
    // The order of the volumes says nothing.
    let of: BTreeSet<&VolumeId> = group.members.iter().map(|member| &member.source).collect();
    if of != sources.iter().collect() {
        let of = of.into_iter().map(ToString::to_string).collect::<Vec<_>>().join(", ");
        return differs(format!("is of volumes {of}"));
    }
    if group.deleting {
        return differs("is being deleted (DeleteVolumeGroupSnapshot ends that)".to_owned());
    }
    Ok(())
}

/// CSI v1.12, DeleteVolumeGroupSnapshot: the members go with their group. Volumes made from
/// them are independent of them.
fn delete(
    driver: &Driver,
    request: &DeleteVolumeGroupSnapshotRequest,
) -> Result<DeleteVolumeGroupSnapshotResponse, Error> {
    let id = match GroupId::parse(&request.group_snapshot_id) {
        Err(Error::NotFound(_)) => return Ok(DeleteVolumeGroupSnapshotResponse {}),
        parsed => parsed?,
    };
    let pool = pool_of(driver, &id)?;
    let _guard = driver.guards.take(&id)?;
    let Some(group) = pool.find_group(&id)? else {
        // As in DeleteVolume.
        pool.expect_in_place()?;
        return Ok(DeleteVolumeGroupSnapshotResponse {});
    };
    check_members(&group, &request.snapshot_ids)?;
    let members = group.members.iter().map(|member| driver.guards.take(&member.snapshot));
    let _members = members.collect::<Result<Vec<Guard>, Error>>()?;
    // One that a crash left half deleted has no folder any more.
    for member in &group.members {
        if let Some(folder) = pool.find_snapshot(&member.snapshot)? {
            expect_unused(pool, &member.snapshot, &folder)?;
        }
    }
    pool.discard_group(group)?;
    tracing::info!(group = %id, "deleted");
    Ok(DeleteVolumeGroupSnapshotResponse {})
}

/// As [`Driver::pool_of`], of a group.
fn pool_of<'a>(driver: &'a Driver, id: &GroupId) -> Result<&'a Pool, Error> {
    driver.pools.get(id.pool()).ok_or_else(|| {
        Error::Precondition(format!(
            "pool {:?} of group snapshot {id} is not configured here; add it again, or correct the id",
            id.pool()
        ))
    })
}

/// CSI v1.12, GetVolumeGroupSnapshot.
fn get(
    driver: &Driver,
    request: &GetVolumeGroupSnapshotRequest,
) -> Result<GetVolumeGroupSnapshotResponse, Error> {
    let id = GroupId::parse(&request.group_snapshot_id)?;
    let missing = || Error::NotFound(format!("group snapshot {:?} does not exist", id.as_str()));
    let pool = pool_of(driver, &id)?;
    let group = pool.find_group(&id)?.filter(|group| !group.deleting).ok_or_else(missing)?;
    check_members(&group, &request.snapshot_ids)?;
    Ok(GetVolumeGroupSnapshotResponse { group_snapshot: Some(wire(pool, &group)?) })
}

/// CSI v1.12: "Snapshot list mismatch" of both calls.
fn check_members(group: &Group, named: &[String]) -> Result<(), Error> {
    let members: BTreeSet<&str> = group.members.iter().map(|member| member.snapshot.as_str()).collect();
    if named.iter().map(String::as_str).collect::<BTreeSet<_>>() == members {
        return Ok(());
    }
    Err(Error::Invalid(format!(
        "snapshot_ids are not those of group snapshot {}, which has {}",
        group.id,
        members.into_iter().collect::<Vec<_>>().join(", ")
    )))
}

fn wire(pool: &Pool, group: &Group) -> Result<csi::VolumeGroupSnapshot, Error> {
    let snapshots = group
        .members
        .iter()
        .map(|member| Ok(wire_snapshot(&pool.snapshot_folder(&member.snapshot)?.read_snapshot()?)))
        .collect::<Result<Vec<_>, Error>>()?;
    Ok(csi::VolumeGroupSnapshot {
        group_snapshot_id: group.id.to_string(),
        snapshots,
        creation_time: Some(group.created.into()),
        ready_to_use: true,
    })
}
