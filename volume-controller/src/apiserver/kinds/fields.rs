//! Fields that a selector may name.

use serde_json::Value;

use super::kind::Field;

/// A field by its path. Booleans read as `true` and `false`, numbers as digits;
/// what is missing is empty.
macro_rules! field {
    ($path:literal) => {
        Field { path: $path, value: |object| $crate::apiserver::kinds::fields::read(object, $path, "") }
    };
    ($path:literal, $missing:literal) => {
        Field { path: $path, value: |object| $crate::apiserver::kinds::fields::read(object, $path, $missing) }
    };
}
pub(crate) use field;

/// For kinds that can be selected by name and namespace only.
pub(crate) const NONE: &[Field] = &[];

/// The text of the field at a dotted path, or `missing`.
pub(crate) fn read(object: &Value, path: &str, missing: &str) -> String {
    match path.split('.').fold(object, |at, part| &at[part]) {
        Value::String(text) => text.clone(),
        Value::Bool(_) | Value::Number(_) => path.split('.').fold(object, |at, part| &at[part]).to_string(),
        _ => missing.to_owned(),
    }
}
