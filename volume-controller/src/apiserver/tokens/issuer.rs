//! What others need to check tokens without asking: the issuer's document and its keys.
//!
//! Source: OpenID Connect Discovery 1.0, section 3; KEP-1393.

use std::sync::Arc;

use axum::body::Body;
use axum::extract::State;
use axum::response::Response;
use http::{HeaderValue, header};
use serde_json::json;

use super::{ISSUER, Tokens};
use crate::apiserver::Api;

/// The path of the document.
pub(crate) const DOCUMENT: &str = "/.well-known/openid-configuration";
/// The path of the keys.
pub(crate) const KEYS: &str = "/openid/v1/jwks";

fn respond(media: &'static str, body: String) -> Response {
    let mut response = Response::new(Body::from(body));
    response.headers_mut().insert(header::CONTENT_TYPE, HeaderValue::from_static(media));
    response.headers_mut().insert(header::CACHE_CONTROL, HeaderValue::from_static("public, max-age=3600"));
    response
}

/// Where the keys are, as seen from inside a cluster.
pub(crate) async fn document() -> Response {
    let document = json!({
        "issuer": ISSUER,
        "jwks_uri": format!("{ISSUER}{KEYS}"),
        "response_types_supported": ["id_token"],
        "subject_types_supported": ["public"],
        "id_token_signing_alg_values_supported": ["ES256"],
    });
    respond("application/json", document.to_string())
}

/// The public keys.
pub(crate) async fn keys(State(api): State<Arc<Api>>) -> Response {
    let Tokens { keys, .. } = &api.authenticator.tokens;
    respond("application/jwk-set+json", keys.set().to_string())
}
