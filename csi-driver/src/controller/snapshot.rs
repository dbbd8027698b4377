//! CreateSnapshot, DeleteSnapshot, ListSnapshots and GetSnapshot.

use std::collections::HashMap;

use holdfast_proto::csi::{
    self, CreateSnapshotRequest, CreateSnapshotResponse, DeleteSnapshotRequest, DeleteSnapshotResponse,
    GetSnapshotRequest, GetSnapshotResponse, ListSnapshotsRequest, ListSnapshotsResponse,
    list_snapshots_response::Entry,
};

use super::{create::INFORMATIVE, name::check_name, page, wire_bytes};
use crate::{
    error::Error,
    guard::Name,
    pool::{Pool, VolumeFolder, Wish},
    server::Driver,
    size::Bytes,
    snapshot::{Snapshot, SnapshotId},
    volume_id::VolumeId,
};

/// CSI v1.12, CreateSnapshot. The id follows from the name and the source's pool, so a
/// repeated call finds the snapshot that the first one made, the source being gone or not.
/// It is ready at once: nothing is uploaded.
pub(super) fn create(
    driver: &Driver,
    request: &CreateSnapshotRequest,
) -> Result<CreateSnapshotResponse, Error> {
    check_name(&request.name)?;
    if request.source_volume_id.is_empty() {
        return Err(Error::Invalid("source_volume_id is required".to_owned()));
    }
    check_parameters(&request.parameters)?;
    let source = VolumeId::parse(&request.source_volume_id)?;
    let pool = driver.pool_of(&source)?;
    let id = SnapshotId::derive(&pool.name, &request.name);
    let _name = driver.guards.take(&Name::snapshot(&request.name))?;
    let _guard = driver.guards.take(&id)?;
    let answer = |snapshot: &Snapshot| CreateSnapshotResponse { snapshot: Some(wire_snapshot(snapshot)) };
    if let Some(folder) = pool.find_snapshot(&id)? {
        let snapshot = folder.read_snapshot()?;
        check_same(&snapshot, &request.name, &source)?;
        pool.settle_snapshots()?;
        return Ok(answer(&snapshot));
    }
    // The pool is part of the id, so the same name for a volume elsewhere would not be seen.
    // From memory, as in CreateVolume.
    for other in driver.pools.values().filter(|other| other.name != pool.name) {
        if other.has_snapshot(&SnapshotId::derive(&other.name, &request.name)) {
            return Err(Error::Exists(format!(
                "snapshot {:?} exists in pool {:?}; use another name, or delete it there",
                request.name, other.name
            )));
        }
    }
    let _source_guard = driver.guards.take(&source)?;
    let folder = pool.folder(&source)?;
    let volume = pool.read_grown(&folder)?;
    let snapshot = pool.cut(Wish { id, name: request.name.clone(), source: &folder, volume })?;
    tracing::info!(snapshot = %snapshot.id, volume = %source, size = %Bytes(snapshot.capacity), "cut");
    Ok(answer(&snapshot))
}

/// A class of snapshots has nothing to say yet; what is not known is refused, for a
/// misspelled parameter must not be a silent default.
pub(crate) fn check_parameters(parameters: &HashMap<String, String>) -> Result<(), Error> {
    match parameters.keys().find(|name| !name.starts_with(INFORMATIVE)) {
        Some(name) => Err(Error::Invalid(format!("parameter {name:?} is not known; snapshots have none"))),
        None => Ok(()),
    }
}

fn check_same(snapshot: &Snapshot, name: &str, source: &VolumeId) -> Result<(), Error> {
    let differs = |what: String| {
        Err(Error::Exists(format!(
            "snapshot {name:?} exists and {what}; use another name or the same request"
        )))
    };
    if snapshot.name != name {
        return differs(format!("was made as {:?}", snapshot.name));
    }
    if snapshot.source != *source {
        return differs(format!("is of volume {}", snapshot.source));
    }
    if let Some(group) = &snapshot.group {
        return differs(format!("belongs to group {group}"));
    }
    Ok(())
}

/// The driver never attaches or mounts a snapshot; a person who looks into one may (CSI v1.12,
/// DeleteSnapshot, "Snapshot in use").
pub(crate) fn expect_unused(pool: &Pool, id: &SnapshotId, folder: &VolumeFolder) -> Result<(), Error> {
    if pool.backend.is_in_use(folder)? {
        return Err(Error::Precondition(format!(
            "snapshot {id} is mounted or attached on this node, and not by this driver; undo that, then delete it"
        )));
    }
    Ok(())
}

/// CSI v1.12, DeleteSnapshot. Volumes made from it are independent of it.
pub(super) fn delete(
    driver: &Driver,
    request: &DeleteSnapshotRequest,
) -> Result<DeleteSnapshotResponse, Error> {
    let id = match SnapshotId::parse(&request.snapshot_id) {
        Err(Error::SnapshotNotFound(_)) => return Ok(DeleteSnapshotResponse {}),
        parsed => parsed?,
    };
    let pool = driver.pool_of_snapshot(&id)?;
    let _guard = driver.guards.take(&id)?;
    let Some(folder) = pool.find_snapshot(&id)? else {
        // As in DeleteVolume.
        pool.expect_in_place()?;
        pool.settle_snapshots()?;
        return Ok(DeleteSnapshotResponse {});
    };
    if let Some(group) = folder.read_snapshot()?.group {
        return Err(Error::Invalid(format!(
            "snapshot {id} is part of group {group} and cannot be deleted alone; delete the group \
             (DeleteVolumeGroupSnapshot)"
        )));
    }
    expect_unused(pool, &id, &folder)?;
    pool.discard_snapshot(&id)?;
    tracing::info!(snapshot = %id, "deleted");
    Ok(DeleteSnapshotResponse {})
}

/// CSI v1.12, ListSnapshots, in the order of ids. A filter for what does not exist lists
/// nothing and is no error. A damaged snapshot is one, whatever the filter: the wire requires a
/// snapshot's source and moment, which nobody knows then, and left out it would count as gone.
pub(super) fn list(driver: &Driver, request: &ListSnapshotsRequest) -> Result<ListSnapshotsResponse, Error> {
    let page = page::Page::<SnapshotId>::asked(request.max_entries, &request.starting_token)?;
    let source = match VolumeId::parse(&request.source_volume_id) {
        _ if request.source_volume_id.is_empty() => None,
        Err(Error::VolumeNotFound(_)) => return Ok(ListSnapshotsResponse::default()),
        parsed => Some(parsed?),
    };
    let mut ids = Vec::new();
    if request.snapshot_id.is_empty() {
        // A snapshot that was received may be of a volume elsewhere.
        for pool in driver.pools.values() {
            ids.extend(pool.snapshot_ids()?);
        }
    } else if let Ok(id) = SnapshotId::parse(&request.snapshot_id) {
        driver.pool_of_snapshot(&id)?;
        ids.push(id);
    }
    ids.sort();
    let (entries, next_token) = page.fill(ids, |id| {
        let snapshot = look(driver, id)?;
        Ok(snapshot
            .filter(|snapshot| source.as_ref().is_none_or(|source| snapshot.source == *source))
            .map(|snapshot| Entry { snapshot: Some(wire_snapshot(&snapshot)) }))
    })?;
    Ok(ListSnapshotsResponse { entries, next_token })
}

/// One snapshot; `None` when it does not exist.
fn look(driver: &Driver, id: &SnapshotId) -> Result<Option<Snapshot>, Error> {
    let pool = driver.pool_of_snapshot(id)?;
    let Some(folder) = pool.find_snapshot(id)? else { return Ok(None) };
    match folder.read_snapshot() {
        // Moved to the trash between the two lines above.
        Err(Error::CorruptSnapshot { .. }) if pool.find_snapshot(id)?.is_none() => Ok(None),
        read => read.map(Some),
    }
}

/// CSI v1.12, GetSnapshot.
pub(super) fn get(driver: &Driver, request: &GetSnapshotRequest) -> Result<GetSnapshotResponse, Error> {
    let id = SnapshotId::parse(&request.snapshot_id)?;
    let snapshot = look(driver, &id)?.ok_or_else(|| Error::SnapshotNotFound(id.to_string()))?;
    Ok(GetSnapshotResponse { snapshot: Some(wire_snapshot(&snapshot)) })
}

/// A snapshot as the wire shows it.
pub(crate) fn wire_snapshot(snapshot: &Snapshot) -> csi::Snapshot {
    csi::Snapshot {
        size_bytes: wire_bytes(snapshot.capacity),
        snapshot_id: snapshot.id.to_string(),
        source_volume_id: snapshot.source.to_string(),
        creation_time: Some(snapshot.created.into()),
        ready_to_use: true,
        group_snapshot_id: snapshot.group.as_ref().map(ToString::to_string).unwrap_or_default(),
    }
}
