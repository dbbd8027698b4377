//! Kubernetes' protobuf encoding (`application/vnd.kubernetes.protobuf`), which Go's typed
//! clients send and prefer to receive. [`fields`] says which number is which field.
//!
//! The format: four magic bytes, then a `runtime.Unknown` with the type's name and
//! the object's own message. Source: "Kubernetes Protobuf encoding" in the API
//! concepts of Kubernetes' documentation.

mod encode;
mod fields;
#[cfg(test)]
mod round_trip_tests;
mod wire;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value, json};
use thiserror::Error;

pub(crate) use encode::{List, encode, event, knows};
use fields::{Content, Field, Shape};
use wire::{Item, Malformed, Reader};

const MAGIC: &[u8] = b"k8s\0";

/// Why a body cannot be read or written.
#[derive(Debug, PartialEq, Eq, Error)]
pub(crate) enum ProtobufError {
    /// The bytes are not what they say.
    #[error("the body of the request is not valid protobuf: {0}")]
    Malformed(#[from] Malformed),
    /// A kind that has no protobuf form here, or none at all.
    #[error("{0} {1} has no protobuf form here; send and accept JSON")]
    UnknownKind(String, String),
    /// An object to be written is not of its kind.
    #[error("the field {0} does not hold what belongs there")]
    Unfit(&'static str),
}

/// Reads an object in its envelope into its JSON form.
pub(crate) fn decode(bytes: &[u8]) -> Result<Value, ProtobufError> {
    let body = bytes.strip_prefix(MAGIC).ok_or(Malformed("it does not begin with k8s and a zero byte"))?;
    let (mut api_version, mut kind, mut raw) = (String::new(), String::new(), &[][..]);
    let mut reader = Reader::new(body);
    while let Some((number, item)) = reader.next()? {
        match (number, item) {
            (1, Item::Bytes(names)) => {
                let mut reader = Reader::new(names);
                while let Some((number, item)) = reader.next()? {
                    match number {
                        1 => api_version = item.text()?,
                        2 => kind = item.text()?,
                        _ => {}
                    }
                }
            }
            (2, Item::Bytes(object)) => raw = object,
            _ => {}
        }
    }
    let of = |kind: &str| fields::message(&message_name(&api_version, kind));
    let mut object = match (of(&kind), kind.strip_suffix("List").and_then(of)) {
        (Some(known), _) => message(known, raw)?,
        (None, Some(known)) => list(known, raw)?,
        (None, None) => return Err(ProtobufError::UnknownKind(api_version, kind)),
    };
    object.insert("apiVersion".to_owned(), json!(api_version));
    object.insert("kind".to_owned(), json!(kind));
    Ok(Value::Object(object))
}

/// Reads a list of messages.
fn list(known: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let (mut metadata, mut items) = (json!({}), Vec::new());
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match number {
            1 => metadata = value(Content::Message("ListMeta"), item, true)?.unwrap_or_default(),
            2 => items.push(Value::Object(message(known, item.bytes()?)?)),
            _ => {}
        }
    }
    Ok(Map::from_iter([("metadata".to_owned(), metadata), ("items".to_owned(), Value::Array(items))]))
}

/// The name of a kind's message in the table of fields.
fn message_name(api_version: &str, kind: &str) -> String {
    let group = api_version.split_once('/').map_or("", |(group, _)| group);
    match (group, kind) {
        ("" | "meta.k8s.io", _) | (_, "DeleteOptions") => kind.to_owned(),
        (group, kind) => format!("{}.{kind}", group.split('.').next().unwrap_or_default()),
    }
}

/// Reads a message. Fields that are not known are left out, as protobuf has it.
fn message(known: &[Field], bytes: &[u8]) -> Result<Map<String, Value>, Malformed> {
    let mut object = Map::new();
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        let Some(field) = known.iter().find(|field| field.number == number) else { continue };
        match field.shape {
            Shape::One => {
                if let Some(value) = value(field.content, item, field.keeps_zero)? {
                    object.insert(field.name.to_owned(), value);
                }
            }
            Shape::Inline => {
                if let Some(Value::Object(inner)) = value(field.content, item, true)? {
                    object.extend(inner);
                }
            }
            Shape::List => {
                let list = object.entry(field.name).or_insert_with(|| json!([]));
                if let Some(list) = list.as_array_mut() {
                    list.extend(items(field.content, item)?);
                }
            }
            Shape::Map => {
                let (key, value) = entry(field.content, item)?;
                let map = object.entry(field.name).or_insert_with(|| json!({}));
                if let Some(map) = map.as_object_mut() {
                    map.insert(key, value);
                }
            }
        }
    }
    Ok(object)
}

/// The items that one occurrence of a list's field brings: one, or packed numbers.
fn items(content: Content, item: Item<'_>) -> Result<Vec<Value>, Malformed> {
    if let (Content::Int | Content::Bool, Item::Bytes(packed)) = (content, item) {
        let mut reader = Reader::new(packed);
        let mut items = Vec::new();
        while let Some(number) = reader.varint()? {
            items.extend(value(content, Item::Number(number), true)?);
        }
        return Ok(items);
    }
    Ok(value(content, item, true)?.into_iter().collect())
}

fn entry(content: Content, item: Item<'_>) -> Result<(String, Value), Malformed> {
    let (mut key, mut found) = (String::new(), None);
    let mut reader = Reader::new(item.bytes()?);
    while let Some((number, item)) = reader.next()? {
        match number {
            1 => key = item.text()?,
            2 => found = value(content, item, true)?,
            _ => {}
        }
    }
    let empty = if matches!(content, Content::Message(_)) { json!({}) } else { json!("") };
    Ok((key, found.unwrap_or(empty)))
}

/// One value; `None` for a zero that means absence: Go's encoder writes all fields.
fn value(content: Content, item: Item<'_>, keeps_zero: bool) -> Result<Option<Value>, Malformed> {
    let (found, is_zero) = match content {
        Content::String => {
            let text = item.text()?;
            let is_zero = text.is_empty();
            (json!(text), is_zero)
        }
        Content::Bytes => {
            let bytes = item.bytes()?;
            (json!(STANDARD.encode(bytes)), bytes.is_empty())
        }
        Content::Int => (json!(item.integer()?), item.integer()? == 0),
        Content::Bool => (json!(item.integer()? != 0), item.integer()? == 0),
        Content::Time(digits) => return time(item.bytes()?, digits),
        Content::Quantity => {
            let mut text = String::new();
            let mut reader = Reader::new(item.bytes()?);
            while let Some((number, item)) = reader.next()? {
                if number == 1 {
                    text = item.text()?;
                }
            }
            let is_zero = text.is_empty();
            (json!(text), is_zero)
        }
        Content::IntOrString => (int_or_string(item.bytes()?)?, false),
        Content::Json => {
            let mut json = &[][..];
            let mut reader = Reader::new(item.bytes()?);
            while let Some((number, item)) = reader.next()? {
                if number == 1 {
                    json = item.bytes()?;
                }
            }
            if json.is_empty() {
                return Ok(None);
            }
            let value = serde_json::from_slice(json).map_err(|_| Malformed("what should be JSON is not"))?;
            (value, false)
        }
        Content::Message(name) => {
            let known = fields::message(name).unwrap_or_default();
            (Value::Object(message(known, item.bytes()?)?), false)
        }
    };
    Ok((keeps_zero || !is_zero).then_some(found))
}

fn time(bytes: &[u8], digits: usize) -> Result<Option<Value>, Malformed> {
    let (mut seconds, mut nanos) = (0, 0);
    let mut reader = Reader::new(bytes);
    while let Some((number, item)) = reader.next()? {
        match number {
            1 => seconds = item.integer()?,
            2 => nanos = item.integer()?,
            _ => {}
        }
    }
    if bytes.is_empty() {
        return Ok(None);
    }
    let nanos = i32::try_from(nanos).map_err(|_| Malformed("a time's nanoseconds are out of range"))?;
    let at = Timestamp::new(seconds, nanos).map_err(|_| Malformed("a time is out of range"))?;
    let text = match digits {
        0 => at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string(),
        _ => at.strftime("%Y-%m-%dT%H:%M:%S%.6fZ").to_string(),
    };
    Ok(Some(json!(text)))
}

fn int_or_string(bytes: &[u8]) -> Result<Value, Malformed> {
    let (mut is_text, mut number, mut text) = (false, 0, String::new());
    let mut reader = Reader::new(bytes);
    while let Some((field, item)) = reader.next()? {
        match field {
            1 => is_text = item.integer()? != 0,
            2 => number = item.integer()?,
            3 => text = item.text()?,
            _ => {}
        }
    }
    Ok(if is_text { json!(text) } else { json!(number) })
}

#[cfg(test)]
mod tests {
    use super::*;

    /// A length-delimited field.
    fn bytes(number: u8, content: &[u8]) -> Vec<u8> {
        let length = u8::try_from(content.len()).unwrap();
        assert!(length < 128);
        let tag = match number {
            0..16 => vec![number << 3 | 2],
            _ => vec![0x80 | (number & 15) << 3 | 2, number >> 4],
        };
        [&tag[..], &[length], content].concat()
    }

    fn envelope(api_version: &str, kind: &str, object: &[u8]) -> Vec<u8> {
        let names = [bytes(1, api_version.as_bytes()), bytes(2, kind.as_bytes())].concat();
        [MAGIC.to_vec(), bytes(1, &names), bytes(2, object)].concat()
    }

    #[test]
    fn objects() {
        // An empty string and an empty time are Go's way of saying nothing.
        let metadata =
            [bytes(1, b"a"), bytes(2, b""), bytes(8, b""), bytes(14, b"x/y"), bytes(14, b"z")].concat();
        let entry = [bytes(1, b"k"), bytes(2, b"v")].concat();
        let map = [bytes(1, &metadata), bytes(2, &entry), vec![4 << 3, 0], bytes(9, b"unknown")].concat();
        assert_eq!(
            decode(&envelope("v1", "ConfigMap", &map)).unwrap(),
            json!({
                "apiVersion": "v1", "kind": "ConfigMap",
                "metadata": {"name": "a", "finalizers": ["x/y", "z"]}, "data": {"k": "v"}, "immutable": false,
            })
        );
        let secret = bytes(2, &entry);
        assert_eq!(decode(&envelope("v1", "Secret", &secret)).unwrap()["data"]["k"], "dg==");
        let class = [bytes(2, b"p"), vec![6 << 3, 1]].concat();
        let class = decode(&envelope("storage.k8s.io/v1", "StorageClass", &class)).unwrap();
        assert_eq!((&class["provisioner"], &class["allowVolumeExpansion"]), (&json!("p"), &json!(true)));
        let options = [vec![1 << 3, 0], bytes(2, &bytes(1, b"u"))].concat();
        let options = decode(&envelope("storage.k8s.io/v1", "DeleteOptions", &options)).unwrap();
        assert_eq!(
            (&options["gracePeriodSeconds"], &options["preconditions"]["uid"]),
            (&json!(0), &json!("u"))
        );
    }

    #[test]
    fn inlined_fields_and_quantities() {
        // PersistentVolumeSpec: capacity, then the source, whose fields are the spec's own in JSON.
        let capacity = bytes(1, &[bytes(1, b"storage"), bytes(2, &bytes(1, b"1Gi"))].concat());
        let csi = [bytes(1, b"driver"), bytes(2, b"handle")].concat();
        let source = bytes(2, &bytes(22, &csi));
        let volume = bytes(2, &[capacity, source].concat());
        let volume = decode(&envelope("v1", "PersistentVolume", &volume)).unwrap();
        assert_eq!(volume["spec"]["capacity"]["storage"], "1Gi");
        assert_eq!(volume["spec"]["csi"], json!({"driver": "driver", "volumeHandle": "handle"}));
    }

    #[test]
    fn refused() {
        assert!(matches!(decode(b"{}"), Err(ProtobufError::Malformed(_))));
        assert!(matches!(decode(b"k8s\0\x0a\x7f"), Err(ProtobufError::Malformed(_))));
        let unknown = decode(&envelope("snapshot.storage.k8s.io/v1", "VolumeSnapshot", &[]));
        assert!(matches!(unknown, Err(ProtobufError::UnknownKind(..))));
    }
}
