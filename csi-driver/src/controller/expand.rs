//! ControllerExpandVolume.

use holdfast_proto::csi::{ControllerExpandVolumeRequest, ControllerExpandVolumeResponse};

use super::{check_use, create::bounds, wire_bytes};
use crate::{
    capability::Capability,
    error::Error,
    server::Driver,
    size::{self, Bytes, Wanted},
    volume::Volume,
    volume_id::VolumeId,
};

/// CSI v1.12, ControllerExpandVolume.
pub(super) fn expand(
    driver: &Driver,
    request: &ControllerExpandVolumeRequest,
) -> Result<ControllerExpandVolumeResponse, Error> {
    let id = VolumeId::parse(&request.volume_id)?;
    let range = request
        .capacity_range
        .as_ref()
        .ok_or_else(|| Error::Invalid("capacity_range is required".to_owned()))?;
    let wanted = Wanted::from_range(Some(range))?;
    if wanted == Wanted::default() {
        return Err(Error::Invalid("capacity_range has neither required_bytes nor limit_bytes".to_owned()));
    }
    let capability = request.volume_capability.as_ref().map(Capability::read).transpose()?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    // One that failed half-way may have made it larger than was written down.
    let capacity = volume.capacity.max(pool.backend.measured_size(&folder));
    if let Some(capability) = &capability {
        check_use(pool.backend.as_ref(), volume.content, capability)?;
    }
    if wanted.limit.is_some_and(|limit| limit < capacity) {
        return Err(Error::OutOfRange(format!(
            "volume {id} has {} already ({capacity} bytes) and cannot be made smaller",
            Bytes(capacity),
        )));
    }
    let size = match wanted.required {
        Some(required) if required > capacity => size::choose(wanted, bounds(pool, volume.content))?,
        _ => capacity,
    };
    let grown = Volume { capacity: size, ..volume.clone() };
    pool.grow(&folder, &volume, &grown)?;
    Ok(ControllerExpandVolumeResponse {
        capacity_bytes: wire_bytes(size),
        // Whether the node did its part before is for the node to see; asking again is cheap.
        node_expansion_required: pool.backend.needs_node_expansion(),
    })
}
