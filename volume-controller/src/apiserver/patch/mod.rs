//! The patch formats of the API: JSON patch (RFC 6902), merge patch (RFC 7386)
//! and Kubernetes' strategic merge patch.

use serde_json::Value;
use thiserror::Error;

use super::kinds::Kind;

/// Why a patch cannot be applied.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum PatchError {
    /// The patch itself is wrong: a client's mistake, status 400.
    #[error("{0}")]
    Malformed(String),
    /// The patch is right but does not fit the object (a `test` that fails, a
    /// path that is missing): status 422.
    #[error("{0}")]
    Unprocessable(String),
}

/// Applies a JSON patch.
///
/// # Errors
/// See [`PatchError`].
pub fn json(_object: &Value, _patch: &Value) -> Result<Value, PatchError> {
    Err(PatchError::Malformed(String::new()))
}

/// Applies a merge patch.
#[must_use]
pub fn merge(object: &Value, _patch: &Value) -> Value {
    object.clone()
}

/// Applies a strategic merge patch.
///
/// # Errors
/// See [`PatchError`].
pub fn strategic(_kind: &Kind, _object: &Value, _patch: &Value) -> Result<Value, PatchError> {
    Err(PatchError::Malformed(String::new()))
}
