//! Collects what is wrong with an object, in the words that users of Kubernetes
//! know from `field.ErrorList`.

use std::fmt::Display;

use serde_json::Value;

use super::kind::{Cause, CauseReason};

/// The causes found so far; a check adds one and goes on, so that a user sees
/// everything that is wrong at once. Messages are without the words of their
/// reason ("Invalid value"): the `Status` adds them.
#[derive(Debug, Default)]
pub(crate) struct Checks {
    causes: Vec<Cause>,
}

impl Checks {
    pub(crate) fn into_causes(self) -> Vec<Cause> {
        self.causes
    }

    fn add(&mut self, field: impl Into<String>, reason: CauseReason, message: String) {
        self.causes.push(Cause { field: field.into(), reason, message });
    }

    /// `detail` may be empty.
    pub(crate) fn required(&mut self, field: impl Into<String>, detail: &str) {
        self.add(field, CauseReason::Required, detail.to_owned());
    }

    pub(crate) fn invalid(&mut self, field: impl Into<String>, value: &Value, detail: impl Display) {
        self.add(field, CauseReason::Invalid, format!("{value}: {detail}"));
    }

    pub(crate) fn invalid_text(&mut self, field: impl Into<String>, value: &str, detail: impl Display) {
        self.add(field, CauseReason::Invalid, format!("{value:?}: {detail}"));
    }

    pub(crate) fn forbidden(&mut self, field: impl Into<String>, detail: impl Display) {
        self.add(field, CauseReason::Forbidden, detail.to_string());
    }

    pub(crate) fn duplicate(&mut self, field: impl Into<String>, value: &Value) {
        self.add(field, CauseReason::Duplicate, value.to_string());
    }

    /// What is named is not there. (The contract has no reason of its own for this.)
    pub(crate) fn not_found(&mut self, field: impl Into<String>, value: &Value) {
        self.invalid(field, value, "no volume of the pod has this name");
    }

    /// A cause that was found elsewhere.
    pub(crate) fn push(&mut self, cause: Cause) {
        self.causes.push(cause);
    }

    pub(crate) fn too_long(&mut self, field: impl Into<String>, bytes: usize) {
        self.add(field, CauseReason::TooLong, format!("may not be more than {bytes} bytes"));
    }

    /// The value, where it is set, must be one of these.
    pub(crate) fn one_of(&mut self, field: impl Into<String>, value: &Value, supported: &[&str]) {
        if value.is_null() || value.as_str().is_some_and(|text| supported.contains(&text)) {
            return;
        }
        let list: Vec<String> = supported.iter().map(|s| format!("{s:?}")).collect();
        self.add(field, CauseReason::NotSupported, format!("{value}: supported values: {}", list.join(", ")));
    }

    /// The string must be there and not be empty. Says whether it is.
    pub(crate) fn present(&mut self, field: impl Into<String>, value: &Value) -> bool {
        let present = !text(value).is_empty();
        if !present {
            self.required(field, "");
        }
        present
    }

    /// Old and new value must be the same.
    pub(crate) fn immutable(&mut self, field: impl Into<String>, new: &Value, old: &Value) {
        if !same(new, old) {
            self.invalid(field, new, "field is immutable");
        }
    }
}

/// A string, or nothing.
pub(crate) fn text(value: &Value) -> &str {
    value.as_str().unwrap_or_default()
}

/// The elements of a list, or none.
pub(crate) fn list(value: &Value) -> &[Value] {
    value.as_array().map(Vec::as_slice).unwrap_or_default()
}

/// The entries of an object, or none.
pub(crate) fn entries(value: &Value) -> impl Iterator<Item = (&String, &Value)> {
    value.as_object().into_iter().flatten()
}

/// Whether two values mean the same: a field that is missing, null or an empty
/// list is the same. `{}` is not the same as nothing: `emptyDir: {}` is a choice.
pub(crate) fn same(a: &Value, b: &Value) -> bool {
    let nothing = |v: &Value| v.is_null() || v.as_array().is_some_and(Vec::is_empty);
    match (a, b) {
        (Value::Object(x), Value::Object(_)) => {
            x.iter().all(|(key, value)| same(value, &b[key]))
                && entries(b).all(|(key, value)| same(&a[key], value))
        }
        (Value::Array(x), Value::Array(y)) => x.len() == y.len() && x.iter().zip(y).all(|(x, y)| same(x, y)),
        _ => a == b || (nothing(a) && nothing(b)),
    }
}

/// A copy without one field, given by its path.
pub(crate) fn without(value: &Value, paths: &[&str]) -> Value {
    let mut copy = value.clone();
    for path in paths {
        let (parent, field) = path.rsplit_once('/').unwrap_or(("", path));
        if let Some(Value::Object(map)) = copy.pointer_mut(parent) {
            map.remove(field);
        }
    }
    copy
}

/// One line for each cause, as tests compare them.
#[cfg(test)]
pub(crate) fn lines(causes: &[Cause]) -> Vec<String> {
    let line = |cause: &Cause| {
        format!("{}: {:?}: {}", cause.field, cause.reason, cause.message.lines().next().unwrap_or_default())
    };
    causes.iter().map(line).collect()
}
