//! From the bytes of a request to an object of the kind it should be.

use std::time::Duration;

use axum::body::Body;
use bytes::Bytes;
use http::{HeaderMap, header};
use http_body_util::{BodyExt, LengthLimitError, Limited};
use serde_json::{Value, json};
use tokio::time::timeout;

use super::apply;
use super::duplicates;
use super::kinds::{Kind, secret};
use super::options::FieldValidation;
use super::protobuf::{self, ProtobufError};
use super::status::{ApiError, MAX_BODY};
use super::unknown;

/// How long a client has to send a body; upstream's limit for a whole request.
const PATIENCE: Duration = Duration::from_secs(60);

/// Reads the whole body, up to [`MAX_BODY`] and for at most [`PATIENCE`]. What was written so
/// far of one that does not come to its end does nothing.
pub(crate) async fn read(body: Body) -> Result<Bytes, ApiError> {
    read_at_most(MAX_BODY, body).await
}

/// As [`read`], with another limit of bytes.
pub(crate) async fn read_at_most(most: usize, body: Body) -> Result<Bytes, ApiError> {
    read_within(PATIENCE, most, body).await
}

async fn read_within(patience: Duration, most: usize, body: Body) -> Result<Bytes, ApiError> {
    let read = timeout(patience, Limited::new(body, most).collect());
    let Ok(read) = read.await else { return Err(ApiError::SlowBody) };
    match read {
        Ok(collected) => Ok(collected.to_bytes()),
        Err(error) if error.is::<LengthLimitError>() => Err(ApiError::TooLarge(format!("limit is {most}"))),
        Err(error) => Err(ApiError::BadRequest(format!("the request's body could not be read: {error}"))),
    }
}

/// How long a refused request is listened to.
const POLITENESS: Duration = Duration::from_secs(2);

/// Takes in what is still to come of a request that is refused without a look at its body, within
/// bounds. A client that is told in the middle of sending may take the end of the stream for
/// a failure, and not read why.
pub(crate) async fn pass_over(headers: &HeaderMap, body: Body) {
    // That client has not begun to send, and waits for the word to do so.
    if headers.contains_key(header::EXPECT) {
        return;
    }
    let mut body = Limited::new(body, MAX_BODY);
    let all = async { while let Some(Ok(_)) = body.frame().await {} };
    // Who is slow has to do with what it gets.
    let _ = timeout(POLITENESS, all).await;
}

/// The media type of the body, without parameters; JSON when it is not given.
pub(crate) fn content_type(headers: &HeaderMap) -> &str {
    let value = headers.get(header::CONTENT_TYPE).and_then(|value| value.to_str().ok()).unwrap_or_default();
    match value.split(';').next().unwrap_or_default().trim() {
        "" | "*/*" => "application/json",
        media => media,
    }
}

/// A decoded body and the fields that occur twice in it.
pub(crate) struct Document {
    pub(crate) value: Value,
    pub(crate) duplicates: Vec<String>,
}

/// Decodes a JSON or YAML body into a JSON object.
pub(crate) fn decode(headers: &HeaderMap, bytes: &[u8]) -> Result<Document, ApiError> {
    let document = match content_type(headers) {
        "application/json" => json_document(bytes)?,
        "application/yaml" | "application/x-yaml" | "text/yaml" => yaml_document(bytes)?,
        "application/vnd.kubernetes.protobuf" => protobuf_document(bytes)?,
        other => {
            return Err(ApiError::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: \
                 application/json, application/yaml, application/vnd.kubernetes.protobuf"
            )));
        }
    };
    if !document.value.is_object() {
        return Err(ApiError::BadRequest("the body of the request must be one object".to_owned()));
    }
    Ok(document)
}

/// Decodes JSON and notes duplicate fields.
pub(crate) fn json_document(bytes: &[u8]) -> Result<Document, ApiError> {
    let (value, duplicates) = duplicates::parse(bytes)
        .map_err(|e| ApiError::BadRequest(format!("the body of the request is not valid JSON: {e}")))?;
    Ok(Document { value, duplicates })
}

/// Decodes YAML; duplicate fields are errors there.
pub(crate) fn yaml_document(bytes: &[u8]) -> Result<Document, ApiError> {
    let value = serde_saphyr::from_slice(bytes).map_err(|e| {
        let text = e.to_string();
        let line = text.lines().next().unwrap_or_default();
        ApiError::BadRequest(format!("the body of the request is not valid YAML: {line}"))
    })?;
    Ok(Document { value, duplicates: Vec::new() })
}

/// What a body says, for the audit log; nothing where it cannot be read.
pub(crate) fn content(headers: &HeaderMap, bytes: &[u8]) -> Option<Value> {
    let document = match content_type(headers) {
        media if media.ends_with("yaml") => yaml_document(bytes),
        "application/vnd.kubernetes.protobuf" => protobuf_document(bytes),
        // Patches, too.
        media if media.ends_with("json") => json_document(bytes),
        _ => return None,
    };
    document.ok().map(|document| document.value)
}

fn protobuf_document(bytes: &[u8]) -> Result<Document, ApiError> {
    let value = protobuf::decode(bytes).map_err(|error| match error {
        ProtobufError::Malformed(_) | ProtobufError::Unfit(_) => ApiError::BadRequest(error.to_string()),
        ProtobufError::UnknownKind(..) => ApiError::UnsupportedMediaType(error.to_string()),
    })?;
    Ok(Document { value, duplicates: Vec::new() })
}

/// Why a value is no object of the kind.
pub(crate) fn misfit(kind: &Kind, value: &Value, error: &serde_json::Error) -> String {
    match kind.kind {
        // The error quotes what is there.
        "Secret" => secret::misfit(value),
        _ => error.to_string(),
    }
}

/// Makes a document an object of the kind: its type is checked and unknown
/// fields are dropped. Returns it with the warnings for the client.
pub(crate) fn conform(
    kind: &Kind,
    document: Document,
    validation: FieldValidation,
) -> Result<(Value, Vec<String>), ApiError> {
    let Document { mut value, duplicates } = document;
    let (api_version, name) = (kind.api_version(), kind.kind);
    for (field, expected) in [("apiVersion", api_version.as_str()), ("kind", name)] {
        match value[field].as_str().unwrap_or_default() {
            "" => value[field] = json!(expected),
            found if found == expected => {}
            found => {
                return Err(ApiError::BadRequest(format!(
                    "the {field} in the data ({found}) does not match the expected {field} ({expected})"
                )));
            }
        }
    }
    // The owners of fields are not the model's to check: what cannot be read is not used.
    let managed = apply::take(&mut value);
    let refuse = |why: String| {
        ApiError::BadRequest(format!(
            "{name} in version {:?} cannot be handled as a {name}: {why}",
            kind.version
        ))
    };
    let mut known = (kind.model.check)(&value).map_err(|e| refuse(misfit(kind, &value, &e)))?;
    if let (Some(managed), Some(metadata)) =
        (managed, known.get_mut("metadata").and_then(Value::as_object_mut))
    {
        metadata.insert("managedFields".to_owned(), managed);
    }
    if validation == FieldValidation::Ignore {
        return Ok((known, Vec::new()));
    }
    let mut wrong: Vec<String> = duplicates.iter().map(|path| format!("duplicate field {path:?}")).collect();
    wrong.extend(unknown::fields(&value, &known).iter().map(|path| format!("unknown field {path:?}")));
    if validation == FieldValidation::Strict && !wrong.is_empty() {
        return Err(refuse(format!("strict decoding error: {}", wrong.join(", "))));
    }
    Ok((known, wrong))
}

#[cfg(test)]
mod tests {
    use std::convert::Infallible;
    use std::time::Instant;

    use super::*;

    /// A piece at a time, and no end.
    fn endless() -> Body {
        Body::from_stream(futures::stream::unfold((), |()| async {
            tokio::time::sleep(Duration::from_millis(10)).await;
            Some((Ok::<_, Infallible>(Bytes::from_static(b"x")), ()))
        }))
    }

    #[tokio::test]
    async fn bodies_end_in_time() {
        let patience = Duration::from_millis(200);
        assert!(matches!(read_within(patience, MAX_BODY, endless()).await, Err(ApiError::SlowBody)));
        assert_eq!(read(Body::from("abc")).await.unwrap(), "abc");
        assert!(matches!(read(Body::from(vec![0; MAX_BODY + 1])).await, Err(ApiError::TooLarge(_))));
        assert_eq!(read(Body::from(vec![0; MAX_BODY])).await.unwrap().len(), MAX_BODY);
    }

    #[tokio::test]
    async fn refused_bodies_are_passed_over() {
        let mut headers = HeaderMap::new();
        let started = Instant::now();
        pass_over(&headers, endless()).await;
        assert!(started.elapsed() >= POLITENESS);
        pass_over(&headers, Body::from(vec![0; 2 * MAX_BODY])).await;
        headers.insert(header::EXPECT, http::HeaderValue::from_static("100-continue"));
        let started = Instant::now();
        pass_over(&headers, endless()).await;
        assert!(started.elapsed() < POLITENESS, "a client that waits is waited for");
    }
}
