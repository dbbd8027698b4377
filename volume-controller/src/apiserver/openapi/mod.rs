//! The OpenAPI documents, v2 and v3, that `kubectl explain` and `kubectl apply` read.

use bytes::Bytes;
use serde_json::Value;

/// The v2 document as JSON (`/openapi/v2`).
#[must_use]
pub fn v2_json() -> Bytes {
    Bytes::new()
}

/// The v2 document as protobuf (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
#[must_use]
pub fn v2_protobuf() -> Bytes {
    Bytes::new()
}

/// The list of v3 documents (`/openapi/v3`).
#[must_use]
pub fn v3_index() -> Value {
    Value::Null
}

/// One v3 document, by its key in the index: `api/v1` or `apis/storage.k8s.io/v1`.
#[must_use]
pub fn v3(_group_version: &str) -> Option<Bytes> {
    None
}
