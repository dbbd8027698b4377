//! ListVolumes, ControllerGetVolume and ValidateVolumeCapabilities.

use holdfast_proto::csi::{
    self, ControllerGetVolumeRequest, ControllerGetVolumeResponse, ListVolumesRequest, ListVolumesResponse,
    ValidateVolumeCapabilitiesRequest, ValidateVolumeCapabilitiesResponse, controller_get_volume_response,
    list_volumes_response::{Entry, VolumeStatus},
    validate_volume_capabilities_response::Confirmed,
};

use super::{check_use, create::parameters, page::Page, volume_context, wire_volume};
use crate::{
    capability::Capability,
    config::Attach,
    error::Error,
    health::{Examination, condition},
    mutable::Mutable,
    server::Driver,
    volume::Volume,
    volume_id::VolumeId,
};

/// CSI v1.12, ListVolumes, in the order of ids.
pub(super) fn list(driver: &Driver, request: &ListVolumesRequest) -> Result<ListVolumesResponse, Error> {
    let page = Page::asked(request.max_entries, &request.starting_token)?;
    // Pools are sorted by name, but `a` and `a-b` interleave as prefixes of ids.
    let mut ids = Vec::new();
    for pool in driver.pools.values() {
        ids.extend(pool.ids()?);
    }
    ids.sort();
    let mut examination = Examination::begin();
    let (entries, next_token) = page.fill(ids, |id| entry(driver, &mut examination, id))?;
    Ok(ListVolumesResponse { entries, next_token })
}

/// One line of the list; `None` when the volume went away meanwhile.
fn entry(driver: &Driver, examination: &mut Examination, id: &VolumeId) -> Result<Option<Entry>, Error> {
    let pool = driver.pool_of(id)?;
    let Some(folder) = pool.find(id)? else { return Ok(None) };
    match folder.read_volume() {
        Ok(volume) => Ok(Some(Entry {
            volume: Some(wire_volume(driver, pool, &volume)?),
            status: Some(VolumeStatus {
                volume_condition: Some(condition(&examination.of(pool, &folder, &volume))),
                published_node_ids: published_nodes(driver, volume),
            }),
        })),
        // Renamed to the trash between the two lines above.
        Err(Error::Corrupt { .. }) if pool.find(id)?.is_none() => Ok(None),
        // It exists, and one damaged volume must not hide the others. Capacity 0 is "unknown".
        Err(error @ Error::Corrupt { .. }) => {
            tracing::error!(volume = %id, %error, "this volume cannot be used");
            Ok(Some(Entry {
                volume: Some(damaged(id)),
                status: Some(VolumeStatus {
                    volume_condition: Some(condition(&[error.to_string()])),
                    ..VolumeStatus::default()
                }),
            }))
        }
        Err(error) => Err(error),
    }
}

/// What can be said of a volume whose metadata cannot be read.
fn damaged(id: &VolumeId) -> csi::Volume {
    csi::Volume { volume_id: id.to_string(), ..Default::default() }
}

/// The nodes that a volume is published to; only with LIST_VOLUMES_PUBLISHED_NODES.
fn published_nodes(driver: &Driver, volume: Volume) -> Vec<String> {
    match driver.attach {
        Attach::Required => volume.attachments.into_keys().collect(),
        Attach::None => Vec::new(),
    }
}

/// CSI v1.12, ControllerGetVolume.
pub(super) fn get(
    driver: &Driver,
    request: &ControllerGetVolumeRequest,
) -> Result<ControllerGetVolumeResponse, Error> {
    let id = VolumeId::parse(&request.volume_id)?;
    let pool = driver.pool_of(&id)?;
    let folder = pool.folder(&id)?;
    let (volume, ailments, published_node_ids) = match folder.read_volume() {
        Ok(volume) => {
            let ailments = Examination::begin().of(pool, &folder, &volume);
            (wire_volume(driver, pool, &volume)?, ailments, published_nodes(driver, volume))
        }
        Err(Error::Corrupt { .. }) if pool.find(&id)?.is_none() => {
            return Err(Error::VolumeNotFound(id.to_string()));
        }
        Err(error @ Error::Corrupt { .. }) => (damaged(&id), vec![error.to_string()], Vec::new()),
        Err(error) => return Err(error),
    };
    Ok(ControllerGetVolumeResponse {
        volume: Some(volume),
        status: Some(controller_get_volume_response::VolumeStatus {
            published_node_ids,
            volume_condition: Some(condition(&ailments)),
        }),
    })
}

/// CSI v1.12, ValidateVolumeCapabilities: what cannot be is no error but is left
/// unconfirmed, with the reason.
pub(super) fn validate(
    driver: &Driver,
    request: &ValidateVolumeCapabilitiesRequest,
) -> Result<ValidateVolumeCapabilitiesResponse, Error> {
    let id = VolumeId::parse(&request.volume_id)?;
    if request.volume_capabilities.is_empty() {
        return Err(Error::Invalid("volume_capabilities must have at least one entry".to_owned()));
    }
    let pool = driver.pool_of(&id)?;
    let volume = pool.folder(&id)?.read_volume()?;
    let check = || -> Result<(), Error> {
        for capability in Capability::all(&request.volume_capabilities)? {
            check_use(pool.backend.as_ref(), volume.content, &capability)?;
        }
        if !request.volume_context.is_empty() && request.volume_context != volume_context(pool) {
            return Err(Error::Invalid("volume_context is not that of this volume".to_owned()));
        }
        if !request.parameters.is_empty() && parameters(driver, &request.parameters)?.pool.name != pool.name {
            return Err(Error::Invalid(format!("the parameters are not those of pool {:?}", pool.name)));
        }
        pool.check_mutable(&Mutable::default().changed(&request.mutable_parameters)?)
    };
    Ok(match check() {
        Ok(()) => ValidateVolumeCapabilitiesResponse {
            confirmed: Some(Confirmed {
                volume_context: request.volume_context.clone(),
                volume_capabilities: request.volume_capabilities.clone(),
                parameters: request.parameters.clone(),
                mutable_parameters: request.mutable_parameters.clone(),
            }),
            message: String::new(),
        },
        Err(error) => ValidateVolumeCapabilitiesResponse { confirmed: None, message: error.to_string() },
    })
}
