//! What the definitions say again and again. Objects and texts are named by their types in
//! these messages, as the CEL validation of custom resources does.

use serde_json::{Value, json};

use crate::apiserver::kinds::check::{Checks, same, text};

/// Exactly one of two fields is there.
pub(super) fn exactly_one(checks: &mut Checks, field: &str, source: &Value, names: [&str; 2]) {
    let [first, second] = names;
    if source[first].is_null() == source[second].is_null() {
        let message = format!("exactly one of {first} and {second} must be set");
        checks.invalid(field, &json!("object"), message);
    }
}

/// What was set stays set, and as it was.
pub(super) fn kept(checks: &mut Checks, field: &str, new: &Value, old: &Value, names: &[&str]) {
    for name in names {
        match (&old[name], &new[name]) {
            (Value::Null, _) => {}
            (_, Value::Null) => {
                checks.invalid(field, &json!("object"), format!("{name} is required once set"));
            }
            (before, after) if same(before, after) => {}
            (_, after) => {
                checks.invalid(format!("{field}.{name}"), &type_of(after), format!("{name} is immutable"));
            }
        }
    }
}

/// What was set is not replaced; it may go.
pub(super) fn not_replaced(checks: &mut Checks, field: &str, new: &Value, old: &Value) {
    let name = field.rsplit('.').next().unwrap_or(field);
    let verb = if name == "parameters" { "are" } else { "is" };
    if !new.is_null() && !old.is_null() && !same(new, old) {
        checks.invalid(field, &type_of(new), format!("{name} {verb} immutable once set"));
    }
}

/// `driver` and `deletionPolicy`, of a class or a content; `at` is empty or `spec.`.
pub(super) fn driver_and_policy(checks: &mut Checks, at: &str, holder: &Value) {
    checks.present(format!("{at}driver"), &holder["driver"]);
    let policy = &holder["deletionPolicy"];
    if checks.present(format!("{at}deletionPolicy"), policy) {
        checks.one_of(format!("{at}deletionPolicy"), policy, &["Delete", "Retain"]);
    }
}

/// A content names the object that it belongs to.
pub(super) fn whole_reference(checks: &mut Checks, field: &str, reference: &Value, said: &str) {
    if text(&reference["name"]).is_empty() || text(&reference["namespace"]).is_empty() {
        let message = format!("both {said}.name and {said}.namespace must be set");
        checks.invalid(field, &json!("object"), message);
    }
}

/// A name that is there says something.
pub(super) fn not_empty(checks: &mut Checks, field: &str, value: &Value) {
    if value == "" {
        let name = field.rsplit('.').next().unwrap_or(field);
        checks.invalid(field, &json!("string"), format!("{name} must not be the empty string when set"));
    }
}

fn type_of(value: &Value) -> Value {
    json!(match value {
        Value::Null => "null",
        Value::Bool(_) => "boolean",
        Value::Number(_) => "integer",
        Value::String(_) => "string",
        Value::Array(_) => "array",
        Value::Object(_) => "object",
    })
}
