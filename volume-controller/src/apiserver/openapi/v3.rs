//! The OpenAPI v3 documents, one for each group and version, made from the parts
//! of the v2 document.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::LazyLock;

use bytes::Bytes;
use serde_json::{Map, Value, json};
use sha2::{Digest, Sha256};

use super::super::{kinds, reviews};
use super::schemas::{self, DEFINITIONS};
use super::{operations, v2};

/// Where references point to in a v3 document.
const COMPONENTS: &str = "#/components/schemas/";

/// A document and the hash that names its content.
struct Document {
    body: Bytes,
    hash: String,
}

fn documents() -> &'static BTreeMap<String, Document> {
    static DOCUMENTS: LazyLock<BTreeMap<String, Document>> = LazyLock::new(|| {
        let kinds = kinds::ALL.iter().map(|kind| operations::root(kind.group, kind.version));
        let reviews = reviews::ALL.iter().map(|review| operations::root(review.group, reviews::VERSION));
        let roots: BTreeSet<String> = kinds.chain(reviews).collect();
        roots
            .into_iter()
            .map(|root| {
                let body = Bytes::from(build(&root).to_string());
                let hash = format!("{:X}", Sha256::digest(&body));
                (root, Document { body, hash })
            })
            .collect()
    });
    &DOCUMENTS
}

pub(super) fn index() -> Value {
    let paths: Map<String, Value> = documents()
        .iter()
        .map(|(root, document)| {
            let url = format!("/openapi/v3/{root}?hash={}", document.hash);
            (root.clone(), json!({"serverRelativeURL": url}))
        })
        .collect();
    json!({ "paths": paths })
}

pub(super) fn document(root: &str) -> Option<Bytes> {
    documents().get(root).map(|document| document.body.clone())
}

fn build(root: &str) -> Value {
    let mut paths = Map::new();
    let mut needed = BTreeSet::new();
    let is_here = |group: &str, version: &str| operations::root(group, version) == root;
    for kind in kinds::ALL.iter().filter(|kind| is_here(kind.group, kind.version)) {
        for (path, item) in operations::paths(kind) {
            paths.insert(path, path_item(&item));
        }
        needed.insert(schemas::all().name_of(kind).to_owned());
    }
    for review in reviews::ALL.iter().filter(|review| is_here(review.group, reviews::VERSION)) {
        let (path, item) = operations::question(review);
        paths.insert(path, path_item(&item));
    }
    for item in paths.values() {
        collect(item, &mut needed);
    }
    let components: Map<String, Value> = closure(needed)
        .into_iter()
        .map(|name| {
            let schema = component(&name, &schemas::all().definitions[&name]);
            (name, schema)
        })
        .collect();
    json!({
        "openapi": "3.0.0",
        "info": v2::info(),
        "paths": paths,
        "components": {"schemas": components},
    })
}

/// The names that a value refers to.
fn collect(value: &Value, names: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(path) = fields.get("$ref").and_then(Value::as_str)
                && let Some(name) = path.strip_prefix(DEFINITIONS).or_else(|| path.strip_prefix(COMPONENTS))
            {
                names.insert(name.to_owned());
            }
            fields.values().for_each(|value| collect(value, names));
        }
        Value::Array(list) => list.iter().for_each(|value| collect(value, names)),
        _ => {}
    }
}

/// These types and all that they are made of.
fn closure(mut open: BTreeSet<String>) -> BTreeSet<String> {
    let definitions = &schemas::all().definitions;
    let mut done = BTreeSet::new();
    while let Some(name) = open.pop_first() {
        if let Some(schema) = definitions.get(&name)
            && done.insert(name)
        {
            let mut next = BTreeSet::new();
            collect(schema, &mut next);
            open.extend(next.into_iter().filter(|name| !done.contains(name)));
        }
    }
    done
}

/// A named type.
fn component(name: &str, definition: &Value) -> Value {
    let mut converted = schema(definition);
    // Text or a number, which v2 cannot say.
    let short = name.rsplit('.').next().unwrap_or(name);
    if short == "Quantity" || short == "IntOrString" {
        let number = if short == "Quantity" { "number" } else { "integer" };
        if let Value::Object(fields) = &mut converted {
            fields.remove("type");
            fields.insert("oneOf".to_owned(), json!([{"type": "string"}, {"type": number}]));
        }
    }
    converted
}

/// A schema of v2 as one of v3. Beside a `$ref` nothing else may stand there, so
/// descriptions of references go around them.
fn schema(schema: &Value) -> Value {
    match schema {
        Value::Object(fields) => {
            let mut converted: Map<String, Value> = fields
                .iter()
                .filter(|(key, _)| *key != "$ref")
                .map(|(key, value)| (key.clone(), self::schema(value)))
                .collect();
            if let Some(path) = fields.get("$ref").and_then(Value::as_str) {
                let target = json!({"$ref": path.replace(DEFINITIONS, COMPONENTS)});
                if converted.is_empty() {
                    return target;
                }
                converted.insert("allOf".to_owned(), json!([target]));
            }
            Value::Object(converted)
        }
        Value::Array(list) => Value::Array(list.iter().map(self::schema).collect()),
        other => other.clone(),
    }
}

fn path_item(item: &Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in item.as_object().into_iter().flatten() {
        let value = match key.as_str() {
            "parameters" => parameters(value),
            _ => operation(value),
        };
        converted.insert(key.clone(), value);
    }
    Value::Object(converted)
}

fn operation(operation: &Value) -> Value {
    let mut converted = Map::new();
    for (key, value) in operation.as_object().into_iter().flatten() {
        match key.as_str() {
            "consumes" | "produces" | "schemes" | "parameters" | "responses" => {}
            _ => {
                converted.insert(key.clone(), value.clone());
            }
        }
    }
    converted.insert("parameters".to_owned(), parameters(&operation["parameters"]));
    let body = operation["parameters"].as_array().into_iter().flatten().find(|p| p["in"] == "body");
    if let Some(body) = body {
        let mut request = json!({"content": content(&operation["consumes"], &body["schema"])});
        if body["required"] == true {
            request["required"] = true.into();
        }
        converted.insert("requestBody".to_owned(), request);
    }
    let responses: Map<String, Value> = operation["responses"]
        .as_object()
        .into_iter()
        .flatten()
        .map(|(code, response)| {
            let mut converted = json!({"description": response["description"]});
            if !response["schema"].is_null() {
                converted["content"] = content(&operation["produces"], &response["schema"]);
            }
            (code.clone(), converted)
        })
        .collect();
    converted.insert("responses".to_owned(), Value::Object(responses));
    Value::Object(converted)
}

fn content(media_types: &Value, schema: &Value) -> Value {
    let of = |media: &Value| {
        (media.as_str().unwrap_or_default().to_owned(), json!({"schema": self::schema(schema)}))
    };
    Value::Object(media_types.as_array().into_iter().flatten().map(of).collect())
}

fn parameters(list: &Value) -> Value {
    let convert = |parameter: &Value| {
        let mut converted = json!({
            "name": parameter["name"], "in": parameter["in"], "description": parameter["description"],
            "schema": {"type": parameter["type"], "uniqueItems": true},
        });
        if parameter["required"] == true {
            converted["required"] = true.into();
        }
        converted
    };
    list.as_array().into_iter().flatten().filter(|p| p["in"] != "body").map(convert).collect()
}
