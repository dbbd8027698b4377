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
use track::Touched;

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
    let touched = match live {
        Some(live) => Touched::between(kind, writer.reach, live, new),
        None => Touched::between(kind, writer.reach, &track::blank(kind), new),
    };
    // A client that sends other owners means it, unless they cannot be read; one that sends
    // none does not know of them. A subresource does not take any.
    let given = given.filter(|given| writer.subresource.is_empty() && given != old);
    let owners = match &given {
        None if touched.is_empty() => return put(new, old.clone()),
        None => decode(old),
        Some(given) if is_reset(given) => Owners::default(),
        Some(given) => Some(decode(given)).filter(|owners| !owners.is_empty()).unwrap_or_else(|| decode(old)),
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
    record(kind, touched.by(&manager, owners, now), new);
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
        owners = Touched::between(kind, *reach, live, new).by(&manager, owners, now);
    }
    record(kind, owners, new);
}

/// Writes owners into an object.
pub(crate) fn record(kind: &Kind, owners: Owners, object: &mut Value) {
    take(object);
    put(object, owners.encode(&kind.api_version()).unwrap_or_default());
}

fn put(object: &mut Value, managed: Value) {
    let metadata = object.get_mut("metadata").and_then(Value::as_object_mut);
    if let Some(metadata) = metadata.filter(|_| !managed.is_null()) {
        metadata.insert("managedFields".to_owned(), managed);
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
mod hostile_tests;
#[cfg(test)]
mod tests;
