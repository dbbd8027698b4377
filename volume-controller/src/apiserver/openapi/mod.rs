//! The OpenAPI documents, v2 and v3, that `kubectl explain` and `kubectl apply`
//! read. Both are made once, on first use, from the schemas of the kinds.

mod gnostic;
pub(crate) mod merge_keys;
mod operations;
pub(crate) mod schemas;
#[cfg(test)]
pub(crate) mod some_tests;
mod v2;
mod v3;

use std::sync::LazyLock;

use bytes::Bytes;
use prost::Message;
use serde_json::Value;

/// The v2 document as JSON (`/openapi/v2`).
#[must_use]
pub fn v2_json() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> = LazyLock::new(|| v2::document().to_string().into());
    DOCUMENT.clone()
}

/// The v2 document as protobuf (`application/com.github.proto-openapi.spec.v2@v1.0+protobuf`).
#[must_use]
pub fn v2_protobuf() -> Bytes {
    static DOCUMENT: LazyLock<Bytes> =
        LazyLock::new(|| gnostic::Document::from_json(&v2::document()).encode_to_vec().into());
    DOCUMENT.clone()
}

/// The list of v3 documents (`/openapi/v3`).
#[must_use]
pub fn v3_index() -> Value {
    v3::index()
}

/// One v3 document, by its key in the index: `api/v1` or `apis/storage.k8s.io/v1`.
#[must_use]
pub fn v3(group_version: &str) -> Option<Bytes> {
    v3::document(group_version)
}

#[cfg(test)]
mod tests;
