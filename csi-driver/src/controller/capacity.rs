//! GetCapacity.

use std::collections::HashMap;

use holdfast_proto::csi::{GetCapacityRequest, GetCapacityResponse};

use super::{
    create::{bounds, content, default_pool, parameters},
    is_here, wire_bytes,
};
use crate::{capability::Capability, error::Error, server::Driver, volume::Content};

/// CSI v1.12, GetCapacity: what could still be made with these parameters. What this
/// driver cannot make at all has no room.
///
/// Without parameters and without a default pool it is that of the pool with the most room: pools
/// may lie on one file system, so a sum would count its room twice, and no volume spans two.
pub(super) fn capacity(driver: &Driver, request: &GetCapacityRequest) -> Result<GetCapacityResponse, Error> {
    if !request.parameters.is_empty() || default_pool(driver).is_some() {
        return of_one_pool(driver, request);
    }
    let each = driver.pools.keys().map(|pool| {
        let parameters = HashMap::from([("pool".to_owned(), pool.clone())]);
        of_one_pool(driver, &GetCapacityRequest { parameters, ..request.clone() })
    });
    let each = each.collect::<Result<Vec<_>, Error>>()?;
    Ok(each.into_iter().max_by_key(|answer| answer.available_capacity).unwrap_or_default())
}

fn of_one_pool(driver: &Driver, request: &GetCapacityRequest) -> Result<GetCapacityResponse, Error> {
    let parameters = parameters(driver, &request.parameters)?;
    let pool = parameters.pool;
    let elsewhere = request.accessible_topology.as_ref().is_some_and(|place| !is_here(driver, place));
    let possible = if request.volume_capabilities.is_empty() {
        Ok(Content::Block)
    } else {
        Capability::all(&request.volume_capabilities).and_then(|capabilities| content(pool, &capabilities))
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
