//! The rules that ConfigMaps and Secrets share: keys, total size, immutability.

use serde_json::Value;

use super::check::{Checks, entries, text};
use super::storage_class::same_map;

/// The most that one ConfigMap or Secret may hold, in bytes.
const LIMIT: usize = 1024 * 1024;

/// Keys of the maps `fields`, and the size of all values together. The values
/// of the maps in `encoded` are base64.
pub(crate) fn check(checks: &mut Checks, object: &Value, plain: &[&str], encoded: &[&str]) {
    let mut size = 0;
    for (field, is_encoded) in plain.iter().map(|f| (f, false)).chain(encoded.iter().map(|f| (f, true))) {
        for (key, value) in entries(&object[*field]) {
            if let Some(problem) = key_problem(key) {
                checks.invalid_text(format!("{field}[{key}]"), key, problem);
            }
            size += if is_encoded { decoded_len(text(value)) } else { text(value).len() };
        }
    }
    if size > LIMIT {
        checks.too_long(plain.iter().chain(encoded).next().copied().unwrap_or("data"), LIMIT);
    }
}

fn key_problem(key: &str) -> Option<&'static str> {
    if key.len() > 253 {
        return Some("must be no more than 253 characters");
    }
    let ok = !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-._".contains(&b));
    if !ok {
        return Some("a key has only letters, digits, '-', '_' and '.' (for example 'key.name')");
    }
    if key == "." || key.starts_with("..") {
        return Some("must not be '.' and must not start with '..'");
    }
    None
}

/// The length of what base64 text stands for.
fn decoded_len(encoded: &str) -> usize {
    let padding = encoded.bytes().rev().take_while(|&b| b == b'=').count();
    (encoded.len() / 4 * 3).saturating_sub(padding)
}

/// What was once declared immutable stays so, with all its data.
pub(crate) fn check_update(checks: &mut Checks, new: &Value, old: &Value, fields: &[&str]) {
    if old["immutable"] != true {
        return;
    }
    for field in fields {
        if !same_map(&new[*field], &old[*field]) {
            checks.forbidden(*field, "field is immutable when `immutable` is set");
        }
    }
    if new["immutable"] != true {
        checks.forbidden("immutable", "field is immutable when `immutable` is set");
    }
}
