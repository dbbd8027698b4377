//! Objects made up from the schemas, for tests of what must hold for every kind.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Map, Value, json};

use super::schemas::{self, DEFINITIONS};
use crate::apiserver::kinds::Kind;

/// Some object of a kind, as it is after decoding.
pub(crate) fn object_of(kind: &Kind, random: &mut StdRng) -> Value {
    let schema = json!({"$ref": format!("{DEFINITIONS}{}", schemas::all().name_of(kind))});
    let mut object = some(&schema, random);
    object["apiVersion"] = json!(kind.api_version());
    object["kind"] = json!(kind.kind);
    object["metadata"]["name"] = json!("a");
    (kind.model.check)(&object).unwrap()
}

/// Some value that a schema allows, with every field that must be there. Never a zero: protobuf cannot tell most
/// of those from absence.
fn some(schema: &Value, random: &mut StdRng) -> Value {
    let (name, schema) = schemas::all().resolve(schema);
    let word = |random: &mut StdRng| ["a", "b-1", "ü"][random.random_range(0..3)].to_owned();
    match (name.rsplit('.').next().unwrap_or_default(), schema["type"].as_str(), schema["format"].as_str()) {
        ("Quantity", ..) => json!("1536Mi"),
        ("MicroTime", ..) => json!("2026-11-21T10:11:12.000345Z"),
        ("FieldsV1", ..) => json!({"f:metadata": {"f:labels": {".": {}}}}),
        (_, _, Some("date-time")) => json!("2026-11-21T10:11:12Z"),
        (_, _, Some("byte")) => json!("aGk="),
        (_, _, Some("int-or-string")) => {
            if random.random() {
                json!(8080)
            } else {
                json!("http")
            }
        }
        (_, Some("boolean"), _) => json!(true),
        (_, Some("integer"), _) => json!(if random.random() { random.random_range(1..i32::MAX) } else { -3 }),
        (_, Some("string"), _) => json!(word(random)),
        (_, Some("array"), _) => {
            (0..random.random_range(1..3)).map(|_| some(&schema["items"], random)).collect()
        }
        _ => {
            let mut object = Map::new();
            if schema["additionalProperties"].is_object() {
                object.insert(word(random), some(&schema["additionalProperties"], random));
            }
            let required =
                |name: &str| schema["required"].as_array().is_some_and(|all| all.contains(&json!(name)));
            for (name, field) in schema["properties"].as_object().into_iter().flatten() {
                if required(name) || random.random_bool(0.4) {
                    object.insert(name.clone(), some(field, random));
                }
            }
            Value::Object(object)
        }
    }
}
