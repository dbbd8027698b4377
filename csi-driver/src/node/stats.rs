//! NodeGetVolumeStats.

use holdfast_proto::csi::{
    NodeGetVolumeStatsRequest, NodeGetVolumeStatsResponse, VolumeUsage, volume_usage::Unit,
};
use rustix::fs::fstatvfs;

use super::publish::is_this_volume;
use crate::{
    error::{Error, Tried as _},
    kernel::{loopdev, place::Place},
    server::Driver,
    volume::Content,
    volume_id::VolumeId,
};

/// How errors say that a path does not lead to the volume.
pub(super) const NOT_MOUNTED: &str = "not mounted at";

/// CSI v1.12, NodeGetVolumeStats. Without the volume's guard: it changes nothing, and a
/// long operation must not blind monitoring.
pub(super) fn stats(
    driver: &Driver,
    request: &NodeGetVolumeStatsRequest,
) -> Result<NodeGetVolumeStatsResponse, Error> {
    let id = VolumeId::parse(&request.volume_id)?;
    let place = Place::open("volume_path", &request.volume_path)?;
    let pool = driver.pool_of(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    let not_here =
        || Error::NotFound(format!("volume {id} is {NOT_MOUNTED} {}", request.volume_path));
    let place = place.ok_or_else(not_here)?;
    let seen = place.mounted()?.ok_or_else(not_here)?;
    if !is_this_volume(pool, &folder, &volume, &seen)? {
        return Err(not_here());
    }
    let usage = if volume.content == Content::Block {
        let total = loopdev::device_size(seen.rdev)?;
        vec![VolumeUsage { total: wire(total), unit: Unit::Bytes.into(), ..VolumeUsage::default() }]
    } else {
        let stat = fstatvfs(place.open_folder()?)
            .tried(|| format!("asking {} for its usage", request.volume_path))?;
        let mut bytes = VolumeUsage {
            total: wire(stat.f_blocks.saturating_mul(stat.f_frsize)),
            available: wire(stat.f_bavail.saturating_mul(stat.f_frsize)),
            used: wire(stat.f_blocks.saturating_sub(stat.f_bfree).saturating_mul(stat.f_frsize)),
            unit: Unit::Bytes.into(),
        };
        if let Some(used) = pool.backend.quota_usage(&folder, &volume)? {
            let left = volume.capacity.saturating_sub(used);
            bytes.available = bytes.available.min(wire(left));
            bytes.total = wire(volume.capacity);
            bytes.used = wire(used);
        }
        let inodes = VolumeUsage {
            total: wire(stat.f_files),
            available: wire(stat.f_favail),
            used: wire(stat.f_files.saturating_sub(stat.f_ffree)),
            unit: Unit::Inodes.into(),
        };
        // btrfs makes inodes as it needs them and counts none.
        if stat.f_files == 0 { vec![bytes] } else { vec![bytes, inodes] }
    };
    Ok(NodeGetVolumeStatsResponse { usage, volume_condition: None })
}

fn wire(value: u64) -> i64 {
    i64::try_from(value).unwrap_or(i64::MAX)
}
