//! The life of an object that finalizers hold: the one place that knows when a
//! write of an object is really its deletion.

use jiff::Timestamp;
use serde_json::{Value, json};
use uuid::Uuid;

use crate::store::{Key, Precondition, Write};

/// The write that stores `body`, or, when it is being deleted and nothing holds
/// it any more, the write that removes it. Every writer of an existing object
/// goes through here: the API server and the controllers alike.
#[must_use]
pub fn update(key: Key, precondition: Precondition, body: Value) -> Write {
    let body = if is_released(&body) { None } else { Some(body) };
    Write { key, precondition, body }
}

/// The write that creates `body` under `key`: names it as the key says and gives
/// it a UID and a creation time. For writers that are not behind the API server.
#[must_use]
pub fn create(key: Key, mut body: Value, now: Timestamp) -> Write {
    body["metadata"]["name"] = json!(&*key.name);
    if !key.namespace.is_empty() {
        body["metadata"]["namespace"] = json!(&*key.namespace);
    }
    body["metadata"]["uid"] = json!(Uuid::new_v4().to_string());
    body["metadata"]["creationTimestamp"] = json!(time(now));
    Write { key, precondition: Precondition::Absent, body: Some(body) }
}

/// The write that begins the deletion of `body`, with `grace` seconds to end in
/// (pods; 0 for everything else). What nothing holds is gone at once. A deletion
/// that has begun keeps its time, and its grace unless the new one is shorter.
#[must_use]
pub fn delete(key: Key, precondition: Precondition, mut body: Value, grace: u32, now: Timestamp) -> Write {
    let metadata = &mut body["metadata"];
    let begun = !metadata["deletionTimestamp"].is_null();
    let left = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    if !begun || left > i64::from(grace) {
        let end = now + jiff::SignedDuration::from_secs(i64::from(grace));
        metadata["deletionTimestamp"] = json!(time(end));
        metadata["deletionGracePeriodSeconds"] = json!(grace);
    }
    update(key, precondition, body)
}

/// A time as `metav1.Time` writes it: RFC 3339 in whole seconds, UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether an object is being deleted, has no finalizer left and no grace to wait for.
/// `spec.finalizers` is a namespace's own list: who empties it takes `kubernetes` off.
fn is_released(body: &Value) -> bool {
    let metadata = &body["metadata"];
    let listed = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let held = listed(&metadata["finalizers"]) || listed(&body["spec"]["finalizers"]);
    let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    !metadata["deletionTimestamp"].is_null() && !held && grace == 0
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn emptied_namespaces_go() {
        for (finalizers, goes) in [(json!(["kubernetes"]), false), (json!([]), true)] {
            let body = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": {"finalizers": finalizers}});
            let write = update(Key::new("namespaces", "", "a"), Precondition::Present, body);
            assert_eq!(write.body.is_none(), goes);
        }
    }

    #[test]
    fn deletion_begins_once_and_grace_only_shrinks() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let key = || Key::new("pods", "a", "b");
        let begun = delete(key(), Precondition::Present, json!({"metadata": {}}), 30, now).body.unwrap();
        assert_eq!(begun["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        let again = delete(key(), Precondition::Present, begun.clone(), 60, now).body.unwrap();
        assert_eq!(again, begun);
        assert!(delete(key(), Precondition::Present, begun, 0, now).body.is_none());
        let held = json!({"metadata": {"finalizers": ["a"]}});
        let held = delete(key(), Precondition::Present, held, 0, now).body.unwrap();
        assert_eq!(held["metadata"]["deletionTimestamp"], "2026-01-01T00:00:00Z");
    }

    #[test]
    fn created_objects_have_an_identity() {
        let now: Timestamp = "2026-01-01T00:00:00.5Z".parse().unwrap();
        let write = create(Key::new("events", "dev", "e"), json!({"reason": "R"}), now);
        assert_eq!(write.precondition, Precondition::Absent);
        let body = write.body.unwrap();
        assert_eq!(body["metadata"]["namespace"], "dev");
        assert_eq!(body["metadata"]["creationTimestamp"], "2026-01-01T00:00:00Z");
        assert_eq!(body["metadata"]["uid"].as_str().unwrap().len(), 36);
    }

    #[test]
    fn released_objects_go() {
        for (metadata, goes) in [
            (json!({}), false),
            (json!({"finalizers": []}), false),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z"}), true),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": []}), true),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "finalizers": ["a"]}), false),
            (json!({"deletionTimestamp": "2026-01-01T00:00:00Z", "deletionGracePeriodSeconds": 30}), false),
        ] {
            let write =
                update(Key::new("pods", "a", "b"), Precondition::Present, json!({"metadata": metadata}));
            assert_eq!(write.body.is_none(), goes, "{metadata}");
        }
    }
}
