//! What a quota's status should say.

use holdfast_api::quota::Amounts;
use serde_json::Value;

use crate::apiserver::quota::write_down;

/// The one step there is.
#[derive(Debug, Clone, PartialEq)]
pub(super) enum Action {
    /// Put this in place of the quota.
    Write(Value),
}

/// `None` for a quota that says what was counted, or is being deleted.
pub(super) fn decide(quota: &Value, counted: &Amounts) -> Option<Action> {
    if !quota["metadata"]["deletionTimestamp"].is_null() {
        return None;
    }
    let mut right = quota.clone();
    write_down(&mut right, counted);
    (right["status"] != quota["status"]).then_some(Action::Write(right))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn table() {
        let spec = json!({"hard": {"pods": "4", "requests.storage": "10Gi", "cpu": "2"}});
        let counted: Amounts = [("pods".to_owned(), 1), ("requests.storage".to_owned(), 1 << 31)].into();
        let hard = &spec["hard"];
        let right = json!({"hard": hard, "used": {"pods": "1", "requests.storage": "2Gi"}});
        for (number, why, status, expected) in [
            (1, "nobody has counted", json!({}), true),
            (2, "it is right", right.clone(), false),
            (
                3,
                "less is used",
                json!({"hard": hard, "used": {"pods": "2", "requests.storage": "2Gi"}}),
                true,
            ),
            (4, "the limits changed", json!({"hard": {"pods": "3"}, "used": right["used"]}), true),
            (
                5,
                "something is not limited any more",
                json!({"hard": hard, "used": {"pods": "1", "requests.storage": "2Gi", "secrets": "1"}}),
                true,
            ),
        ] {
            let quota = json!({"metadata": {"name": "q"}, "spec": spec, "status": status});
            let found = decide(&quota, &counted).map(|Action::Write(written)| written["status"].clone());
            assert_eq!(found, expected.then(|| right.clone()), "case {number}: {why}");
        }
        let going = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}, "spec": spec});
        assert_eq!(decide(&going, &counted), None);
    }
}
