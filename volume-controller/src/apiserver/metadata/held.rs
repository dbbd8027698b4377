//! The rules on what an object hangs on: its owners, and the finalizers that keep it.
//!
//! Source: `ValidateOwnerReferences` and `ValidateFinalizers` of `k8s.io/apimachinery/pkg/api/validation`, and what
//! Kubernetes' own kinds ask of finalizers besides.

use std::collections::BTreeSet;

use serde_json::Value;

use super::super::kinds::{Cause, CauseReason, Kind};
use super::super::writer::is_custom_upstream;
use super::wrong_key;

const OWNERS: &str = "metadata.ownerReferences";
const FINALIZERS: &str = "metadata.finalizers";
/// Finalizers by which a deletion says what becomes of what the object owns.
const ORPHAN: &str = "orphan";
const FOREGROUND: &str = "foregroundDeletion";

fn invalid(field: impl Into<String>, value: &Value, why: &str) -> Cause {
    Cause { field: field.into(), reason: CauseReason::Invalid, message: format!("{value}: {why}") }
}

pub(super) fn validate(kind: &Kind, metadata: &Value) -> Vec<Cause> {
    let mut causes = Vec::new();
    owners(&metadata["ownerReferences"], &mut causes);
    finalizers(kind, &metadata["finalizers"], &mut causes);
    causes
}

fn owners(owners: &Value, causes: &mut Vec<Cause>) {
    let mut controller: Option<String> = None;
    for owner in owners.as_array().into_iter().flatten() {
        let text = |field: &str| owner[field].as_str().unwrap_or_default();
        let mut refuse = |field: &str, why: &str| {
            causes.push(invalid(format!("{OWNERS}.{field}"), &text(field).into(), why));
        };
        let version = match text("apiVersion").split('/').collect::<Vec<_>>().as_slice() {
            [version] | [_, version] => *version,
            _ => "",
        };
        if version.is_empty() {
            refuse("apiVersion", "version must not be empty");
        }
        for field in ["kind", "name", "uid"] {
            if text(field).is_empty() {
                refuse(field, "must not be empty");
            }
        }
        if (text("apiVersion"), text("kind")) == ("v1", "Event") {
            causes.push(invalid(OWNERS, owner, "/v1, Kind=Event is disallowed from being an owner"));
        }
        if owner["controller"] != true {
            continue;
        }
        let this = format!("{}/{}", text("kind"), text("name"));
        match &controller {
            None => controller = Some(this),
            Some(first) => {
                let why = format!(
                    "Only one reference can have Controller set to true. Found \"true\" in references for {first} and {this}"
                );
                causes.push(invalid(OWNERS, owners, &why));
            }
        }
    }
}

fn finalizers(kind: &Kind, finalizers: &Value, causes: &mut Vec<Cause>) {
    let names = || finalizers.as_array().into_iter().flatten().filter_map(Value::as_str);
    for (index, name) in names().enumerate() {
        if let Some(why) = wrong_key(name) {
            causes.push(invalid(FINALIZERS, &name.into(), why));
        } else if !name.contains('/')
            && !matches!(name, "kubernetes" | ORPHAN | FOREGROUND)
            && !is_custom_upstream(kind)
        {
            let why = "name is neither a standard finalizer name nor is it fully qualified";
            causes.push(invalid(format!("{FINALIZERS}[{index}]"), &name.into(), why));
        }
    }
    if names().any(|name| name == ORPHAN) && names().any(|name| name == FOREGROUND) {
        let why = format!("finalizer {ORPHAN} and {FOREGROUND} cannot be both set");
        causes.push(invalid(FINALIZERS, finalizers, &why));
    }
}

/// An object that is being deleted can lose finalizers but gain none.
pub(crate) fn validate_finalizers(old: &Value, new: &Value) -> Vec<Cause> {
    if old["metadata"]["deletionTimestamp"].is_null() {
        return Vec::new();
    }
    let set = |value: &Value| -> BTreeSet<String> {
        let list = value["metadata"]["finalizers"].as_array();
        list.into_iter().flatten().filter_map(|f| f.as_str().map(str::to_owned)).collect()
    };
    let added: Vec<String> = set(new).difference(&set(old)).cloned().collect();
    if added.is_empty() {
        return Vec::new();
    }
    vec![Cause {
        field: "metadata.finalizers".to_owned(),
        reason: CauseReason::Forbidden,
        message: format!(
            "no new finalizers can be added if the object is being deleted, found new finalizers {added:?}"
        ),
    }]
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;
    use crate::apiserver::kinds::check::lines;
    use crate::apiserver::kinds::config_map;
    use crate::apiserver::kinds::snapshot::volume_snapshot;

    #[test]
    fn owners() {
        let owner = |change: Value| {
            let mut owner = json!({"apiVersion": "example.com/v1", "kind": "A", "name": "a", "uid": "1"});
            for (field, value) in change.as_object().unwrap() {
                owner[field] = value.clone();
            }
            owner
        };
        let empty = |field: &str| {
            vec![format!(r#"metadata.ownerReferences.{field}: Invalid: "": must not be empty"#)]
        };
        let version = |text: &str| {
            vec![format!(
                r#"metadata.ownerReferences.apiVersion: Invalid: "{text}": version must not be empty"#
            )]
        };
        for (changes, expected) in [
            (vec![json!({})], vec![]),
            (vec![json!({"apiVersion": "v1"}), json!({"controller": true})], vec![]),
            (vec![json!({"apiVersion": ""})], version("")),
            (vec![json!({"apiVersion": "apps/"})], version("apps/")),
            (vec![json!({"apiVersion": "a/b/c"})], version("a/b/c")),
            (vec![json!({"kind": ""})], empty("kind")),
            (vec![json!({}), json!({"name": ""})], empty("name")),
            (vec![json!({"uid": ""})], empty("uid")),
            // Of another group, it is another kind.
            (vec![json!({"apiVersion": "events.k8s.io/v1", "kind": "Event"})], vec![]),
        ] {
            let metadata = json!({"ownerReferences": changes.into_iter().map(owner).collect::<Vec<_>>()});
            assert_eq!(lines(&validate(&config_map::KIND, &metadata)), expected, "{metadata}");
        }
        let event = json!({"ownerReferences": [owner(json!({"apiVersion": "v1", "kind": "Event"}))]});
        let [cause] = &validate(&config_map::KIND, &event)[..] else { panic!("an event owns") };
        assert_eq!(cause.field, OWNERS);
        assert!(cause.message.ends_with("/v1, Kind=Event is disallowed from being an owner"));
        let two = ["a", "b", "c"].map(|name| owner(json!({"name": name, "controller": true})));
        let causes = validate(&config_map::KIND, &json!({ "ownerReferences": two }));
        let [first, second] = &causes[..] else { panic!("{causes:?}") };
        assert!(first.message.ends_with("Found \"true\" in references for A/a and A/b"), "{first:?}");
        assert!(second.message.ends_with("for A/a and A/c"), "{second:?}");
    }

    #[test]
    fn finalizers() {
        for (names, expected) in [
            (json!(["example.com/a", "kubernetes", "orphan"]), vec![]),
            (json!(["foregroundDeletion"]), vec![]),
            (
                json!(["a/b", "mine"]),
                vec![
                    r#"metadata.finalizers[1]: Invalid: "mine": name is neither a standard finalizer name nor is it fully qualified"#,
                ],
            ),
            (
                json!(["orphan", "a/b", "foregroundDeletion"]),
                vec![
                    r#"metadata.finalizers: Invalid: ["orphan","a/b","foregroundDeletion"]: finalizer orphan and foregroundDeletion cannot be both set"#,
                ],
            ),
        ] {
            let metadata = json!({ "finalizers": names });
            assert_eq!(lines(&validate(&config_map::KIND, &metadata)), expected, "{metadata}");
        }
        let metadata = json!({"finalizers": ["not qualified"]});
        let causes = validate(&config_map::KIND, &metadata);
        assert!(causes.len() == 1 && causes[0].message.contains("name part"), "{causes:?}");
        // Kubernetes knows those of custom resources by their form only.
        assert_eq!(validate(&volume_snapshot::KIND, &json!({"finalizers": ["mine"]})), []);
    }

    #[test]
    fn finalizers_only_leave() {
        let object = |deleted: Option<&str>, list: &[&str]| json!({"metadata": {"deletionTimestamp": deleted, "finalizers": list}});
        let deleting = Some("2026-01-01T00:00:00Z");
        assert!(validate_finalizers(&object(None, &[]), &object(None, &["a"])).is_empty());
        assert!(validate_finalizers(&object(deleting, &["a", "b"]), &object(deleting, &["b"])).is_empty());
        assert_eq!(validate_finalizers(&object(deleting, &["a"]), &object(deleting, &["a", "b"])).len(), 1);
    }
}
