//! NodePublishVolume and NodeUnpublishVolume: a staged volume appears at the path
//! where a workload uses it.

use std::path::Path;

use holdfast_proto::csi::{
    NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeRequest,
    NodeUnpublishVolumeResponse,
};
use rustix::{
    fs::{CWD, FileType, Mode as FileMode, OFlags, openat, stat},
    mount::MountAttrFlags,
};

use super::{ephemeral, stage::staged_at};
use crate::{
    backend::Stands,
    capability::{Access, Capability, Mode},
    controller::check_use,
    error::{Error, Tried as _},
    kernel::{
        device, flags, mount,
        place::{Place, Seen, plain},
    },
    pool::{Pool, VolumeFolder},
    server::Driver,
    volume::{Content, NodeJournal, Target, Volume},
    volume_id::VolumeId,
};

pub(super) const TARGET: &str = "target_path";

/// CSI v1.12, NodePublishVolume.
pub(super) fn publish(
    driver: &Driver,
    request: &NodePublishVolumeRequest,
) -> Result<NodePublishVolumeResponse, Error> {
    let capability = Capability::required(request.volume_capability.as_ref())?;
    if ephemeral::is_wanted(&request.volume_context) {
        return ephemeral::publish(driver, request, capability);
    }
    if request.target_path.is_empty() {
        return Err(Error::Invalid(format!("{TARGET} is required")));
    }
    // Not a missing field like others: the table has a row of its own for it.
    if request.staging_target_path.is_empty() {
        return Err(Error::Precondition(
            "staging_target_path is not set; call NodeStageVolume first and give its path here".to_owned(),
        ));
    }
    let id = VolumeId::parse(&request.volume_id)?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    check_use(pool.backend.as_ref(), volume.content, &capability).map_err(Error::into_exceeded_on_node)?;
    let path = plain(&request.target_path);
    let staging = plain(&request.staging_target_path);
    if path.starts_with(&staging) || staging.starts_with(&path) {
        return Err(Error::Invalid(format!(
            "target_path {path:?} and staging_target_path {staging:?} lie in one another; give two separate paths"
        )));
    }
    let source = Source::find(pool, &folder, &volume, &request.staging_target_path)
        .map_err(|error| pool.explained(&folder, error))?;
    let read_only = request.readonly || capability.mode.is_read_only();
    if volume.content == Content::Block && request.readonly && !capability.mode.is_read_only() {
        return Err(Error::Invalid(
            "a raw block device cannot be made read-only for one target only; use the access mode \
             SINGLE_NODE_READER_ONLY for the volume"
                .to_owned(),
        ));
    }
    let mount_flags = match capability.access {
        Access::Mount { flags, .. } => flags,
        Access::Block => Vec::new(),
    };
    let mut attributes = flags::check(volume.content, &mount_flags)?.attributes;
    attributes.set(
        MountAttrFlags::MOUNT_ATTR_RDONLY,
        read_only || attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY),
    );
    let wanted = Target { mode: capability.mode, readonly: request.readonly, flags: mount_flags };
    let place = Place::required(TARGET, &request.target_path)?;
    driver.expect_outside_of_pools(TARGET, &place)?;
    let path = place.text();
    let mut journal = folder.read_journal()?;

    if let Some(seen) = place.mounted()? {
        if !source.is_at(&seen) {
            return Err(Error::Precondition(format!(
                "something that is not volume {id} is mounted at {path}; unmount it first"
            )));
        }
        match journal.targets.get(&path) {
            Some(target) if *target != wanted => {
                return Err(Error::Exists(format!(
                    "volume {id} is published at {path} with other arguments: {:?}, readonly {}, flags {:?}",
                    target.mode, target.readonly, target.flags
                )));
            }
            Some(_) => return Ok(NodePublishVolumeResponse {}),
            // The journal was lost, or someone else mounted it: made anew, as asked for.
            None => mount::unmount_all(&place, id.as_str(), &|seen| Ok(source.is_at(seen)))?,
        }
    }
    refuse_second_target(&id, &source, &journal, &path, &wanted)?;
    source.expect_attached_for(&id, wanted.mode)?;
    place.expect_empty()?;
    pool.expect_in_place()?;

    // Before the mount: a crash after it leaves a record that allows taking it away.
    journal.targets.insert(path, wanted);
    folder.write_journal(&journal)?;
    match volume.content {
        Content::Block => place.make_file()?,
        Content::Filesystem(_) | Content::Folder => place.make_folder()?,
    }
    source.publish_at(&place, attributes)?;
    tracing::info!(path = ?place.path(), read_only, "published");
    Ok(NodePublishVolumeResponse {})
}

/// CSI v1.12, NodePublishVolume, the second table: two targets at once only where both
/// were published with SINGLE_NODE_MULTI_WRITER.
fn refuse_second_target(
    id: &VolumeId,
    source: &Source,
    journal: &NodeJournal,
    path: &str,
    wanted: &Target,
) -> Result<(), Error> {
    for (other, target) in journal.targets.iter().filter(|(other, _)| *other != path) {
        if wanted.mode.allows_several_targets() && target.mode.allows_several_targets() {
            continue;
        }
        // Recorded and not mounted: a call that ended half-way, or unmounted by hand.
        let Some(place) = Place::open(TARGET, other)? else { continue };
        if place.mounted()?.is_some_and(|seen| source.is_at(&seen)) {
            return Err(Error::Precondition(format!(
                "volume {id} is published at {other} and its access mode allows one path only; unpublish it there \
                 first, or use SINGLE_NODE_MULTI_WRITER"
            )));
        }
    }
    Ok(())
}

/// Where a published volume comes from.
enum Source {
    /// The file system mounted at the staging path.
    Mounted { place: Place, seen: Seen },
    /// A device node.
    Device { path: std::path::PathBuf, rdev: u64 },
}

impl Source {
    fn find(pool: &Pool, folder: &VolumeFolder, volume: &Volume, staging: &str) -> Result<Self, Error> {
        if volume.content == Content::Block {
            let path = pool.backend.device(folder)?;
            let rdev = device_number(&path)?;
            return Ok(Self::Device { path, rdev });
        }
        match staged_at(pool, folder, staging)? {
            Some((place, seen)) => Ok(Self::Mounted { place, seen }),
            None => Err(Error::Precondition(format!(
                "volume {} is not staged at {staging}; NodeStageVolume comes first",
                volume.id
            ))),
        }
    }

    /// A device node takes writes wherever it is mounted, if its device does: who may write was decided
    /// when the volume was staged (CSI v1.12, NodePublishVolume, "Exceeds capabilities").
    fn expect_attached_for(&self, id: &VolumeId, mode: Mode) -> Result<(), Error> {
        let Self::Device { rdev, .. } = self else { return Ok(()) };
        match (device::is_read_only(*rdev)?, mode.is_read_only()) {
            (true, false) => Err(Error::Precondition(format!(
                "volume {id} is staged with SINGLE_NODE_READER_ONLY, so nothing can be written to its device; publish \
                 it with that access mode, or unstage it and stage it with this one"
            ))),
            (false, true) => Err(Error::Precondition(format!(
                "volume {id} is staged to be written to, and a raw block device cannot be made read-only for one \
                 target only; unstage it and stage it with SINGLE_NODE_READER_ONLY first"
            ))),
            _ => Ok(()),
        }
    }

    /// Whether what is mounted somewhere is this volume.
    fn is_at(&self, seen: &Seen) -> bool {
        match self {
            Self::Mounted { seen: staged, .. } => staged.same_file(seen),
            Self::Device { rdev, .. } => seen.kind == FileType::BlockDevice && seen.rdev == *rdev,
        }
    }

    fn publish_at(&self, target: &Place, attributes: MountAttrFlags) -> Result<(), Error> {
        match self {
            Self::Mounted { place, .. } => mount::bind(place.open_here()?, attributes, target),
            // Attributes mean nothing for a device node; a read-only device is attached so.
            Self::Device { path, .. } => {
                let node = openat(CWD, path, OFlags::PATH | OFlags::CLOEXEC, FileMode::empty())
                    .tried(|| format!("opening {}", path.display()))?;
                mount::bind(node, MountAttrFlags::empty(), target)
            }
        }
    }
}

fn device_number(path: &Path) -> Result<u64, Error> {
    Ok(stat(path).tried(|| format!("looking at {}", path.display()))?.st_rdev)
}

/// CSI v1.12, NodeUnpublishVolume: the mount goes, then the empty folder or file under
/// it. Never what a folder holds: only what is unmounted and empty is removed, and nothing
/// at a path where the volume was not published.
pub(super) fn unpublish(
    driver: &Driver,
    request: &NodeUnpublishVolumeRequest,
) -> Result<NodeUnpublishVolumeResponse, Error> {
    let id = VolumeId::parse(&request.volume_id);
    let place = Place::open(TARGET, &request.target_path)?;
    if ephemeral::is_meant(driver, &request.volume_id, place.as_ref())? {
        return ephemeral::unpublish(driver, &request.volume_id, place);
    }
    let id = id?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let content = folder.read_volume_even_damaged()?.map(|volume| volume.content);
    let mut journal = folder.read_journal()?;
    let path = plain(&request.target_path).to_string_lossy().into_owned();
    let recorded = journal.targets.contains_key(&path);
    if let Some(place) = place {
        // An empty folder goes, and a pool has some that must not.
        driver.expect_outside_of_pools(TARGET, &place)?;
        let was_mounted = place.mounted_even_dead()?.is_some();
        mount::unmount_all(&place, id.as_str(), &|seen| {
            by_record(recorded, seen, ask(pool, &folder, content, seen))
        })?;
        // Only what was made to publish this volume.
        if was_mounted || folder.read_journal_of_any_boot()?.targets.contains_key(&path) {
            place.remove()?;
        }
    }
    if journal.targets.remove(&path).is_some() {
        folder.shorten_journal(&journal)?;
    }
    tracing::info!(?path, "unpublished");
    Ok(NodeUnpublishVolumeResponse {})
}

/// Whether a mount may be taken away as this volume's: by `asked`, what the kernel says. The
/// record counts only where that cannot be had, of a mount that is dead and of a volume
/// whose data or device is gone, or says no more than that it may be, of data that was moved out
/// of the volume's folder, so that a pod can end.
pub(super) fn by_record(recorded: bool, seen: &Seen, asked: Result<Stands, Error>) -> Result<bool, Error> {
    match asked {
        Ok(Stands::OnData | Stands::OnOther) => Ok(true),
        Ok(Stands::Astray) => Ok(recorded),
        Ok(Stands::Elsewhere) => Ok(recorded && seen.is_dead()),
        Err(_) if recorded => Ok(true),
        Err(Error::Precondition(_)) => Ok(false),
        Err(error) => Err(error),
    }
}

/// Whether what is mounted somewhere is this volume, by the kernel's word alone.
pub(super) fn is_this_volume(
    pool: &Pool,
    folder: &VolumeFolder,
    volume: &Volume,
    seen: &Seen,
) -> Result<bool, Error> {
    by_record(false, seen, ask(pool, folder, Some(volume.content), seen))
}

/// As [`is_this_volume`], with an error for a raw volume that is not attached: the kernel
/// knows no device of it then. Where nobody knows what the volume holds, what is mounted shows.
fn ask(pool: &Pool, folder: &VolumeFolder, content: Option<Content>, seen: &Seen) -> Result<Stands, Error> {
    match (content, seen.kind) {
        (Some(Content::Block) | None, FileType::BlockDevice) => {
            if pool.backend.is_staged_at(folder, seen)? {
                return Ok(Stands::OnData);
            }
            let is_it = device_number(&pool.backend.device(folder)?)? == seen.rdev;
            Ok(if is_it { Stands::OnData } else { Stands::Elsewhere })
        }
        (Some(Content::Block), _) => Ok(Stands::Elsewhere),
        _ => pool.backend.stands(folder, seen),
    }
}
