//! Strategic merge patches: merge patches that know which lists are sets, by
//! which field their elements are told apart, and a few directives.
//!
//! Source: "Strategic Merge Patch" in Kubernetes' API conventions and the
//! behaviour of `k8s.io/apimachinery/pkg/util/strategicpatch`.

use std::collections::HashSet;

use serde_json::{Map, Value};

use super::super::kinds::Kind;
use super::super::openapi::schemas::{self, DEFINITIONS};
use super::PatchError;
use super::elements::{self, Lists};

/// In an object of the patch: `replace` or `delete` it.
pub(super) const DIRECTIVE: &str = "$patch";
/// In an object of the patch: the only fields that stay.
const RETAIN: &str = "$retainKeys";
/// Before a list's name: its order afterwards.
const ORDER: &str = "$setElementOrder/";
/// Before a list's name: the plain values to remove.
const DELETE: &str = "$deleteFromPrimitiveList/";

/// What is known about the place in an object at which a patch is applied.
#[derive(Clone, Copy)]
pub(super) struct Place<'a> {
    schema: Option<&'a Value>,
}

/// How the list in a field is merged: `None` where it is replaced.
struct FieldRule<'a> {
    place: Place<'a>,
    merge_key: Option<&'a str>,
    replaces: bool,
}

impl<'a> Place<'a> {
    fn field(self, name: &str) -> FieldRule<'a> {
        let property = self.schema.and_then(|schema| {
            let (_, schema) = schemas::all().resolve(schema);
            schema["properties"].get(name).or_else(|| schema.get("additionalProperties"))
        });
        let strategy = property.and_then(|p| p["x-kubernetes-patch-strategy"].as_str()).unwrap_or_default();
        let merges = strategy.split(',').any(|part| part == "merge");
        let key = property.and_then(|p| p["x-kubernetes-patch-merge-key"].as_str()).unwrap_or_default();
        FieldRule { place: Place { schema: property }, merge_key: merges.then_some(key), replaces: !merges }
    }

    /// The place of the elements of the list at this place.
    pub(super) fn element(self) -> Self {
        Self { schema: self.schema.and_then(|schema| schemas::all().resolve(schema).1.get("items")) }
    }
}

pub(super) fn apply(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let (Value::Object(object), Value::Object(patch)) = (object, patch) else {
        return Err(PatchError::Malformed("a strategic merge patch is an object".to_owned()));
    };
    let root = serde_json::json!({"$ref": format!("{DEFINITIONS}{}", schemas::all().name_of(kind))});
    merge_object(object.clone(), patch.clone(), Place { schema: Some(&root) }).map(Value::Object)
}

/// Merges a patch into an object.
pub(super) fn merge_object(
    mut object: Map<String, Value>,
    mut patch: Map<String, Value>,
    place: Place<'_>,
) -> Result<Map<String, Value>, PatchError> {
    if let Some(directive) = patch.remove(DIRECTIVE) {
        match directive.as_str() {
            Some("replace") => return Ok(clean_object(patch)),
            Some("delete") => return Ok(Map::new()),
            _ => return Err(unknown_directive(&directive)),
        }
    }
    retain(&mut object, &mut patch)?;
    order_lists(&mut object, &mut patch, place)?;
    for (name, value) in patch {
        if let Some(list) = name.strip_prefix(DELETE) {
            delete_values(&mut object, list, &value)?;
        } else {
            merge_field(&mut object, name, value, place)?;
        }
    }
    Ok(object)
}

fn merge_field(
    object: &mut Map<String, Value>,
    name: String,
    value: Value,
    place: Place<'_>,
) -> Result<(), PatchError> {
    let rule = place.field(&name);
    let merged = match (object.remove(&name), value) {
        (_, Value::Null) => return Ok(()),
        (Some(Value::Object(old)), Value::Object(new)) => Value::Object(merge_object(old, new, rule.place)?),
        (Some(Value::Array(old)), Value::Array(new)) => {
            let lists = Lists { name: &name, key: rule.merge_key, place: rule.place };
            Value::Array(lists.merge(old, new)?)
        }
        // What was not there may come with `$patch: delete`, which then leaves nothing.
        (_, Value::Object(new)) if new.get(DIRECTIVE).is_some_and(|d| d == "delete") => return Ok(()),
        (_, new) => clean(new),
    };
    object.insert(name, merged);
    Ok(())
}

/// `$retainKeys`: of a union, the fields of the other members go.
fn retain(object: &mut Map<String, Value>, patch: &mut Map<String, Value>) -> Result<(), PatchError> {
    let Some(keys) = patch.remove(RETAIN) else { return Ok(()) };
    let Value::Array(keys) = keys else {
        return Err(PatchError::Malformed(format!("{RETAIN} must be a list of field names")));
    };
    let keys: HashSet<&str> = keys.iter().filter_map(Value::as_str).collect();
    let kept = |name: &str| keys.contains(name);
    let is_set = |(name, value): &(&String, &Value)| !value.is_null() && !name.starts_with('$');
    if let Some((name, _)) = patch.iter().filter(is_set).find(|(name, _)| !kept(name)) {
        return Err(PatchError::Malformed(format!(
            "{RETAIN} does not name the field {name:?} that is patched beside it"
        )));
    }
    object.retain(|name, _| kept(name));
    Ok(())
}

/// `$setElementOrder/…`: merges these lists and brings them into their order.
fn order_lists(
    object: &mut Map<String, Value>,
    patch: &mut Map<String, Value>,
    place: Place<'_>,
) -> Result<(), PatchError> {
    let directives: Vec<String> = patch.keys().filter(|name| name.starts_with(ORDER)).cloned().collect();
    for directive in directives {
        let (Some(order), Some(name)) = (patch.remove(&directive), directive.strip_prefix(ORDER)) else {
            continue;
        };
        let Value::Array(order) = order else {
            return Err(PatchError::Malformed(format!("{directive} must be a list")));
        };
        let rule = place.field(name);
        if rule.replaces {
            return Err(PatchError::Malformed(format!(
                "{directive}: the list {name} is not one that merges"
            )));
        }
        let lists = Lists { name, key: rule.merge_key, place: rule.place };
        let change = match patch.remove(name) {
            None => None,
            Some(Value::Array(change)) => Some(change),
            // The list is removed or replaced by something else: nothing to order.
            Some(other) => {
                patch.insert(name.to_owned(), other);
                continue;
            }
        };
        let before = match object.remove(name) {
            Some(Value::Array(before)) => Some(before),
            _ => None,
        };
        if before.is_none() && change.is_none() {
            continue;
        }
        let ordered = lists.merge_in_order(before.unwrap_or_default(), change.unwrap_or_default(), &order)?;
        object.insert(name.to_owned(), Value::Array(ordered));
    }
    Ok(())
}

/// `$deleteFromPrimitiveList/…`
fn delete_values(object: &mut Map<String, Value>, name: &str, values: &Value) -> Result<(), PatchError> {
    let Value::Array(values) = values else {
        return Err(PatchError::Malformed(format!("{DELETE}{name} must be a list")));
    };
    if let Some(Value::Array(list)) = object.get_mut(name) {
        let values: HashSet<&Value> = values.iter().collect();
        // As upstream, which leaves what is no plain value.
        list.retain(|value| value.is_object() || !values.contains(value));
    }
    Ok(())
}

pub(super) fn unknown_directive(directive: &Value) -> PatchError {
    PatchError::Malformed(format!("{DIRECTIVE} is {directive}: it must be \"replace\" or \"delete\""))
}

/// What a patch says about something that was not there: itself, without
/// directives and without the fields that it removes.
pub(super) fn clean(value: Value) -> Value {
    match value {
        Value::Object(fields) => Value::Object(clean_object(fields)),
        Value::Array(list) => Value::Array(elements::clean(list)),
        other => other,
    }
}

fn clean_object(fields: Map<String, Value>) -> Map<String, Value> {
    let is_directive = |name: &str| {
        name == DIRECTIVE || name == RETAIN || name.starts_with(ORDER) || name.starts_with(DELETE)
    };
    fields
        .into_iter()
        .filter(|(name, value)| !value.is_null() && !is_directive(name))
        .map(|(name, value)| (name, clean(value)))
        .collect()
}
