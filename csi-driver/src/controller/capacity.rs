//! GetCapacity.

use holdfast_proto::csi::{GetCapacityRequest, GetCapacityResponse};

use super::{
    create::{bounds, content, parameters},
    is_here, wire_bytes,
};
use crate::{capability::Capability, error::Error, server::Driver, volume::Content};

/// CSI v1.12, GetCapacity: what could still be made with these parameters. What this
/// driver cannot make at all has no room.
pub(super) fn capacity(driver: &Driver, request: &GetCapacityRequest) -> Result<GetCapacityResponse, Error> {
    let parameters = parameters(driver, &request.parameters)?;
    let pool = parameters.pool;
    let elsewhere = request.accessible_topology.as_ref().is_some_and(|place| !is_here(driver, place));
    let possible = if request.volume_capabilities.is_empty() {
        Ok(Content::Block)
    } else {
        Capability::all(&request.volume_capabilities)
            .and_then(|capabilities| content(pool, &capabilities))
    };
    let cannot_enforce = parameters.enforce && pool.backend.can_enforce().is_err();
    let (available, bounds) = match possible {
        Ok(content) if !elsewhere && !cannot_enforce => (pool.available()?, bounds(pool, content)),
        _ => return Ok(GetCapacityResponse::default()),
    };
    Ok(GetCapacityResponse {
        available_capacity: wire_bytes(available),
        maximum_volume_size: Some(wire_bytes(available.min(bounds.max))),
        minimum_volume_size: Some(wire_bytes(bounds.min)),
    })
}
