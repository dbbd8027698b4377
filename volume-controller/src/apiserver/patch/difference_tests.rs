//! Whatever two objects of a kind there are: the patch that tells the one from the other makes
//! the other of the one.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Map, json};

use super::*;
use crate::apiserver::kinds;
use crate::apiserver::openapi::schemas::{self, DEFINITIONS};
use crate::apiserver::openapi::some_tests::object_of;

/// A field's schema, and how its list is merged: the strategy and the key.
fn field<'a>(schema: &'a Value, name: &str) -> (&'a Value, &'a str, &'a str) {
    let (_, schema) = schemas::all().resolve(schema);
    let field = schema["properties"].get(name).unwrap_or(&schema["additionalProperties"]);
    let text = |name: &str| field[name].as_str().unwrap_or_default();
    (field, text("x-kubernetes-patch-strategy"), text("x-kubernetes-patch-merge-key"))
}

/// Lists that merge have each element once, and each has its key.
fn tidy(value: &mut Value, schema: &Value) {
    let Value::Object(fields) = value else { return };
    for (name, value) in fields {
        let (schema, strategy, key) = field(schema, name);
        let Value::Array(list) = value else {
            tidy(value, schema);
            continue;
        };
        for element in &mut *list {
            tidy(element, &schema["items"]);
        }
        if strategy.starts_with("merge") {
            let mut seen = Vec::new();
            list.retain(|element| {
                let id = if key.is_empty() { element } else { &element[key] };
                let is_new = !id.is_null() && !seen.contains(id);
                seen.push(id.clone());
                is_new
            });
        }
    }
}

/// The strategic merge patch, as `kubectl apply` makes it.
fn difference(from: &Map<String, Value>, to: &Map<String, Value>, schema: &Value) -> Map<String, Value> {
    let mut patch = Map::new();
    for name in from.keys().filter(|name| !to.contains_key(*name)) {
        patch.insert(name.clone(), Value::Null);
    }
    for (name, after) in to.iter().filter(|(name, after)| from.get(*name) != Some(after)) {
        let (schema, strategy, key) = field(schema, name);
        let change = match (from.get(name), after) {
            (Some(Value::Object(before)), Value::Object(after)) => {
                Value::Object(difference(before, after, schema))
            }
            (Some(Value::Array(before)), Value::Array(after)) if strategy.starts_with("merge") => {
                let order = after.iter().map(|element| match key {
                    "" => element.clone(),
                    key => json!({key: element[key]}),
                });
                patch.insert(format!("$setElementOrder/{name}"), order.collect());
                if key.is_empty() {
                    let gone = before.iter().filter(|value| !after.contains(value)).cloned();
                    patch.insert(format!("$deleteFromPrimitiveList/{name}"), gone.collect());
                    after.iter().filter(|value| !before.contains(value)).cloned().collect()
                } else {
                    elements(before, after, key, strategy, &schema["items"])
                }
            }
            (_, after) => after.clone(),
        };
        patch.insert(name.clone(), change);
    }
    patch
}

fn elements(before: &[Value], after: &[Value], key: &str, strategy: &str, schema: &Value) -> Value {
    let find = |list: &[Value], id: &Value| list.iter().find(|element| element[key] == *id).cloned();
    let changed = after.iter().filter_map(|element| {
        let Some(old) = find(before, &element[key]) else { return Some(element.clone()) };
        let (Value::Object(old), Value::Object(new)) = (&old, element) else { return None };
        let mut change = difference(old, new, schema);
        if change.is_empty() {
            return None;
        }
        change.insert(key.to_owned(), element[key].clone());
        if strategy.ends_with("retainKeys") {
            change.insert("$retainKeys".to_owned(), new.keys().cloned().collect());
        }
        Some(Value::Object(change))
    });
    let gone = before.iter().filter(|element| find(after, &element[key]).is_none());
    let gone = gone.map(|element| json!({key: element[key], "$patch": "delete"}));
    changed.chain(gone).collect()
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 32, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn of_every_kind(seed in any::<u64>()) {
        let mut random = StdRng::seed_from_u64(seed);
        for kind in kinds::ALL {
            let schema = json!({"$ref": format!("{DEFINITIONS}{}", schemas::all().name_of(kind))});
            let [from, to] = [(); 2].map(|()| {
                let mut object = object_of(kind, &mut random);
                tidy(&mut object, &schema);
                object
            });
            let steps = serde_json::to_value(json_patch::diff(&from, &to)).unwrap();
            let patched = json(&from, &steps);
            prop_assert_eq!(patched.as_ref(), Ok(&to), "{}: {}", kind.kind, steps);
            let (Value::Object(old), Value::Object(new)) = (&from, &to) else { unreachable!() };
            let patch = Value::Object(difference(old, new, &schema));
            let done = strategic(kind, &from, &patch);
            prop_assert_eq!(done.as_ref(), Ok(&to), "{}: {}", kind.kind, patch);
            // Sent again by a client that got no answer, it changes nothing.
            prop_assert_eq!(strategic(kind, &to, &patch), Ok(to), "{}: {}", kind.kind, patch);
        }
    }
}
