//! From JSON to the encoding: objects in their envelope, lists of them, events of watches.
//!
//! What is missing in the JSON is not written. Go's own encoder writes empty texts and zeros
//! there, which its decoder takes for the same.

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::fields::{self, Content, Field, Shape};
use super::wire::Writer;
use super::{MAGIC, ProtobufError, message_name};
use crate::apiserver::kinds::Kind;

/// Whether objects of this kind have the encoding.
pub(crate) fn knows(kind: &Kind) -> bool {
    fields::message(&message_name(&kind.api_version(), kind.kind)).is_some()
}

/// An object, or a list of objects, in its envelope; its `apiVersion` and `kind` say as what.
pub(crate) fn encode(value: &Value) -> Result<Vec<u8>, ProtobufError> {
    let (api_version, kind) = names(value);
    let Some(fields) = fields::message(&message_name(api_version, kind)) else {
        let mut list = List::begin(value)?;
        for item in value["items"].as_array().into_iter().flatten() {
            list.push(item)?;
        }
        return Ok(list.end());
    };
    let mut raw = Writer::default();
    message(fields, value.as_object().ok_or_else(|| unknown(value))?, &mut raw)?;
    Ok(envelope(api_version, kind, &raw))
}

fn names(value: &Value) -> (&str, &str) {
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    (text("apiVersion"), text("kind"))
}

fn unknown(value: &Value) -> ProtobufError {
    let (api_version, kind) = names(value);
    ProtobufError::UnknownKind(api_version.to_owned(), kind.to_owned())
}

fn envelope(api_version: &str, kind: &str, raw: &Writer) -> Vec<u8> {
    let mut names = Writer::default();
    names.bytes(1, api_version.as_bytes());
    names.bytes(2, kind.as_bytes());
    let mut envelope = Writer { written: MAGIC.to_vec() };
    envelope.bytes(1, &names.written);
    envelope.bytes(2, &raw.written);
    envelope.written
}

/// A list that is written object by object.
pub(crate) struct List {
    api_version: String,
    kind: String,
    fields: &'static [Field],
    raw: Writer,
}

impl List {
    /// The beginning of a list, without objects: its `apiVersion`, `kind` and `metadata`.
    pub(crate) fn begin(head: &Value) -> Result<Self, ProtobufError> {
        let (api_version, kind) = names(head);
        let of = kind.strip_suffix("List").and_then(|of| fields::message(&message_name(api_version, of)));
        let fields = of.ok_or_else(|| unknown(head))?;
        let mut raw = Writer::default();
        one(&LIST_METADATA, &head["metadata"], &mut raw)?;
        Ok(Self { api_version: api_version.to_owned(), kind: kind.to_owned(), fields, raw })
    }

    pub(crate) fn push(&mut self, item: &Value) -> Result<(), ProtobufError> {
        let mut bytes = Writer::default();
        message(self.fields, item.as_object().ok_or(ProtobufError::Unfit("items"))?, &mut bytes)?;
        self.raw.bytes(2, &bytes.written);
        Ok(())
    }

    pub(crate) fn end(self) -> Vec<u8> {
        envelope(&self.api_version, &self.kind, &self.raw)
    }
}

/// The first field of every list.
const LIST_METADATA: Field = Field {
    number: 1,
    name: "metadata",
    shape: Shape::One,
    content: Content::Message("ListMeta"),
    keeps_zero: true,
};

/// One event of a watch: the length of a `WatchEvent` in four bytes, the highest first, then the
/// event itself without an envelope, with the object in its envelope.
pub(crate) fn event(kind: &str, object: &Value) -> Result<Vec<u8>, ProtobufError> {
    let mut raw = Writer::default();
    raw.bytes(1, &encode(object)?);
    let mut event = Writer::default();
    event.bytes(1, kind.as_bytes());
    event.bytes(2, &raw.written);
    let length = u32::try_from(event.written.len()).map_err(|_| ProtobufError::Unfit("object"))?;
    Ok([&length.to_be_bytes(), event.written.as_slice()].concat())
}

fn message(
    known: &'static [Field],
    object: &Map<String, Value>,
    out: &mut Writer,
) -> Result<(), ProtobufError> {
    for field in known {
        let unfit = || ProtobufError::Unfit(field.name);
        if let (Shape::Inline, Content::Message(name)) = (field.shape, field.content) {
            let mut inner = Writer::default();
            message(fields::message(name).unwrap_or_default(), object, &mut inner)?;
            if !inner.written.is_empty() {
                out.bytes(field.number, &inner.written);
            }
            continue;
        }
        let Some(value) = object.get(field.name).filter(|value| !value.is_null()) else { continue };
        match field.shape {
            Shape::One | Shape::Inline => one(field, value, out)?,
            Shape::List => {
                for item in value.as_array().ok_or_else(unfit)? {
                    one(field, item, out)?;
                }
            }
            Shape::Map => {
                for (key, value) in value.as_object().ok_or_else(unfit)? {
                    let mut entry = Writer::default();
                    entry.bytes(1, key.as_bytes());
                    one(&Field { number: 2, ..*field }, value, &mut entry)?;
                    out.bytes(field.number, &entry.written);
                }
            }
        }
    }
    Ok(())
}

/// One value under its field's number.
fn one(field: &Field, value: &Value, out: &mut Writer) -> Result<(), ProtobufError> {
    let unfit = || ProtobufError::Unfit(field.name);
    let text = || value.as_str().ok_or_else(unfit);
    let mut inner = Writer::default();
    match field.content {
        Content::String => {
            out.bytes(field.number, text()?.as_bytes());
            return Ok(());
        }
        Content::Bytes => {
            out.bytes(field.number, &STANDARD.decode(text()?).map_err(|_| unfit())?);
            return Ok(());
        }
        Content::Int => {
            out.number(field.number, value.as_i64().ok_or_else(unfit)?);
            return Ok(());
        }
        Content::Bool => {
            out.number(field.number, value.as_bool().ok_or_else(unfit)?.into());
            return Ok(());
        }
        Content::Time(digits) => {
            let at: Timestamp = text()?.parse().map_err(|_| unfit())?;
            inner.number(1, at.as_second());
            inner.number(2, if digits == 0 { 0 } else { at.subsec_nanosecond().into() });
        }
        Content::Quantity => inner.bytes(1, text()?.as_bytes()),
        Content::IntOrString => match value.as_str() {
            Some(text) => {
                inner.number(1, 1);
                inner.bytes(3, text.as_bytes());
            }
            None => {
                inner.number(1, 0);
                inner.number(2, value.as_i64().ok_or_else(unfit)?);
            }
        },
        Content::Json => inner.bytes(1, value.to_string().as_bytes()),
        Content::Message(name) => {
            let object = value.as_object().ok_or_else(unfit)?;
            message(fields::message(name).unwrap_or_default(), object, &mut inner)?;
        }
    }
    out.bytes(field.number, &inner.written);
    Ok(())
}
