//! The life of an object that finalizers hold: the one place that knows when a
//! write of an object is really its deletion.

use jiff::{SignedDuration, Timestamp};
use serde_json::{Value, json};
use uuid::Uuid;

use crate::apiserver::kinds;
use crate::store::{Key, Precondition, Write};

/// What happens to a pod that names no grace period, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// The finalizers that say what becomes of those that an object owns.
const PROPAGATION: [&str; 2] = ["foregroundDeletion", "orphan"];

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

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
pub(crate) enum Deletion {
    /// Nothing holds it: it goes at once.
    Remove,
    /// It is marked as being deleted.
    Mark(Value),
    /// It is being deleted already, and this changes nothing.
    Wait,
}

/// The rules of upstream's `rest.BeforeDelete`: only kinds with a grace period
/// have one, and a second deletion can only shorten it. `asked` are the seconds
/// to end in; without them the object says.
pub(crate) fn deletion(resource: &str, old: &Value, asked: Option<i64>, now: Timestamp) -> Deletion {
    let is_graceful = is_graceful(resource);
    let begun = old["metadata"]["deletionTimestamp"].as_str();
    let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    let grace = match (begun, asked) {
        (None, _) if is_graceful => grace(old, asked),
        (Some(_), Some(asked)) if is_graceful && asked.max(0) < left => asked.max(0),
        (Some(_), _) if is_graceful && left > 0 => return Deletion::Wait,
        _ => 0,
    };
    if grace == 0 && !is_held(old) {
        return Deletion::Remove;
    }
    if begun.is_some() && left == grace {
        return Deletion::Wait;
    }
    // A shorter grace counts from when the deletion began, so that it never ends later than before.
    let began = begun.and_then(|end| end.parse::<Timestamp>().ok());
    let began = began.map_or(now, |end| end - SignedDuration::from_secs(left));
    let mut value = old.clone();
    value["metadata"]["deletionTimestamp"] = json!(time(began + SignedDuration::from_secs(grace)));
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if begun.is_none() {
        count_generation(&mut value);
    }
    if resource == "namespaces" {
        value["status"]["phase"] = json!("Terminating");
    }
    Deletion::Mark(value)
}

/// The seconds that an object of a kind with a grace period has to end in.
fn grace(old: &Value, asked: Option<i64>) -> i64 {
    let is_placed = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let is_over = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !is_placed || is_over {
        return 0;
    }
    match asked.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(DEFAULT_GRACE) {
        // Upstream reads a negative period as the shortest graceful one.
        negative if negative < 0 => 1,
        grace => grace.min(i64::from(i32::MAX)),
    }
}

/// The write that begins the deletion of `body`, as the API server would, with
/// `grace` seconds to end in (pods on a node; 0 for everything else).
#[must_use]
pub fn delete(key: Key, precondition: Precondition, body: Value, grace: u32, now: Timestamp) -> Write {
    match deletion(&key.resource, &body, Some(grace.into()), now) {
        Deletion::Remove => Write { key, precondition, body: None },
        Deletion::Mark(marked) => update(key, precondition, marked),
        Deletion::Wait => update(key, precondition, body),
    }
}

/// How those that an object owns are treated when it goes: the finalizer that stands for it, and no
/// other of that sort; none where it does not matter to them.
pub(crate) fn propagate(body: &mut Value, finalizer: &str) {
    let metadata = &mut body["metadata"];
    let mut held: Vec<Value> = metadata["finalizers"].as_array().cloned().unwrap_or_default();
    held.retain(|held| !PROPAGATION.iter().any(|one| held == one));
    if !finalizer.is_empty() {
        held.push(json!(finalizer));
    }
    if !held.is_empty() {
        metadata["finalizers"] = json!(held);
    } else if let Some(metadata) = metadata.as_object_mut() {
        metadata.remove("finalizers");
    }
}

/// The seconds that an object gets to end in where nobody says otherwise: a pod on a node.
pub(crate) fn own_grace(resource: &str, body: &Value) -> u32 {
    if !is_graceful(resource) {
        return 0;
    }
    u32::try_from(grace(body, None)).unwrap_or(0)
}

fn is_graceful(resource: &str) -> bool {
    kinds::ALL.iter().any(|kind| kind.is_graceful && kind.resource() == resource)
}

/// `metadata.generation` counts the changes of what is wanted.
pub(crate) fn count_generation(value: &mut Value) {
    if let Some(generation) = value["metadata"]["generation"].as_i64() {
        value["metadata"]["generation"] = json!(generation + 1);
    }
}

/// A time as `metav1.Time` writes it: RFC 3339 in whole seconds, UTC.
#[must_use]
pub fn time(at: Timestamp) -> String {
    at.strftime("%Y-%m-%dT%H:%M:%SZ").to_string()
}

/// Whether an object is being deleted, has no finalizer left and no grace to wait for.
fn is_released(body: &Value) -> bool {
    let metadata = &body["metadata"];
    let grace = metadata["deletionGracePeriodSeconds"].as_i64().unwrap_or(0);
    !metadata["deletionTimestamp"].is_null() && !is_held(body) && grace == 0
}

/// Whether a finalizer keeps the object. `spec.finalizers` is a namespace's own
/// list: who empties it takes `kubernetes` off.
fn is_held(body: &Value) -> bool {
    let listed = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    listed(&body["metadata"]["finalizers"]) || listed(&body["spec"]["finalizers"])
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
        let later: Timestamp = "2026-01-01T00:00:29Z".parse().unwrap();
        let key = || Key::new("pods", "a", "b");
        let placed = json!({"metadata": {"generation": 1}, "spec": {"nodeName": "n"}});
        let begun = delete(key(), Precondition::Present, placed.clone(), 30, now).body.unwrap();
        assert_eq!(begun["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(begun["metadata"]["generation"], 2);
        assert_eq!(delete(key(), Precondition::Present, begun.clone(), 60, now).body.unwrap(), begun);
        let shorter = delete(key(), Precondition::Present, begun.clone(), 5, later).body.unwrap();
        assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
        assert!(delete(key(), Precondition::Present, begun, 0, now).body.is_none());
        // A pod that has ended has nothing to end any more.
        let mut over = placed;
        over["status"] = json!({"phase": "Succeeded"});
        assert!(delete(key(), Precondition::Present, over, 30, now).body.is_none());
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

    #[test]
    fn pods_end_gracefully() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let placed = json!({"metadata": {}, "spec": {"nodeName": "n"}});
        let Deletion::Mark(marked) = deletion("pods", &placed, None, now) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
        for (object, asked, expected) in [
            (&json!({"metadata": {}, "spec": {}}), None, Deletion::Remove),
            (&placed, Some(0), Deletion::Remove),
            (
                &json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}),
                None,
                Deletion::Remove,
            ),
            (&marked, None, Deletion::Wait),
            (&marked, Some(40), Deletion::Wait),
            (&marked, Some(0), Deletion::Remove),
        ] {
            assert_eq!(deletion("pods", object, asked, now), expected, "{object} {asked:?}");
        }
        let Deletion::Mark(shorter) = deletion("pods", &marked, Some(5), now) else {
            panic!("not shortened")
        };
        assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
    }

    #[test]
    fn finalizers_hold() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let claims = "persistentvolumeclaims";
        let held = json!({"metadata": {"finalizers": ["a"]}, "spec": {}});
        let Deletion::Mark(marked) = deletion(claims, &held, Some(9), now) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(deletion(claims, &marked, Some(0), now), Deletion::Wait);
        assert_eq!(deletion(claims, &json!({"metadata": {}}), None, now), Deletion::Remove);
        let namespace = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Deletion::Mark(marked) = deletion("namespaces", &namespace, None, now) else {
            panic!("not marked")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
    }
}
