//! NodeExpandVolume.

use holdfast_proto::csi::{NodeExpandVolumeRequest, NodeExpandVolumeResponse};

use super::{publish::is_this_volume, stats::NOT_MOUNTED};
use crate::{
    capability::Capability,
    controller::check_use,
    error::Error,
    kernel::place::Place,
    server::Driver,
    size::{Bytes, Wanted},
    volume::Content,
    volume_id::VolumeId,
};

/// CSI v1.12, NodeExpandVolume: the device and the file system on it take up the size
/// that ControllerExpandVolume gave. Repeated calls find nothing left to do.
pub(super) fn expand(
    driver: &Driver,
    request: &NodeExpandVolumeRequest,
) -> Result<NodeExpandVolumeResponse, Error> {
    let wanted = Wanted::from_range(request.capacity_range.as_ref())?;
    let capability = request.volume_capability.as_ref().map(Capability::read).transpose()?;
    let id = VolumeId::parse(&request.volume_id)?;
    let path = Place::open("volume_path", &request.volume_path)?;
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let folder = pool.folder(&id)?;
    let volume = folder.read_volume()?;
    if let Some(capability) = &capability {
        check_use(pool.backend.as_ref(), volume.content, capability)?;
    }
    if let Some(required) = wanted.required.filter(|required| *required > volume.capacity) {
        return Err(Error::OutOfRange(format!(
            "{} is more than volume {id} has, {}; ControllerExpandVolume comes first",
            Bytes(required),
            Bytes(volume.capacity)
        )));
    }
    if let Some(limit) = wanted.limit.filter(|limit| *limit < volume.capacity) {
        return Err(Error::OutOfRange(format!(
            "volume {id} has {} already, more than limit_bytes, {}; volumes do not shrink",
            Bytes(volume.capacity),
            Bytes(limit)
        )));
    }
    let not_here = || {
        let error = Error::NotFound(format!("volume {id} is {NOT_MOUNTED} {}", request.volume_path));
        pool.explained(&folder, error)
    };
    let mounted = match volume.content {
        // The device grows where it is attached; the path only names it.
        Content::Block => None,
        Content::Filesystem(_) | Content::Folder => {
            let place = path.ok_or_else(not_here)?;
            match place.mounted()? {
                Some(seen) if is_this_volume(pool, &folder, &volume, &seen)? => Some(place),
                _ => return Err(not_here()),
            }
        }
    };
    let expanded = pool.backend.node_expand(&folder, &volume, mounted.as_ref());
    let size = expanded.map_err(|error| pool.explained(&folder, error))?;
    tracing::info!(size = %Bytes(size), "expanded");
    Ok(NodeExpandVolumeResponse { capacity_bytes: i64::try_from(size).unwrap_or(i64::MAX) })
}
