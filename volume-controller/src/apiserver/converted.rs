//! A list that is not sent as it is stored: it is converted object by object, so that there is never more of it in memory
//! than the answer and one object. That is what [`super::limits`] reckons with.

use std::sync::Arc;

use jiff::Timestamp;
use serde_json::{Value, json};

use super::accept::{Shape, Syntax};
use super::protobuf::{self, ProtobufError};
use super::reply::{decode, include_object, partial};
use super::status::ApiError;
use super::table;
use super::verbs::Call;
use crate::store::Object;

/// The list as bytes of the syntax that was asked for.
pub(crate) fn list(call: &Call, objects: &[Arc<Object>], metadata: Value) -> Result<Vec<u8>, ApiError> {
    let (target, shape, now) = (&call.target, call.accepted.shape, Timestamp::now());
    let include = match shape {
        Shape::Table(_) => include_object(&call.options.include_object)?,
        _ => table::IncludeObject::None,
    };
    let (head, field) = match shape {
        Shape::Table(version) => {
            let mut head = table::head(target.kind, metadata);
            head["apiVersion"] = json!(version);
            (head, "rows")
        }
        Shape::Metadata(version) => {
            let kind = "PartialObjectMetadataList";
            (json!({"kind": kind, "apiVersion": version, "metadata": metadata}), "items")
        }
        Shape::Object => {
            let kind = format!("{}List", target.kind.kind);
            (json!({"kind": kind, "apiVersion": target.kind.api_version(), "metadata": metadata}), "items")
        }
    };
    let items = objects.iter().map(|object| {
        let mut served = target.to_served(decode(object)?);
        Ok(match shape {
            Shape::Table(_) => table::row(target.kind, &served, now, include),
            Shape::Metadata(version) => partial(&mut served, version),
            Shape::Object => served,
        })
    });
    match call.accepted.syntax {
        Syntax::Json => as_json(&head, field, items),
        Syntax::Yaml => as_yaml(&head, field, items),
        Syntax::Protobuf => as_protobuf(&head, items),
    }
}

fn failed(error: &dyn std::error::Error) -> ApiError {
    ApiError::Internal(format!("cannot write the list: {error}"))
}

fn as_json(
    head: &Value,
    field: &str,
    items: impl Iterator<Item = Result<Value, ApiError>>,
) -> Result<Vec<u8>, ApiError> {
    let head = head.to_string();
    let mut text = head.strip_suffix('}').unwrap_or(&head).as_bytes().to_vec();
    text.extend_from_slice(format!(",\"{field}\":[").as_bytes());
    for (index, item) in items.enumerate() {
        if index > 0 {
            text.push(b',');
        }
        serde_json::to_writer(&mut text, &item?).map_err(|e| failed(&e))?;
    }
    text.extend_from_slice(b"]}");
    Ok(text)
}

fn as_yaml(
    head: &Value,
    field: &str,
    items: impl Iterator<Item = Result<Value, ApiError>>,
) -> Result<Vec<u8>, ApiError> {
    let write = |value: &Value| serde_saphyr::to_string(value).map_err(|e| failed(&e));
    let mut text = write(head)?;
    text.push_str(field);
    text.push(':');
    let start = text.len();
    for item in items {
        if text.len() == start {
            text.push('\n');
        }
        // A list of one is what one element looks like in a longer one.
        text.push_str(&write(&json!([item?]))?);
    }
    if text.len() == start {
        text.push_str(" []\n");
    }
    Ok(text.into_bytes())
}

fn as_protobuf(
    head: &Value,
    items: impl Iterator<Item = Result<Value, ApiError>>,
) -> Result<Vec<u8>, ApiError> {
    let failed = |e: ProtobufError| failed(&e);
    let mut list = protobuf::List::begin(head).map_err(failed)?;
    for item in items {
        list.push(&item?).map_err(failed)?;
    }
    Ok(list.end())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_syntax_says_the_same() {
        let head = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}});
        let map = |name: &str| json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name, "finalizers": ["a/b"]}, "data": {"a": "- x\n b: 'c'\n", "n": "1"}});
        for items in [vec![], vec![map("a")], vec![map("a"), map("b"), json!({}), map("c")]] {
            let mut whole = head.clone();
            whole["items"] = json!(items);
            let each = || items.iter().cloned().map(Ok);
            let text = as_json(&head, "items", each()).unwrap();
            assert_eq!(serde_json::from_slice::<Value>(&text).unwrap(), whole);
            let text = as_yaml(&head, "items", each()).unwrap();
            let text = String::from_utf8(text).unwrap();
            assert_eq!(serde_saphyr::from_str::<Value>(&text).unwrap(), whole, "{text}");
            assert_eq!(as_protobuf(&head, each()).unwrap(), protobuf::encode(&whole).unwrap());
        }
    }
}
