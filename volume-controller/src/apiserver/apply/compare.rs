//! What is different between two forms of an object, as sets of fields. Pure.

use std::collections::BTreeMap;

use serde_json::{Map, Value};

use super::element::Element;
use super::fieldset::FieldSet;
use super::owned::elements;
use super::schema::{Place, Type};

/// The fields that a change touched; no field is in two of the sets.
#[derive(Debug, Default, PartialEq)]
pub(super) struct Changes {
    pub(super) removed: FieldSet,
    pub(super) modified: FieldSet,
    pub(super) added: FieldSet,
}

/// What happened to a value as a whole.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
enum Fate {
    Same,
    Removed,
    Modified,
    Added,
}

impl Changes {
    /// What differs in `new`.
    pub(super) fn between(place: Place, old: &Value, new: &Value) -> Self {
        compare(place, Some(old), Some(new)).1
    }

    fn add(&mut self, element: &Element, fate: Fate, below: Self) {
        self.removed.add(element.clone(), fate == Fate::Removed, below.removed);
        self.modified.add(element.clone(), fate == Fate::Modified, below.modified);
        self.added.add(element.clone(), fate == Fate::Added, below.added);
    }

    /// What differs below a place.
    fn child(&mut self, place: Place, element: &Element, old: Option<&Value>, new: Option<&Value>) {
        if old == new {
            return;
        }
        let (fate, below) = compare(place.step(element), old, new);
        self.add(element, fate, below);
    }
}

fn compare(place: Place, old: Option<&Value>, new: Option<&Value>) -> (Fate, Changes) {
    let mut changes = Changes::default();
    let whole = || (fate_of_leaf(old, new), Changes::default());
    match place.kind() {
        Type::Leaf => return whole(),
        Type::Fields(_) | Type::Map(_) => {
            let (before, after) = (old.and_then(Value::as_object), new.and_then(Value::as_object));
            // Two empty ones: whether it is missing, null or empty is all there is to it.
            if before.is_none_or(Map::is_empty) && after.is_none_or(Map::is_empty) {
                return whole();
            }
            for (name, old) in before.into_iter().flatten() {
                let new = after.and_then(|map| map.get(name));
                // Most of what a write leaves alone ends here.
                if new != Some(old) {
                    changes.child(place, &Element::field(name), Some(old), new);
                }
            }
            let added = |(name, _): &(&String, &Value)| before.is_none_or(|map| !map.contains_key(*name));
            for (name, new) in after.into_iter().flatten().filter(added) {
                changes.child(place, &Element::field(name), None, Some(new));
            }
        }
        Type::Set | Type::Keyed(..) => {
            let (before, after) = (list(old), list(new));
            if before.is_empty() && after.is_empty() {
                return whole();
            }
            compare_lists(place, &elements(place, before), &elements(place, after), &mut changes);
        }
    }
    let fate = match (old, new) {
        (None, _) => Fate::Added,
        (_, None) => Fate::Removed,
        _ => Fate::Same,
    };
    (fate, changes)
}

fn compare_lists(
    place: Place,
    before: &[(Element, &Value)],
    after: &[(Element, &Value)],
    changes: &mut Changes,
) {
    let mut both: BTreeMap<&Element, (Vec<&Value>, Vec<&Value>)> = BTreeMap::new();
    for (element, item) in before {
        both.entry(element).or_default().0.push(item);
    }
    for (element, item) in after {
        both.entry(element).or_default().1.push(item);
    }
    for (element, (old, new)) in both {
        // Elements that are there more than once cannot be told apart: they are one value.
        match (old.as_slice(), new.as_slice()) {
            ([], [one]) => changes.child(place, element, None, Some(one)),
            ([one], []) => changes.child(place, element, Some(one), None),
            ([old], [new]) => changes.child(place, element, Some(old), Some(new)),
            ([_, _, ..], [_, _, ..]) if old == new => {}
            ([_, _, ..], [_, _, ..]) => changes.add(element, Fate::Modified, Changes::default()),
            ([_, _, ..], rest) => {
                if let [one] = rest {
                    changes.child(place, element, None, Some(one));
                }
                changes.add(element, Fate::Removed, Changes::default());
            }
            (rest, _) => {
                if let [one] = rest {
                    changes.child(place, element, Some(one), None);
                }
                changes.add(element, Fate::Added, Changes::default());
            }
        }
    }
}

fn fate_of_leaf(old: Option<&Value>, new: Option<&Value>) -> Fate {
    match (old, new) {
        (Some(old), Some(new)) if same(old, new) => Fate::Same,
        (Some(_), Some(_)) => Fate::Modified,
        (None, _) => Fate::Added,
        (_, None) => Fate::Removed,
    }
}

/// Whether two values are equal; 1 and 1.0 are.
pub(super) fn same(a: &Value, b: &Value) -> bool {
    match (a, b) {
        (Value::Number(a), Value::Number(b)) => {
            a == b || (a.is_f64() || b.is_f64()) && a.as_f64() == b.as_f64()
        }
        (Value::Array(a), Value::Array(b)) => a.len() == b.len() && a.iter().zip(b).all(|(a, b)| same(a, b)),
        (Value::Object(a), Value::Object(b)) => {
            a.len() == b.len() && a.iter().all(|(name, a)| b.get(name).is_some_and(|b| same(a, b)))
        }
        _ => a == b,
    }
}

fn list(value: Option<&Value>) -> &[Value] {
    value.and_then(Value::as_array).map(Vec::as_slice).unwrap_or_default()
}
