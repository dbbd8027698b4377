//! NodeStageVolume and NodeUnstageVolume: a volume comes to the node once, however
//! many use it there.

use holdfast_proto::csi::{
    NodeStageVolumeRequest, NodeStageVolumeResponse, NodeUnstageVolumeRequest, NodeUnstageVolumeResponse,
};
use rustix::mount::MountAttrFlags;

use super::publish::by_record;
use crate::{
    backend::Stage,
    capability::{Access, Capability},
    config::Attach,
    controller::check_use,
    error::Error,
    kernel::{
        flags, mount,
        place::{Place, Seen, plain},
    },
    pool::{Pool, VolumeFolder},
    server::Driver,
    volume::{Content, NodeJournal, Staging, Volume},
    volume_id::VolumeId,
};

const STAGING: &str = "staging_target_path";

/// CSI v1.12, NodeStageVolume.
pub(super) fn stage(
    driver: &Driver,
    request: &NodeStageVolumeRequest,
) -> Result<NodeStageVolumeResponse, Error> {
    let capability = Capability::required(request.volume_capability.as_ref())?;
    if request.staging_target_path.is_empty() {
        return Err(Error::Invalid(format!("{STAGING} is required")));
    }
    let id = VolumeId::parse(&request.volume_id)?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    check_use(pool.backend.as_ref(), volume.content, &capability).map_err(Error::into_exceeded_on_node)?;
    if driver.attach == Attach::Required && !volume.attachments.contains_key(&driver.node_id) {
        return Err(Error::Precondition(format!(
            "volume {id} is not published to node {:?}; ControllerPublishVolume comes first",
            driver.node_id
        )));
    }
    let place = Place::required(STAGING, &request.staging_target_path)?;
    driver.expect_outside_of_pools(STAGING, &place)?;
    if place.look()?.is_none() {
        return Err(Error::Precondition(format!(
            "{} does not exist; make the folder first",
            place.path().display()
        )));
    }

    let mount_flags = match capability.access {
        Access::Mount { flags, .. } => flags,
        Access::Block => Vec::new(),
    };
    let wanted = Staging { path: place.text(), flags: mount_flags };
    let mut journal = folder.read_journal()?;
    let is_here = is_staged(pool, &folder, volume.content, &place)?;
    if let Some(staging) = &journal.staging {
        let same_path = staging.path == wanted.path;
        if is_here && same_path && *staging != wanted {
            return Err(Error::Exists(format!(
                "volume {id} is staged at {} with other mount flags, {:?}; unstage it first",
                wanted.path, staging.flags
            )));
        }
        if !same_path && is_staged_elsewhere(pool, &folder, Some(volume.content), &staging.path)? {
            return Err(Error::Precondition(format!(
                "volume {id} is staged at {}; unstage it there first",
                staging.path
            )));
        }
    }
    if is_here && volume.content != Content::Block {
        fill_copy(pool, &folder, &volume, &place, &wanted.flags)?;
        return Ok(NodeStageVolumeResponse {});
    }

    pool.expect_in_place()?;
    pool.expect_own_data(&folder)?;
    journal.staging = Some(wanted.clone());
    // Before the mount: a crash after it leaves a record that allows taking it away.
    folder.write_journal(&journal)?;
    let stage = Stage {
        folder: &folder,
        volume,
        staging: &place,
        flags: &wanted.flags,
        read_only: capability.mode.is_read_only(),
    };
    pool.backend.stage(&stage)?;
    fill_copy(pool, &folder, &stage.volume, &place, &wanted.flags)?;
    tracing::info!(path = ?wanted.path, "staged");
    Ok(NodeStageVolumeResponse {})
}

/// Makes the file system of a copy as large as its volume, which may be larger than what
/// it was copied from. Nobody asks for that (NodeExpandVolume): to an orchestrator the
/// volume has had this size from the beginning.
fn fill_copy(
    pool: &Pool,
    folder: &VolumeFolder,
    volume: &Volume,
    place: &Place,
    mount_flags: &[String],
) -> Result<(), Error> {
    let Content::Filesystem(_) = volume.content else { return Ok(()) };
    let attributes = flags::check(volume.content, mount_flags)?.attributes;
    if volume.origin.is_none() || attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY) {
        return Ok(());
    }
    pool.backend.node_expand(folder, volume, Some(place)).map(drop)
}

/// Whether the volume is staged at `place`. Something else mounted there is an error.
/// A raw device has no mount; wherever it is attached, it is staged.
fn is_staged(pool: &Pool, folder: &VolumeFolder, content: Content, place: &Place) -> Result<bool, Error> {
    if content == Content::Block {
        return pool.backend.is_in_use(folder);
    }
    match place.mounted()? {
        None => Ok(false),
        Some(seen) if pool.backend.is_staged_at(folder, &seen)? => Ok(true),
        Some(_) => Err(Error::Precondition(format!(
            "something that is not this volume is mounted at {}; unmount it first",
            place.path().display()
        ))),
    }
}

/// Where nobody knows what the volume holds, either sign of it counts.
fn is_staged_elsewhere(
    pool: &Pool,
    folder: &VolumeFolder,
    content: Option<Content>,
    path: &str,
) -> Result<bool, Error> {
    let is_mounted = || Ok(staged_at(pool, folder, path)?.is_some());
    match content {
        Some(Content::Block) => pool.backend.is_in_use(folder),
        Some(_) => is_mounted(),
        None => Ok(is_mounted()? || pool.backend.is_in_use(folder)?),
    }
}

/// What is mounted at `path`, if it is this volume.
pub(super) fn staged_at(
    pool: &Pool,
    folder: &VolumeFolder,
    path: &str,
) -> Result<Option<(Place, Seen)>, Error> {
    let Some(place) = Place::open(STAGING, path)? else { return Ok(None) };
    match place.mounted()? {
        Some(seen) if pool.backend.is_staged_at(folder, &seen)? => Ok(Some((place, seen))),
        _ => Ok(None),
    }
}

/// CSI v1.12, NodeUnstageVolume.
pub(super) fn unstage(
    driver: &Driver,
    request: &NodeUnstageVolumeRequest,
) -> Result<NodeUnstageVolumeResponse, Error> {
    let id = VolumeId::parse(&request.volume_id);
    // The path is checked first: a request without one is wrong for every volume.
    let place = Place::open(STAGING, &request.staging_target_path)?;
    let path = &plain(&request.staging_target_path).to_string_lossy().into_owned();
    let id = id?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume_even_damaged()?;
    let mut journal = folder.read_journal()?;

    if let Some(target) = published_target(&journal)? {
        return Err(Error::Precondition(format!(
            "volume {id} is still published at {target}; unpublish it first"
        )));
    }
    let recorded = journal.staging.as_ref().is_some_and(|staging| staging.path == *path);
    if let Some(place) = &place
        && let Some(seen) = place.mounted_even_dead()?
    {
        let is_ours = |seen: &Seen| by_record(recorded, seen, pool.backend.stands(&folder, seen));
        if !is_ours(&seen)? {
            return Err(mount::foreign(place, &seen, id.as_str()));
        }
        leave(pool, &folder, &id);
        if let Err(error) = mount::unmount_all(place, id.as_str(), &is_ours) {
            // It stays in use, and limited.
            if let Some(volume) = &volume {
                pool.limit_again(&folder, volume);
            }
            return Err(error);
        }
    }
    // Staged at another path: that one is not ours to take away here.
    if let Some(other) = journal.staging.as_ref().filter(|staging| staging.path != *path)
        && is_staged_elsewhere(pool, &folder, volume.as_ref().map(|volume| volume.content), &other.path)?
    {
        return Ok(NodeUnstageVolumeResponse {});
    }
    leave(pool, &folder, &id);
    pool.backend.unstage(&folder)?;
    if journal.staging.take().is_some() {
        folder.shorten_journal(&journal)?;
    }
    tracing::info!(?path, "unstaged");
    Ok(NodeUnstageVolumeResponse {})
}

/// What fails in it must not keep the volume here: the next start makes good for it.
fn leave(pool: &Pool, folder: &VolumeFolder, id: &VolumeId) {
    if let Err(error) = pool.backend.leave(folder) {
        tracing::warn!(volume = %id, %error, "its limits may stay on the device that it leaves");
    }
}

/// A recorded target path at which something is mounted still.
fn published_target(journal: &NodeJournal) -> Result<Option<&str>, Error> {
    for path in journal.targets.keys() {
        if let Some(place) = Place::open("target_path", path)?
            && place.mounted_even_dead()?.is_some()
        {
            return Ok(Some(path));
        }
    }
    Ok(None)
}
