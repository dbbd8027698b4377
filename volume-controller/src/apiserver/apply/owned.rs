//! The fields that an applied configuration names, and what makes one unfit to be
//! applied. Pure.

use std::collections::BTreeSet;

use serde_json::{Map, Value};

use super::element::Element;
use super::fieldset::FieldSet;
use super::schema::{Place, Type, key_of};

/// The fields of a value: its leaves, the elements of its lists, and the objects in it
/// that are empty. (An object with fields is not one of them: it comes and goes with
/// what is in it.)
pub(super) fn fields(place: Place, value: &Value) -> FieldSet {
    let mut set = FieldSet::default();
    match (place.kind(), value) {
        (Type::Fields(_) | Type::Map(_), Value::Object(map)) => {
            for (name, value) in map {
                let inner = place.field(name);
                let is_empty = value.is_null() || value.as_object().is_some_and(Map::is_empty);
                let is_leaf = inner.is_none_or(|inner| is_leaf(inner, value));
                let below = inner.map(|inner| fields(inner, value)).unwrap_or_default();
                set.add(Element::field(name), is_leaf || is_empty || !place.declares(name), below);
            }
        }
        (Type::Set | Type::Keyed(..), Value::Array(list)) => {
            let mut seen = BTreeSet::new();
            let mut repeated = BTreeSet::new();
            let elements: Vec<Option<Element>> = list.iter().map(|item| element(place, item).ok()).collect();
            for element in elements.iter().flatten() {
                if !seen.insert(element) {
                    repeated.insert(element);
                }
            }
            for (element, item) in elements.iter().zip(list) {
                let Some(element) = element else { continue };
                // What is below an element that is there twice cannot be told apart.
                let below = match place.kind() {
                    Type::Keyed(_, inner) if !repeated.contains(element) => fields(*inner, item),
                    _ => FieldSet::default(),
                };
                set.add(element.clone(), true, below);
            }
        }
        _ => {}
    }
    set
}

/// Whether a value is owned as a whole.
fn is_leaf(place: Place, value: &Value) -> bool {
    match place.kind() {
        Type::Leaf => true,
        Type::Fields(_) | Type::Map(_) => !value.is_object() && !value.is_null(),
        Type::Set | Type::Keyed(..) => !value.is_array() && !value.is_null(),
    }
}

/// What tells an element of a list apart.
///
/// # Errors
/// Why it cannot be told apart.
pub(super) fn element(place: Place, item: &Value) -> Result<Element, String> {
    match place.kind() {
        Type::Keyed(keys, _) => key_of(keys, item),
        _ => match item {
            Value::Null => {
                Err("associative list without keys has an element that's an explicit null".to_owned())
            }
            Value::Object(_) => {
                Err("associative list without keys has an element that's a map type".to_owned())
            }
            Value::Array(_) => Err("not supported: associative list with lists as elements".to_owned()),
            value => Ok(Element::value(value)),
        },
    }
}

/// What makes a configuration unfit to be applied: fields that the kind does not have,
/// elements that are there twice or cannot be told apart, lists and objects that are
/// something else. `.spec.containers: duplicate entries for key [name="a"]`
pub(super) fn faults(place: Place, config: &Value) -> Vec<String> {
    let mut faults = Vec::new();
    check(place, config, "", &mut faults);
    faults
}

fn check(place: Place, value: &Value, path: &str, faults: &mut Vec<String>) {
    if value.is_null() {
        return;
    }
    match place.kind() {
        Type::Leaf => {}
        Type::Fields(_) | Type::Map(_) => {
            let Value::Object(map) = value else {
                return faults.push(format!("{path}: expected map, got {}", kind_of(value)));
            };
            for (name, value) in map {
                let path = format!("{path}.{name}");
                match place.field(name) {
                    Some(inner) => check(inner, value, &path, faults),
                    None => faults.push(format!("{path}: field not declared in schema")),
                }
            }
        }
        Type::Set | Type::Keyed(..) => {
            let Value::Array(list) = value else {
                return faults.push(format!("{path}: expected list, got {}", kind_of(value)));
            };
            check_list(place, list, path, faults);
        }
    }
}

/// The value itself may be a secret.
fn kind_of(value: &Value) -> &'static str {
    match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "number",
        Value::String(_) => "string",
        Value::Array(_) => "list",
        Value::Object(_) => "map",
    }
}

fn check_list(place: Place, list: &[Value], path: &str, faults: &mut Vec<String>) {
    let mut seen = BTreeSet::new();
    for (index, item) in list.iter().enumerate() {
        let element = match element(place, item) {
            Ok(element) => element,
            Err(why) => return faults.push(format!("{path}: element {index}: {why}")),
        };
        if let Type::Keyed(_, inner) = place.kind() {
            check(*inner, item, &format!("{path}{element}"), faults);
        }
        if seen.contains(&element) {
            faults.push(format!("{path}: duplicate entries for key {element}"));
        }
        seen.insert(element);
    }
}

/// Completes a set for removals: a type's own field that holds members becomes one, so
/// that it goes when nothing is left in it.
pub(super) fn with_holders(place: Place, set: &FieldSet) -> FieldSet {
    set.map_nodes(|element, is_member, below| {
        let is_holder = !below.is_empty() && element.name().is_some_and(|name| place.declares(name));
        (is_member || is_holder, with_holders(place.step(element), below))
    })
}

/// The elements of a list with what tells them apart, without those that cannot be.
pub(super) fn elements(place: Place, list: &[Value]) -> Vec<(Element, &Value)> {
    list.iter().filter_map(|item| Some((element(place, item).ok()?, item))).collect()
}
