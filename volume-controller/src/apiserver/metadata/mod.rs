//! The rules on `metadata` that all kinds share. Pure.

mod held;

use jiff::Timestamp;
use serde_json::{Map, Value, json};

use super::kinds::{Cause, CauseReason, Kind};
use super::route::Target;
use super::status::ApiError;
use super::writer;
use crate::lifecycle;
pub(crate) use held::validate_finalizers;

/// What a name that the server completes ends with: five letters that spell no
/// word, out of upstream's alphabet.
pub(crate) fn suffix() -> String {
    const LETTERS: &[u8] = b"bcdfghjklmnpqrstvwxz2456789";
    (0..5).map(|_| char::from(LETTERS[rand::random_range(0..LETTERS.len())])).collect()
}

/// The longest part of `generateName` that is used.
const MAX_GENERATE_NAME: usize = 58;

/// The name of a new object: its own, or one made from `generateName`.
pub(crate) fn choose_name(metadata: &Value, suffix: &str) -> Option<String> {
    let text = |field: &str| metadata[field].as_str().filter(|text| !text.is_empty());
    if let Some(name) = text("name") {
        return Some(name.to_owned());
    }
    let base = text("generateName")?;
    let mut end = base.len().min(MAX_GENERATE_NAME);
    while !base.is_char_boundary(end) {
        end -= 1;
    }
    Some(format!("{}{suffix}", &base[..end]))
}

/// Makes `metadata` that of a new object: what the server decides replaces what
/// the client sent.
pub(crate) fn begin(
    target: &Target,
    value: &mut Value,
    name: &str,
    uid: &str,
    now: Timestamp,
) -> Result<(), ApiError> {
    let mut metadata = take(value);
    if !text(&metadata, "resourceVersion").is_empty() {
        return Err(ApiError::BadRequest(
            "resourceVersion should not be set on objects to be created".to_owned(),
        ));
    }
    check_namespace(target, &metadata)?;
    for field in ["resourceVersion", "deletionTimestamp", "deletionGracePeriodSeconds", "selfLink"] {
        metadata.remove(field);
    }
    metadata.insert("name".to_owned(), json!(name));
    set_or_remove(
        &mut metadata,
        "namespace",
        Some(json!(target.namespace)).filter(|_| !target.namespace.is_empty()),
    );
    metadata.insert("uid".to_owned(), json!(uid));
    metadata.insert("creationTimestamp".to_owned(), json!(lifecycle::time(now)));
    let has_generation = target.stored.has_generation() || writer::is_custom_upstream(target.stored);
    set_or_remove(&mut metadata, "generation", has_generation.then(|| json!(1)));
    value["metadata"] = Value::Object(metadata);
    Ok(())
}

/// Makes `metadata` that of a newer version of `old`: what clients cannot change
/// is taken from there. Refuses an object that is not the same one. The owners of its
/// fields (`managedFields`) stay as they were sent: what becomes of them is decided
/// when the rest is known.
pub(crate) fn continue_from(target: &Target, old: &Value, value: &mut Value) -> Result<(), ApiError> {
    let mut metadata = take(value);
    let before = &old["metadata"];
    let kind = target.kind;
    let name = text(&metadata, "name");
    if !name.is_empty() && name != target.name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    check_namespace(target, &metadata)?;
    let uid = text(&metadata, "uid");
    if !uid.is_empty() && before["uid"] != uid {
        let found = before["uid"].as_str().unwrap_or_default();
        return Err(ApiError::conflict(
            kind,
            &target.name,
            format!("Precondition failed: UID in precondition: {uid}, UID in object meta: {found}"),
        ));
    }
    let version = text(&metadata, "resourceVersion");
    if !version.is_empty() && before["resourceVersion"] != version {
        return Err(ApiError::conflict(kind, &target.name, super::status::MODIFIED));
    }
    for field in [
        "name",
        "namespace",
        "uid",
        "resourceVersion",
        "generation",
        "creationTimestamp",
        "deletionTimestamp",
        "deletionGracePeriodSeconds",
        "selfLink",
    ] {
        set_or_remove(&mut metadata, field, before.get(field).filter(|v| !v.is_null()).cloned());
    }
    value["metadata"] = Value::Object(metadata);
    Ok(())
}

/// What is wrong with names, labels, annotations, owners and finalizers.
pub(crate) fn validate(kind: &Kind, value: &Value) -> Vec<Cause> {
    let metadata = &value["metadata"];
    let mut causes = Vec::new();
    let mut wrong = |field: &str, message: String| {
        causes.push(Cause { field: field.to_owned(), reason: CauseReason::Invalid, message });
    };
    let name = metadata["name"].as_str().unwrap_or_default();
    if let Some(why) = wrong_name(kind, name) {
        wrong("metadata.name", format!("{name:?}: {why}"));
    }
    for (key, label) in metadata["labels"].as_object().into_iter().flatten() {
        if let Some(why) = wrong_key(key) {
            wrong("metadata.labels", format!("{key:?}: {why}"));
        }
        let label = label.as_str().unwrap_or_default();
        if !label.is_empty() && !is_qualified_part(label) {
            wrong(
                "metadata.labels",
                format!(
                    "{label:?}: a valid label must be an empty string or at most 63 alphanumeric characters, \
                     '-', '_' or '.', and must start and end with an alphanumeric character"
                ),
            );
        }
    }
    let mut size = 0;
    for (key, annotation) in metadata["annotations"].as_object().into_iter().flatten() {
        size += key.len() + annotation.as_str().unwrap_or_default().len();
        if let Some(why) = wrong_key(&key.to_lowercase()) {
            wrong("metadata.annotations", format!("{key:?}: {why}"));
        }
    }
    if size > 256 * 1024 {
        let message = "may not be more than 262144 bytes".to_owned();
        causes.push(Cause {
            field: "metadata.annotations".to_owned(),
            reason: CauseReason::TooLong,
            message,
        });
    }
    causes.extend(held::validate(kind, metadata));
    causes
}

fn wrong_name(kind: &Kind, name: &str) -> Option<&'static str> {
    if kind.group == "rbac.authorization.k8s.io" {
        let fits = name != "." && name != ".." && !name.contains(['/', '%']);
        return (!fits).then_some("may not be '.' or '..' and may not contain '/' or '%'");
    }
    if kind.kind == "Namespace" {
        return (!is_dns_label(name)).then_some(
            "a lowercase RFC 1123 label must consist of at most 63 lower case alphanumeric characters or '-', \
             and must start and end with an alphanumeric character (e.g. 'my-name', or '123-abc')",
        );
    }
    (!is_dns_subdomain(name)).then_some(
        "a lowercase RFC 1123 subdomain must consist of at most 253 lower case alphanumeric characters, '-' or \
         '.', and must start and end with an alphanumeric character (e.g. 'example.com')",
    )
}

/// Keys of labels and annotations: `[prefix/]name`.
pub(super) fn wrong_key(key: &str) -> Option<&'static str> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    let fits = prefix.is_none_or(is_dns_subdomain) && is_qualified_part(name);
    (!fits).then_some(
        "name part must consist of at most 63 alphanumeric characters, '-', '_' or '.', and must start and end \
         with an alphanumeric character (e.g. 'MyName', or 'example.com/MyName')",
    )
}

fn is_qualified_part(part: &str) -> bool {
    let edge = |b: Option<&u8>| b.is_some_and(u8::is_ascii_alphanumeric);
    let bytes = part.as_bytes();
    bytes.len() <= 63
        && edge(bytes.first())
        && edge(bytes.last())
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

fn is_dns_label(label: &str) -> bool {
    label.len() <= 63 && is_dns_part(label)
}

fn is_dns_part(label: &str) -> bool {
    let lower = |b: &u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = label.as_bytes();
    bytes.first().is_some_and(lower)
        && bytes.last().is_some_and(lower)
        && bytes.iter().all(|b| lower(b) || *b == b'-')
}

fn is_dns_subdomain(name: &str) -> bool {
    name.len() <= 253 && name.split('.').all(is_dns_part)
}

fn check_namespace(target: &Target, metadata: &Map<String, Value>) -> Result<(), ApiError> {
    let given = text(metadata, "namespace");
    if target.namespace.is_empty() || given.is_empty() || given == target.namespace {
        return Ok(());
    }
    Err(ApiError::BadRequest(format!(
        "the namespace of the provided object ({given}) does not match the namespace sent on the request ({})",
        target.namespace
    )))
}

fn take(value: &mut Value) -> Map<String, Value> {
    match value.get_mut("metadata").map(Value::take) {
        Some(Value::Object(map)) => map,
        _ => Map::new(),
    }
}

fn text<'a>(metadata: &'a Map<String, Value>, field: &str) -> &'a str {
    metadata.get(field).and_then(Value::as_str).unwrap_or_default()
}

fn set_or_remove(metadata: &mut Map<String, Value>, field: &str, value: Option<Value>) {
    match value {
        Some(value) => metadata.insert(field.to_owned(), value),
        None => metadata.remove(field),
    };
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        assert_eq!(choose_name(&json!({"name": "a", "generateName": "b-"}), "x").as_deref(), Some("a"));
        assert_eq!(choose_name(&json!({"generateName": "b-"}), "x").as_deref(), Some("b-x"));
        assert_eq!(choose_name(&json!({"generateName": "b".repeat(90)}), "x").map(|n| n.len()), Some(59));
        assert_eq!(choose_name(&json!({"name": ""}), "x"), None);
        for (name, fits) in
            [("a", true), ("a-1.b", true), ("A", false), ("-a", false), ("a..b", false), ("", false)]
        {
            assert_eq!(is_dns_subdomain(name), fits, "{name}");
        }
        for (key, fits) in
            [("a", true), ("x.io/A_b", true), ("/a", false), ("a/", false), ("a/b/c", false), ("é", false)]
        {
            assert_eq!(wrong_key(key).is_none(), fits, "{key}");
        }
    }
}
