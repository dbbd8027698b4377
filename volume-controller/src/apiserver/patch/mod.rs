//! The patch formats of the API: JSON patch (RFC 6902), merge patch (RFC 7386)
//! and Kubernetes' strategic merge patch.

mod elements;
mod strategic;

use json_patch::PatchOperation;
use serde_json::Value;
use thiserror::Error;

use super::kinds::Kind;
use super::status::MAX_BODY;

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
    /// There is too much of it: status 413.
    #[error("{0}")]
    TooLarge(String),
}

/// The most operations that one JSON patch may have; upstream's limit.
const MAX_OPERATIONS: usize = 10_000;

/// The most bytes that the `copy` operations of one JSON patch may add, together;
/// upstream's limit. A few dozen that double the object would else fill the memory.
const MAX_COPIED: usize = MAX_BODY;

/// The most elements of lists that the operations of one JSON patch may move, together. Each
/// insertion near the head of a list moves all that come after.
const MAX_MOVED: usize = 10_000_000;

/// Applies a JSON patch, all of it or nothing.
///
/// # Errors
/// See [`PatchError`].
pub fn json(object: &Value, patch: &Value) -> Result<Value, PatchError> {
    let Value::Array(operations) = patch else {
        return Err(PatchError::Malformed("a JSON patch is a list of operations".to_owned()));
    };
    if operations.len() > MAX_OPERATIONS {
        return Err(PatchError::TooLarge(format!(
            "The allowed maximum operations in a JSON patch is {MAX_OPERATIONS}, got {}",
            operations.len()
        )));
    }
    let patch: json_patch::Patch = serde_json::from_value(patch.clone())
        .map_err(|e| PatchError::Malformed(format!("this is not a JSON patch (RFC 6902): {e}")))?;
    let mut patched = object.clone();
    let (mut copied, mut moved) = (0, 0);
    for (number, operation) in patch.iter().enumerate() {
        if let PatchOperation::Copy(copy) = operation {
            copied += copy.from.resolve(&patched).map_or(0, |value| value.to_string().len());
            if copied > MAX_COPIED {
                return Err(PatchError::Unprocessable(format!(
                    "the copy operations of the patch add more than {MAX_COPIED} bytes"
                )));
            }
        }
        moved += moves(&patched, operation);
        if moved > MAX_MOVED {
            return Err(PatchError::Unprocessable(format!(
                "the operations of the patch move more than {MAX_MOVED} elements of lists"
            )));
        }
        // Nothing has to be undone: what fails half-way is a copy that nobody sees.
        json_patch::patch_unsafe(&mut patched, std::slice::from_ref(operation)).map_err(|mut e| {
            e.operation = number;
            PatchError::Unprocessable(e.to_string())
        })?;
    }
    Ok(patched)
}

/// How many elements of lists an operation moves.
fn moves(object: &Value, operation: &PatchOperation) -> usize {
    let after = |path: &str| {
        let Some((list, place)) = path.rsplit_once('/') else { return 0 };
        let list = object.pointer(list).and_then(Value::as_array).map_or(0, Vec::len);
        place.parse::<usize>().map_or(0, |place| list.saturating_sub(place))
    };
    match operation {
        PatchOperation::Add(add) => after(add.path.as_str()),
        PatchOperation::Remove(remove) => after(remove.path.as_str()),
        PatchOperation::Move(step) => after(step.from.as_str()) + after(step.path.as_str()),
        PatchOperation::Copy(copy) => after(copy.path.as_str()),
        PatchOperation::Replace(_) | PatchOperation::Test(_) => 0,
    }
}

/// Applies a merge patch.
#[must_use]
pub fn merge(object: &Value, patch: &Value) -> Value {
    let mut patched = object.clone();
    json_patch::merge(&mut patched, patch);
    patched
}

/// Applies a strategic merge patch.
///
/// # Errors
/// See [`PatchError`].
pub fn strategic(kind: &Kind, object: &Value, patch: &Value) -> Result<Value, PatchError> {
    strategic::apply(kind, object, patch)
}

#[cfg(test)]
mod difference_tests;
#[cfg(test)]
mod recorded_tests;
#[cfg(test)]
mod tests;
