//! Answers: one object or a list, in the shape and syntax that was asked for.
//! Stored bytes go out as they are wherever nothing has to change in them.

use std::sync::Arc;

use axum::body::Body;
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::accept::{Accepted, PROTOBUF, Shape, Syntax};
use super::joined::Joined;
use super::limits::Room;
use super::route::Target;
use super::status::ApiError;
use super::table::{self, IncludeObject};
use super::verbs::Call;
use super::{converted, protobuf, size};
use crate::store::Object;

/// Answers with a stored object.
pub(crate) fn stored(
    call: &Call,
    code: StatusCode,
    object: &Object,
    warnings: &[String],
) -> Result<Response, ApiError> {
    if is_verbatim(&call.target, call.accepted) {
        return finish(code, object.body.clone(), Syntax::Json, warnings);
    }
    value(call, code, decode(object)?, warnings)
}

/// Answers with an object in its stored form.
pub(crate) fn value(
    call: &Call,
    code: StatusCode,
    value: Value,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let include = include_object(&call.options.include_object)?;
    let shaped = shape(&call.target, call.accepted.shape, include, value, Timestamp::now());
    finish(code, Bytes::from(shaped.to_string()), call.accepted.syntax, warnings)
}

/// Answers with something that is no object of the asked kind, such as a `Status`.
pub(crate) fn other(call: &Call, code: StatusCode, value: &Value) -> Result<Response, ApiError> {
    finish(code, Bytes::from(value.to_string()), call.accepted.syntax, &[])
}

/// Room for a list of these objects, where it needs any. Taken before what cannot be taken back.
pub(crate) fn room(call: &Call, objects: &[Arc<Object>]) -> Result<Option<Arc<Room>>, ApiError> {
    if is_verbatim(&call.target, call.accepted) {
        return Ok(None);
    }
    let bytes = objects.iter().map(|object| object.body.len()).sum();
    call.api.limits.convert(bytes).map(|room| Some(Arc::new(room)))
}

/// Answers with a list that has its room.
pub(crate) fn list(
    call: &Call,
    objects: Vec<Arc<Object>>,
    metadata: Value,
    room: Option<Arc<Room>>,
) -> Result<Response, ApiError> {
    let target = &call.target;
    let Some(room) = room else {
        let head =
            json!({"kind": format!("{}List", target.kind.kind), "apiVersion": target.kind.api_version()});
        let head = head.to_string();
        let head = head.trim_end_matches('}');
        let head = format!("{head},\"metadata\":{metadata},\"items\":[").into_bytes();
        return Ok(respond(StatusCode::OK, Body::new(Joined::new(head, objects)), Syntax::Json));
    };
    let bytes = objects.iter().map(|object| object.body.len()).sum();
    let list = size::aside(bytes, || converted::list(call, &objects, metadata))?;
    let mut response = respond(StatusCode::OK, Body::from(list), call.accepted.syntax);
    response.extensions_mut().insert(room);
    Ok(response)
}

/// Whether stored bytes can be sent as they are.
pub(crate) fn is_verbatim(target: &Target, accepted: Accepted) -> bool {
    accepted == (Accepted { shape: Shape::Object, syntax: Syntax::Json }) && !target.is_converted()
}

/// One object, from its stored form to the shape that was asked for.
pub(crate) fn shape(
    target: &Target,
    shape: Shape,
    include: IncludeObject,
    value: Value,
    now: Timestamp,
) -> Value {
    let mut served = target.to_served(value);
    match shape {
        Shape::Object => served,
        Shape::Metadata(version) => partial(&mut served, version),
        Shape::Table(version) => {
            let metadata = json!({"resourceVersion": served["metadata"]["resourceVersion"]});
            let mut table = table::render(target.kind, &[served], metadata, now, include);
            table["apiVersion"] = json!(version);
            table
        }
    }
}

pub(crate) fn partial(object: &mut Value, version: &str) -> Value {
    let metadata = object.get_mut("metadata").map_or(Value::Object(Map::new()), Value::take);
    json!({"kind": "PartialObjectMetadata", "apiVersion": version, "metadata": metadata})
}

/// Reads `includeObject`.
pub(crate) fn include_object(value: &str) -> Result<IncludeObject, ApiError> {
    match value {
        "" | "Metadata" => Ok(IncludeObject::Metadata),
        "None" => Ok(IncludeObject::None),
        "Object" => Ok(IncludeObject::Object),
        other => Err(ApiError::BadRequest(format!(
            "includeObject: Unsupported value: {other:?}: supported values: \"None\", \"Metadata\", \"Object\""
        ))),
    }
}

/// A stored body as JSON.
pub(crate) fn decode(object: &Object) -> Result<Value, ApiError> {
    object
        .decode()
        .map_err(|e| ApiError::Internal(format!("the stored body of {} is damaged: {e}", object.key)))
}

/// Characters of one warning, and bytes of all: upstream's limits. Clients take a bounded number of headers.
const MAX_WARNING: usize = 256;
const MAX_WARNINGS: usize = 4 * 1024;

/// Bytes of JSON as an answer in the given syntax.
pub(crate) fn finish(
    code: StatusCode,
    json: Bytes,
    syntax: Syntax,
    warnings: &[String],
) -> Result<Response, ApiError> {
    let bytes = match syntax {
        Syntax::Json => json,
        Syntax::Yaml => yaml(&json)?,
        Syntax::Protobuf => protobuf(&json)?,
    };
    let mut response = respond(code, Body::from(bytes), syntax);
    let headers = response.headers_mut();
    let mut bytes = 0;
    for warning in warnings {
        let warning: String = warning.chars().take(MAX_WARNING).collect();
        bytes += warning.len();
        if bytes > MAX_WARNINGS {
            break;
        }
        let text = warning.replace('\\', "\\\\").replace('"', "\\\"");
        // RFC 9111: 299 is a persistent miscellaneous warning. One that is not ASCII cannot be sent.
        if let Ok(value) = HeaderValue::from_str(&format!("299 - \"{text}\"")) {
            headers.append(header::WARNING, value);
        }
    }
    Ok(response)
}

/// Answers with a body of the syntax.
fn respond(code: StatusCode, body: Body, syntax: Syntax) -> Response {
    let media = match syntax {
        Syntax::Json => "application/json",
        Syntax::Yaml => "application/yaml",
        Syntax::Protobuf => PROTOBUF,
    };
    let mut response = Response::new(body);
    *response.status_mut() = code;
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

fn protobuf(json: &[u8]) -> Result<Bytes, ApiError> {
    let failed = |e: &dyn std::error::Error| ApiError::Internal(format!("cannot write protobuf: {e}"));
    let value: Value = serde_json::from_slice(json).map_err(|e| failed(&e))?;
    Ok(protobuf::encode(&value).map_err(|e| failed(&e))?.into())
}

fn yaml(json: &[u8]) -> Result<Bytes, ApiError> {
    let failed = |e: &dyn std::error::Error| ApiError::Internal(format!("cannot write YAML: {e}"));
    let value: Value = serde_json::from_slice(json).map_err(|e| failed(&e))?;
    Ok(serde_saphyr::to_string(&value).map_err(|e| failed(&e))?.into())
}
