//! Merging a configuration into an object, and taking fields out of one. Pure.

use std::collections::{BTreeMap, BTreeSet};

use serde_json::{Map, Value};

use super::element::Element;
use super::fieldset::FieldSet;
use super::owned::{element, elements};
use super::schema::{Place, Type};

/// The object with what the configuration says in it.
pub(super) fn merge(place: Place, live: Option<&Value>, config: Option<&Value>) -> Option<Value> {
    let (Some(before), Some(wanted)) = (live, config) else { return config.or(live).cloned() };
    match (place.kind(), before, wanted) {
        (Type::Fields(_) | Type::Map(_), Value::Object(before), Value::Object(wanted)) => {
            let names: BTreeSet<&String> = before.keys().chain(wanted.keys()).collect();
            let merged = names.into_iter().filter_map(|name| {
                let inner = place.step(&Element::field(name));
                Some((name.clone(), merge(inner, before.get(name), wanted.get(name))?))
            });
            Some(Value::Object(merged.collect()))
        }
        // Nothing, written differently, does not take away what is there.
        (Type::Fields(_) | Type::Map(_), Value::Object(before), Value::Null) if !before.is_empty() => {
            live.cloned()
        }
        (Type::Set | Type::Keyed(..), Value::Array(before), Value::Array(wanted))
            if !(before.is_empty() && wanted.is_empty()) =>
        {
            Some(Value::Array(merge_lists(place, before, wanted)))
        }
        (Type::Set | Type::Keyed(..), Value::Array(before), Value::Null) if !before.is_empty() => {
            live.cloned()
        }
        _ => config.cloned(),
    }
}

/// Elements of the configuration keep its order; those that only the object has stay
/// where they are between them.
fn merge_lists(place: Place, before: &[Value], wanted: &[Value]) -> Vec<Value> {
    let (left, right) = (elements(place, before), elements(place, wanted));
    // What is there more than once cannot be merged with, only replaced.
    let mut old: BTreeMap<&Element, Option<&Value>> = BTreeMap::new();
    for (element, item) in &left {
        old.entry(element).and_modify(|item| *item = None).or_insert(Some(item));
    }
    let in_right: BTreeSet<&Element> = right.iter().map(|(element, _)| element).collect();
    let mut shared = right.iter().map(|(element, _)| element).filter(|element| old.contains_key(element));
    let mut next_shared = shared.next();
    let mut done: BTreeSet<&Element> = BTreeSet::new();
    let mut merged = Vec::with_capacity(left.len().max(right.len()));
    let (mut l, mut r) = (0, 0);
    while l < left.len() || r < right.len() {
        if let (Some((mine, _)), Some((theirs, item))) = (left.get(l), right.get(r)) {
            if mine == theirs {
                done.insert(mine);
                merged.extend(merge(place.step(mine), old.get(mine).copied().flatten(), Some(item)));
                l += 1;
                r += 1;
                next_shared = shared.next();
                continue;
            }
            // In both lists, but its turn comes later.
            if in_right.contains(mine) && next_shared.is_some_and(|next| next != mine) {
                l += 1;
                continue;
            }
        }
        if let Some((mine, item)) = left.get(l) {
            if !in_right.contains(mine) {
                merged.push((*item).clone());
                l += 1;
                continue;
            }
            if done.contains(mine) {
                l += 1;
            }
        }
        if let Some((theirs, item)) = right.get(r) {
            done.insert(theirs);
            merged.extend(merge(place.step(theirs), old.get(theirs).copied().flatten(), Some(item)));
            r += 1;
            if next_shared == Some(theirs) {
                next_shared = shared.next();
            }
        }
    }
    merged
}

/// The value without these fields. Lists and objects of which nothing is left are null.
pub(super) fn without(place: Place, value: &Value, fields: &FieldSet) -> Value {
    match (place.kind(), value) {
        (Type::Fields(_) | Type::Map(_), Value::Object(map)) if !map.is_empty() => {
            let mut left = Map::new();
            for (name, value) in map {
                let element = Element::field(name);
                if !fields.contains(&element) {
                    left.insert(name.clone(), without_below(place, &element, value, fields));
                }
            }
            if left.is_empty() { Value::Null } else { Value::Object(left) }
        }
        (Type::Set | Type::Keyed(..), Value::Array(list)) if !list.is_empty() => {
            let left: Vec<Value> = list
                .iter()
                .filter_map(|item| match element(place, item) {
                    Ok(element) if fields.contains(&element) => None,
                    Ok(element) => Some(without_below(place, &element, item, fields)),
                    Err(_) => Some(item.clone()),
                })
                .collect();
            if left.is_empty() { Value::Null } else { Value::Array(left) }
        }
        _ => value.clone(),
    }
}

fn without_below(place: Place, element: &Element, value: &Value, fields: &FieldSet) -> Value {
    match fields.below(element) {
        Some(fields) => without(place.step(element), value, fields),
        None => value.clone(),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::config_map;
    use serde_json::json;

    /// The order that Kubernetes gives lists, letter by letter.
    #[test]
    fn order() {
        let letters = |text: &str| json!({"metadata": {"finalizers": text.chars().collect::<Vec<char>>()}});
        let place = Place::of(&config_map::KIND);
        for (live, config, merged) in [
            ("abc", "ab", "abc"),
            ("ab", "abc", "abc"),
            ("abc", "", "abc"),
            ("", "abc", "abc"),
            ("ab", "ba", "ba"),
            ("abc", "def", "abcdef"),
            ("abc", "cdef", "abcdef"),
            ("abcgf", "cdef", "abcgdef"),
            ("cdef", "ace", "acdef"),
            ("abcxyz", "defxyz", "abcdefxyz"),
            ("cagf", "cfag", "cfag"),
            ("abcd", "defa", "bcdefa"),
            ("cdefghij", "2h3e4kl", "cdfg2hij3e4kl"),
            ("abcdefghij", "1b2h3e4kl", "a1bcdfg2hij3e4kl"),
            // Elements that are there twice go together when the configuration names them.
            ("abb", "c", "abbc"),
            ("abb", "b", "ab"),
            ("abb", "a", "abb"),
            ("abcdec", "1b2ed", "a1bc2ecd"),
            ("abcdec", "1b2ced", "a1b2ced"),
            ("aabb", "bcd", "aabcd"),
        ] {
            let found = merge(place, Some(&letters(live)), Some(&letters(config)));
            assert_eq!(found, Some(letters(merged)), "{live} {config}");
        }
    }

    #[test]
    fn nothing_does_not_take_away() {
        let place = Place::of(&config_map::KIND);
        let live = json!({"data": {"a": "1"}, "metadata": {"finalizers": ["x"]}});
        let nothing = json!({"data": null, "metadata": {"finalizers": null}});
        assert_eq!(merge(place, Some(&live), Some(&nothing)).unwrap(), live);
        assert_eq!(merge(place, Some(&live), Some(&json!({"data": {}}))).unwrap(), live);
        assert_eq!(merge(place, Some(&json!({"data": {}})), Some(&nothing)).unwrap(), nothing);
    }
}
