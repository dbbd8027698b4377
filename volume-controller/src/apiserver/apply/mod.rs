//! Server-side apply: configurations merged into objects by owners of fields, and the
//! record of owners that every other write keeps (`metadata.managedFields`).
//!
//! [`track`] is what a create, update or patch calls, [`Applier`] what an apply does,
//! [`record`] writes the owners into the object. All are pure and work on the stored
//! form of an object.
//!
//! Sources: KEP-555 "Apply" and "Server-Side Apply" in Kubernetes' documentation.

mod compare;
mod configuration;
mod conflict;
mod element;
mod fieldset;
mod last_applied;
mod managers;
mod merge;
mod owned;
mod schema;
mod track;

use jiff::Timestamp;
use serde_json::Value;

use super::kinds::{self, Kind};

pub(crate) use configuration::{Applied, Applier};
pub(crate) use conflict::message;
pub(crate) use managers::{Owners, differ};
pub(crate) use track::Reach;

use managers::{Manager, Operation, is_reset};
use schema::Place;

/// The name of the server itself and its controllers.
pub(crate) const SERVER: &str = "holdfast";
/// The name of who does not give one.
const UNKNOWN: &str = "unknown";

/// Who makes a write that is no apply.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Writer<'a> {
    pub(crate) name: &'a str,
    /// `status`, or empty.
    pub(crate) subresource: &'a str,
    pub(crate) reach: Reach,
}

/// Keeps the record of owners in `new`, which `writer` has made out of `live` (`None`:
/// it is created). Nothing is recorded for an object without owners that exists already:
/// its owners are made up at its first apply.
pub(crate) fn track(kind: &Kind, writer: Writer<'_>, live: Option<&Value>, new: &mut Value, now: Timestamp) {
    let given = take(new);
    let version = kind.api_version();
    let decode = |fields: &Value| Owners::decode(fields, &version).unwrap_or_default();
    let old = live.map_or(&Value::Null, |live| &live["metadata"]["managedFields"]);
    // A client that sends other owners means it, unless it cannot be read; one that sends
    // none does not know of them.
    let owners = match &given {
        _ if !writer.subresource.is_empty() => decode(old),
        Some(given) if is_reset(given) => Owners::default(),
        Some(given) if given != old => match decode(given) {
            owners if owners.is_empty() => decode(old),
            owners => owners,
        },
        _ => decode(old),
    };
    if owners.is_empty() && live.is_some() {
        return;
    }
    let name = if writer.name.is_empty() { UNKNOWN } else { writer.name };
    let manager = Manager {
        name: name.to_owned(),
        operation: Operation::Update,
        subresource: writer.subresource.to_owned(),
    };
    let owners = match live {
        Some(live) => track::updated(kind, writer.reach, &manager, live, new, owners, now),
        None => track::updated(kind, writer.reach, &manager, &track::blank(kind), new, owners, now),
    };
    record(kind, owners, new);
}

/// Keeps the record of owners in `new`, which a controller of the server has made out of
/// `live`, an object of this resource. It may have written both what has a subresource and
/// what has not.
pub(crate) fn track_server(resource: &str, live: &Value, new: &mut Value, now: Timestamp) {
    let Some(kind) = kinds::ALL.iter().copied().find(|kind| kind.resource() == resource) else { return };
    let old = &live["metadata"]["managedFields"];
    let mut owners = Owners::decode(old, &kind.api_version()).unwrap_or_default();
    if owners.is_empty() {
        return;
    }
    take(new);
    let parts: &[_] = if kind.has_status {
        &[("", Reach::Main), ("status", Reach::OnlyStatus)]
    } else {
        &[("", Reach::Main)]
    };
    for (subresource, reach) in parts {
        let manager = Manager {
            name: SERVER.to_owned(),
            operation: Operation::Update,
            subresource: (*subresource).to_owned(),
        };
        owners = track::updated(kind, *reach, &manager, live, new, owners, now);
    }
    record(kind, owners, new);
}

/// Writes owners into an object.
pub(crate) fn record(kind: &Kind, owners: Owners, object: &mut Value) {
    take(object);
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let (Some(fields), Some(metadata)) = (owners.encode(&kind.api_version()), metadata) {
        metadata.insert("managedFields".to_owned(), fields);
    }
}

/// Takes `managedFields` out of an object.
pub(crate) fn take(object: &mut Value) -> Option<Value> {
    object.get_mut("metadata")?.as_object_mut()?.remove("managedFields").filter(|fields| !fields.is_null())
}

/// What makes a configuration unfit to be applied to objects of the kind: fields that it
/// does not have, list elements that are there twice. `.spec.x: field not declared in schema`
pub(crate) fn faults(kind: &Kind, config: &Value) -> Vec<String> {
    owned::faults(Place::of(kind), config)
}

#[cfg(test)]
mod tests;
