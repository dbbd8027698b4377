//! The life of an object that finalizers hold: the one place that knows when a
//! write of an object is really its deletion.

use serde_json::Value;

use crate::store::{Key, Precondition, Write};

/// The write that stores `body`, or, when it is being deleted and nothing holds
/// it any more, the write that removes it. Every writer of an existing object
/// goes through here: the API server and the controllers alike.
#[must_use]
pub fn update(key: Key, precondition: Precondition, body: Value) -> Write {
    let body = if is_released(&body) { None } else { Some(body) };
    Write { key, precondition, body }
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
