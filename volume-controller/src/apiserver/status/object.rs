//! How an error is told: as `metav1.Status`, with causes and the time to try again.

use axum::response::{IntoResponse, Response};
use bytes::Bytes;
use http::{HeaderValue, StatusCode, header};
use serde_json::{Map, Value, json};

use super::super::accept::Syntax;
use super::super::kinds::{Cause, CauseReason, Kind};
use super::super::reply;
use super::{ApiError, Resource};

impl ApiError {
    /// The error as a `Status` object.
    pub(crate) fn status(&self) -> Value {
        let (code, reason) = self.code();
        let mut status = json!({
            "kind": "Status",
            "apiVersion": "v1",
            "metadata": {},
            "status": "Failure",
            "message": self.to_string(),
            "reason": reason,
            "code": code.as_u16(),
        });
        if let Self::ContinueExpired(token) = self {
            status["metadata"]["continue"] = json!(token);
        }
        let mut details = self.details();
        if self.is_retryable() {
            details.insert("retryAfterSeconds".to_owned(), json!(1));
        }
        if !details.is_empty() {
            status["details"] = Value::Object(details);
        }
        status
    }

    fn details(&self) -> Map<String, Value> {
        let mut details = Map::new();
        let mut subject = |resource: &Resource, kind: &str, name: &str| {
            if !name.is_empty() {
                details.insert("name".to_owned(), json!(name));
            }
            if !resource.group.is_empty() {
                details.insert("group".to_owned(), json!(resource.group));
            }
            details.insert("kind".to_owned(), json!(kind));
        };
        match self {
            Self::NotFound { resource, name }
            | Self::AlreadyExists { resource, name }
            | Self::Conflict { resource, name, .. } => subject(resource, resource.plural, name),
            Self::Forbidden { resource, name, cause, .. } => {
                subject(resource, resource.plural, name);
                if let Some(cause) = cause {
                    details
                        .insert("causes".to_owned(), json!([{"reason": cause, "message": self.to_string()}]));
                }
            }
            Self::Denied { group, resource, name, .. } => {
                for (field, text) in [("name", name), ("group", group), ("kind", resource)] {
                    if !text.is_empty() {
                        details.insert(field.to_owned(), json!(text));
                    }
                }
            }
            Self::Invalid { resource, name, causes } => {
                subject(resource, resource.kind, name);
                let causes: Vec<Value> = causes
                    .iter()
                    .map(|cause| {
                        let (reason, _) = wording(cause.reason);
                        json!({"reason": reason, "message": body(cause), "field": cause.field})
                    })
                    .collect();
                details.insert("causes".to_owned(), Value::Array(causes));
            }
            Self::ApplyConflict { causes, .. } => {
                let cause = |(field, why): &(String, String)| json!({"reason": "FieldManagerConflict", "message": why, "field": field});
                details.insert("causes".to_owned(), causes.iter().map(cause).collect());
            }
            Self::FutureVersion { .. } => {
                let cause =
                    json!({"reason": "ResourceVersionTooLarge", "message": "Too large resource version"});
                details.insert("causes".to_owned(), json!([cause]));
            }
            _ => {}
        }
        details
    }

    /// The error as an answer in the given syntax.
    pub(crate) fn answer(self, syntax: Syntax) -> Response {
        let (code, _) = self.code();
        match code {
            StatusCode::INTERNAL_SERVER_ERROR => tracing::error!(error = %self, "request failed"),
            _ => tracing::debug!(code = code.as_u16(), error = %self, "request refused"),
        }
        let status = Bytes::from(self.status().to_string());
        let mut response = reply::finish(code, status.clone(), syntax, &[]).unwrap_or_else(|error| {
            tracing::error!(%error, "a status is sent as JSON");
            (code, [(header::CONTENT_TYPE, "application/json")], status).into_response()
        });
        let headers = response.headers_mut();
        if self.is_retryable() {
            headers.insert(header::RETRY_AFTER, HeaderValue::from_static("1"));
        }
        if matches!(self, Self::Unauthorized) {
            headers.insert(header::WWW_AUTHENTICATE, HeaderValue::from_static("Bearer"));
        }
        response
    }
}

impl IntoResponse for ApiError {
    fn into_response(self) -> Response {
        self.answer(Syntax::Json)
    }
}

/// The answer to a deletion that is complete (`metav1.Status`, Success).
pub(crate) fn deleted(kind: &Kind, name: &str, uid: &str) -> Value {
    let mut details = json!({"name": name, "kind": kind.plural, "uid": uid});
    if !kind.group.is_empty() {
        details["group"] = json!(kind.group);
    }
    json!({"kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "details": details})
}

/// `metav1.CauseType` and the words of `field.ErrorType`.
fn wording(reason: CauseReason) -> (&'static str, &'static str) {
    match reason {
        CauseReason::Required => ("FieldValueRequired", "Required value"),
        CauseReason::Invalid => ("FieldValueInvalid", "Invalid value"),
        CauseReason::NotSupported => ("FieldValueNotSupported", "Unsupported value"),
        CauseReason::Forbidden => ("FieldValueForbidden", "Forbidden"),
        CauseReason::Duplicate => ("FieldValueDuplicate", "Duplicate value"),
        CauseReason::TooLong => ("FieldValueTooLong", "Too long"),
    }
}

fn body(cause: &Cause) -> String {
    let (_, words) = wording(cause.reason);
    if cause.message.is_empty() { words.to_owned() } else { format!("{words}: {}", cause.message) }
}

/// One cause plain, several in brackets, as `ErrorList.ToAggregate` prints them.
pub(super) fn sentence(causes: &[Cause]) -> String {
    let parts: Vec<String> = causes.iter().map(|cause| format!("{}: {}", cause.field, body(cause))).collect();
    match parts.as_slice() {
        [one] => one.clone(),
        many => format!("[{}]", many.join(", ")),
    }
}
