//! The annotation of client-side apply, as `kubectl apply --server-side` finds it on
//! objects that were applied on the client's side before.

use serde_json::{Map, Value, json};

use super::super::kinds::Kind;
use super::compare::Changes;
use super::conflict::Conflict;
use super::fieldset::FieldSet;
use super::owned::{faults, fields};
use super::schema::Place;

/// Only this manager's applies look at the annotation.
pub(super) const MANAGER: &str = "kubectl";

const ANNOTATION: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// The most bytes that annotations may have together.
const MAX_ANNOTATIONS: usize = 256 * 1024;

/// The conflicts that stay: what was applied on the client's side and is as it was
/// applied is the applier's own, whoever is written down for it.
pub(super) fn conflicts_left(kind: &Kind, live: &Value, conflicts: Vec<Conflict>) -> Vec<Conflict> {
    let own = own(kind, live).unwrap_or_default();
    conflicts.into_iter().filter(|conflict| !own.has(&conflict.path)).collect()
}

fn own(kind: &Kind, live: &Value) -> Option<FieldSet> {
    let text = live["metadata"]["annotations"][ANNOTATION].as_str()?;
    let last: Value = serde_json::from_str(text).ok()?;
    let place = Place::of(kind);
    if last["apiVersion"] != kind.api_version() || !faults(place, &last).is_empty() {
        return None;
    }
    let changes = Changes::between(place, &last, live);
    let fields = fields(place, &last).difference(&changes.modified);
    Some(fields.difference(&changes.added).difference(&changes.removed))
}

/// Writes what was applied into the annotation, where there is one: a later apply on the
/// client's side must find what this one did.
pub(super) fn renew(object: &mut Value, config: &Value) {
    let Some(annotations) = annotations(object) else { return };
    if annotations.get(ANNOTATION).and_then(Value::as_str).is_none_or(str::is_empty) {
        return;
    }
    let mut config = config.clone();
    if let Some(own) = self::annotations(&mut config) {
        own.remove(ANNOTATION);
    }
    annotations.insert(ANNOTATION.to_owned(), json!(format!("{config}\n")));
    if size(annotations) > MAX_ANNOTATIONS {
        annotations.remove(ANNOTATION);
    }
}

fn annotations(object: &mut Value) -> Option<&mut Map<String, Value>> {
    object.pointer_mut("/metadata/annotations")?.as_object_mut()
}

fn size(annotations: &Map<String, Value>) -> usize {
    annotations.iter().map(|(key, value)| key.len() + value.as_str().unwrap_or_default().len()).sum()
}
