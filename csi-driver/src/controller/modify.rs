//! ControllerModifyVolume.

use holdfast_proto::csi::{ControllerModifyVolumeRequest, ControllerModifyVolumeResponse};

use crate::{
    error::Error,
    mutable::{IoLimits, Mutable},
    server::Driver,
    volume::Volume,
    volume_id::VolumeId,
};

/// Whether the volume's pool is configured to limit iops and bandwidth, and the cgroup for that
/// cannot be used.
pub(super) fn lacks_cgroup(driver: &Driver, volume_id: &str) -> bool {
    let limits = IoLimits { iops_read: Some(u64::MAX), ..IoLimits::default() };
    let limited = Mutable { limits, ..Mutable::default() };
    let pool = VolumeId::parse(volume_id).ok().and_then(|id| driver.pools.get(id.pool()));
    pool.is_some_and(|pool| matches!(pool.check_mutable(&limited), Err(Error::Precondition(_))))
}

/// CSI v1.12, ControllerModifyVolume. Everything that was asked is checked before anything
/// changes. Then the data is changed before the metadata says so: where that fails, nothing
/// has changed, and what a crash between leaves is ended by the repeated call.
pub(super) fn modify(
    driver: &Driver,
    request: &ControllerModifyVolumeRequest,
) -> Result<ControllerModifyVolumeResponse, Error> {
    let id = VolumeId::parse(&request.volume_id)?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    let changed = Volume { mutable: volume.mutable.changed(&request.mutable_parameters)?, ..volume.clone() };
    // On the wire an empty map is the same as none: it names nothing, so nothing changes.
    if request.mutable_parameters.is_empty() {
        return Ok(ControllerModifyVolumeResponse {});
    }
    pool.check_mutable(&changed.mutable)?;
    pool.expect_in_place()?;
    pool.backend.modify(&folder, &changed)?;
    if changed != volume {
        folder.write_volume(&changed)?;
    }
    tracing::info!(volume = %id, mutable = ?changed.mutable, "modified");
    Ok(ControllerModifyVolumeResponse {})
}
