//! Which fields of an object its kind does not have: what is in the object but
//! not in what its type wrote back.

use serde_json::Value;

/// The paths of the fields that `known` lacks. Fields without content (null,
/// empty lists and objects) do not count: a type may drop them.
pub(crate) fn fields(given: &Value, known: &Value) -> Vec<String> {
    let mut found = Vec::new();
    compare(given, known, "", &mut found);
    found
}

fn compare(given: &Value, known: &Value, path: &str, found: &mut Vec<String>) {
    match (given, known) {
        (Value::Object(given), Value::Object(known)) => {
            for (name, value) in given {
                let inner = if path.is_empty() { name.clone() } else { format!("{path}.{name}") };
                match known.get(name) {
                    Some(known) => compare(value, known, &inner, found),
                    None if is_empty(value) => {}
                    None => found.push(inner),
                }
            }
        }
        (Value::Array(given), Value::Array(known)) => {
            for (index, (given, known)) in given.iter().zip(known).enumerate() {
                compare(given, known, &format!("{path}[{index}]"), found);
            }
        }
        _ => {}
    }
}

fn is_empty(value: &Value) -> bool {
    match value {
        Value::Null => true,
        Value::Array(list) => list.is_empty(),
        Value::Object(map) => map.is_empty(),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn only_what_has_content() {
        let given = json!({"a": 1, "b": {"x": 1, "y": null}, "c": [{"k": 1}, {"z": 2}], "d": {}});
        let known = json!({"a": 1, "b": {}, "c": [{"k": 1}, {}]});
        assert_eq!(fields(&given, &known), ["b.x", "c[1].z"]);
    }
}
