//! The paths that are about the server itself: version, metrics, OpenAPI.

use std::sync::{Arc, OnceLock};

use axum::body::Body;
use axum::extract::{Path, State};
use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, header};
use serde_json::json;

use super::Api;
use super::accept;
use super::openapi;
use super::status::ApiError;

/// The Kubernetes version whose API this is; what follows the `+` is this program's own.
const GIT_VERSION: &str = concat!("v1.36.0+holdfast.", env!("CARGO_PKG_VERSION"));
/// The protobuf form of OpenAPI v2 as clients ask for it …
const OPENAPI_ASKED: &str = "application/com.github.proto-openapi.spec.v2@v1.0+protobuf";
/// … and as it is answered: `@` is not allowed in a media type, and Go's parser minds.
const OPENAPI_PROTOBUF: &str = "application/com.github.proto-openapi.spec.v2.v1.0+protobuf";

fn respond(media: &'static str, body: impl Into<Body>) -> Response {
    let mut response = Response::new(body.into());
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response
}

/// `/version`
pub(crate) async fn version() -> Response {
    let info = json!({
        "major": "1",
        "minor": "36",
        "gitVersion": GIT_VERSION,
        "gitCommit": "",
        "gitTreeState": "clean",
        "buildDate": "1970-01-01T00:00:00Z",
        "goVersion": "",
        "compiler": "rustc",
        "platform": format!("{}/{}", std::env::consts::OS, std::env::consts::ARCH),
    });
    respond("application/json", info.to_string())
}

/// The list of CustomResourceDefinitions: there are none. kubectl asks for it before it says
/// that it knows no such kind; without an answer it would complain of the question instead.
pub(crate) async fn custom_resource_definitions(State(api): State<Arc<Api>>) -> Response {
    let list = json!({
        "apiVersion": "apiextensions.k8s.io/v1",
        "kind": "CustomResourceDefinitionList",
        "metadata": {"resourceVersion": api.store.revision().to_string()},
        "items": [],
    });
    respond("application/json", list.to_string())
}

/// `/metrics`
pub(crate) async fn metrics(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &api.registry.lock())
        .map_err(|e| ApiError::Internal(format!("cannot write the metrics: {e}")))?;
    Ok(respond("application/openmetrics-text; version=1.0.0; charset=utf-8", text))
}

/// `/openapi/v2`
pub(crate) async fn openapi_v2(headers: HeaderMap) -> Result<Response, ApiError> {
    static JSON: OnceLock<Bytes> = OnceLock::new();
    static PROTOBUF: OnceLock<Bytes> = OnceLock::new();
    let clauses = accept::clauses(&headers);
    for clause in &clauses {
        match clause.media {
            OPENAPI_ASKED | OPENAPI_PROTOBUF => {
                return Ok(respond(OPENAPI_PROTOBUF, PROTOBUF.get_or_init(openapi::v2_protobuf).clone()));
            }
            "application/json" | "application/*" | "*/*" => {
                return Ok(respond("application/json", JSON.get_or_init(openapi::v2_json).clone()));
            }
            _ => {}
        }
    }
    if clauses.is_empty() {
        return Ok(respond("application/json", JSON.get_or_init(openapi::v2_json).clone()));
    }
    Err(ApiError::NotAcceptable("application/json"))
}

/// `/openapi/v3`
pub(crate) async fn openapi_v3() -> Response {
    static INDEX: OnceLock<Bytes> = OnceLock::new();
    let index = INDEX.get_or_init(|| openapi::v3_index().to_string().into());
    respond("application/json", index.clone())
}

/// `/openapi/v3/<group version>`
pub(crate) async fn openapi_v3_document(
    Path(name): Path<String>,
    headers: HeaderMap,
) -> Result<Response, ApiError> {
    let clauses = accept::clauses(&headers);
    let is_json =
        |clause: &accept::Clause<'_>| matches!(clause.media, "application/json" | "application/*" | "*/*");
    if !clauses.is_empty() && !clauses.iter().any(is_json) {
        return Err(ApiError::NotAcceptable("application/json"));
    }
    let document = openapi::v3(name.trim_end_matches('/')).ok_or(ApiError::NoSuchPath)?;
    Ok(respond("application/json", document))
}
