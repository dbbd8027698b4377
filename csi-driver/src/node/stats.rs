//! NodeGetVolumeStats: how much of a volume is used, and how it is.

use holdfast_proto::csi::{
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage, volume_usage::Unit,
};
use rustix::fs::fstatvfs;

use super::{ephemeral, publish::is_this_volume};
use crate::{
    error::{Error, Tried as _},
    health::{Examination, condition, of_path},
    kernel::{
        loopdev,
        place::{Place, Seen, plain},
    },
    pool::{Pool, VolumeFolder},
    server::Driver,
    volume::{Content, Volume},
    volume_id::VolumeId,
};

/// How errors say that a path does not lead to the volume.
pub(super) const NOT_MOUNTED: &str = "not mounted at";

/// CSI v1.12, NodeGetVolumeStats. Without the volume's guard: it changes nothing, and a
/// long operation must not blind monitoring.
///
/// A volume that is so damaged that its usage cannot be had is no error where the journal
/// says that it was brought to this path: the condition is what the caller has to see.
pub(super) fn stats(
    driver: &Driver,
    request: &NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Error> {
    // Invalid as well, but no volume is ever at a relative path, and NOT_FOUND is the code
    // that csi-sanity asks for.
    let complete = !request.volume_id.is_empty() && !request.volume_path.is_empty();
    if complete && !request.volume_path.starts_with('/') {
        return Err(Error::NotFound(format!(
            "no volume is {NOT_MOUNTED} {:?}: volume_path has to be absolute",
            request.volume_path
        )));
    }
    let id = VolumeId::parse(&request.volume_id);
    let place = Place::open("volume_path", &request.volume_path)?;
    if let Some(place) = &place
        && id.is_err()
        && ephemeral::is_at(driver, &request.volume_id, place)?
    {
        let usage = usage_of(place)?;
        // Memory that is mounted is well.
        return Ok(NodeGetVolumeStatsResponse { usage, volume_condition: Some(condition(&[])) });
    }
    let id = id?;
    let pool = driver.pool_of(&id)?;
    let folder = pool.folder(&id)?;
    let journal = folder.read_journal()?;
    let path = plain(&request.volume_path).to_string_lossy().into_owned();
    let was_here = journal.targets.contains_key(&path)
        || journal.staging.as_ref().is_some_and(|staging| staging.path == path);
    let not_here = || Error::NotFound(format!("volume {id} is {NOT_MOUNTED} {}", request.volume_path));
    let place = place.ok_or_else(not_here)?;
    // The one look that needs no answer of the file system: without a mount nothing is here.
    let mount = place.mounted_even_dead()?.ok_or_else(not_here)?;
    let damaged = |error: Error| {
        tracing::warn!(%error, "the volume is damaged");
        Ok(NodeGetVolumeStatsResponse {
            usage: Vec::new(),
            volume_condition: Some(condition(&[error.to_string()])),
        })
    };
    let volume = match folder.read_volume() {
        Ok(volume) => volume,
        Err(error @ Error::Corrupt { .. }) if was_here => return damaged(error),
        Err(error) => return Err(error),
    };
    let mut ailments = Examination::begin().of(pool, &folder, &volume);
    ailments.extend(of_path(&journal, volume.content, &path, mount.mount_id)?);
    let usage = match measure(pool, &folder, &volume, &place) {
        Ok(Some(usage)) => usage,
        Ok(None) if was_here => {
            ailments.push(format!("what is mounted at {path} is not on this volume's data any more"));
            Vec::new()
        }
        Ok(None) => return Err(not_here()),
        Err(error) if was_here && !ailments.is_empty() => {
            tracing::warn!(%error, "the usage of a damaged volume cannot be had");
            Vec::new()
        }
        Err(error @ Error::Io { .. }) if was_here => return damaged(error),
        Err(error) => return Err(error),
    };
    Ok(NodeGetVolumeStatsResponse { usage, volume_condition: Some(condition(&ailments)) })
}

/// How much is used; `None` when it is not this volume that is mounted here.
fn measure(
    pool: &Pool,
    folder: &VolumeFolder,
    volume: &Volume,
    place: &Place,
) -> Result<Option<Vec<VolumeUsage>>, Error> {
    let Some(seen) = place.mounted()? else { return Ok(None) };
    if !is_this_volume(pool, folder, volume, &seen)? {
        return Ok(None);
    }
    usage(pool, folder, volume, place, &seen).map(Some)
}

fn usage(
    pool: &Pool,
    folder: &VolumeFolder,
    volume: &Volume,
    place: &Place,
    seen: &Seen,
) -> Result<Vec<VolumeUsage>, Error> {
    if volume.content == Content::Block {
        let total = loopdev::device_size(seen.rdev)?;
        return Ok(vec![VolumeUsage {
            total: wire(total),
            unit: Unit::Bytes.into(),
            ..VolumeUsage::default()
        }]);
    }
    let mut usage = usage_of(place)?;
    if let (Some(used), Some(bytes)) = (pool.backend.quota_usage(folder, volume)?, usage.first_mut()) {
        let left = volume.capacity.saturating_sub(used);
        bytes.available = bytes.available.min(wire(left));
        bytes.total = wire(volume.capacity);
        bytes.used = wire(used);
    }
    Ok(usage)
}

/// What the file system says that is mounted there: its bytes and, if it counts them, inodes.
fn usage_of(place: &Place) -> Result<Vec<VolumeUsage>, Error> {
    let stat = fstatvfs(place.open_folder()?)
        .tried(|| format!("asking {} for its usage", place.path().display()))?;
    let bytes = VolumeUsage {
        total: wire(stat.f_blocks.saturating_mul(stat.f_frsize)),
        available: wire(stat.f_bavail.saturating_mul(stat.f_frsize)),
        used: wire(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize)),
        unit: Unit::Bytes.into(),
    };
    let inodes = VolumeUsage {
        total: wire(stat.f_files),
        available: wire(stat.f_favail),
        used: wire(stat.f_files.saturating_sub(stat.f_ffree)),
        unit: Unit::Inodes.into(),
    };
    // btrfs makes inodes as it needs them and counts none.
    Ok(if stat.f_files == 0 { vec![bytes] } else { vec![bytes, inodes] })
}

fn wire(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
