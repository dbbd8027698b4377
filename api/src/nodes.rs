//! Rules on nodes: whether one is ready, its taints, and which pods put up with them.

use k8s_openapi::api::core::v1::{Node, Taint, Toleration};

/// The namespace of the leases that nodes renew (KEP-589).
pub const LEASES: &str = "kube-node-lease";
/// The label that says in which zone a node is.
pub const ZONE_LABEL: &str = "topology.kubernetes.io/zone";

/// The node says that it is not ready.
pub const NOT_READY: &str = "node.kubernetes.io/not-ready";
/// The node says nothing any more.
pub const UNREACHABLE: &str = "node.kubernetes.io/unreachable";
/// Somebody wants no new pods there.
pub const UNSCHEDULABLE: &str = "node.kubernetes.io/unschedulable";
/// Somebody promises that the node is shut down and stays so (KEP-2268).
pub const OUT_OF_SERVICE: &str = "node.kubernetes.io/out-of-service";

/// The effect of a taint that keeps new pods away.
pub const NO_SCHEDULE: &str = "NoSchedule";
/// The effect of a taint that also drives pods away.
pub const NO_EXECUTE: &str = "NoExecute";

/// How long pods that say nothing of it stay on a node that is not ready or not reachable, in
/// seconds (the admission plugin `DefaultTolerationSeconds`).
pub const TOLERATION_SECONDS: i64 = 300;

/// The status of a condition of the node: `True`, `False` or `Unknown`; `None` where it was never told.
#[must_use]
pub fn condition<'a>(node: &'a Node, kind: &str) -> Option<&'a str> {
    let conditions = node.status.as_ref()?.conditions.as_deref()?;
    conditions.iter().find(|condition| condition.type_ == kind).map(|condition| condition.status.as_str())
}

/// Whether the node says that it is ready, and was heard lately.
#[must_use]
pub fn is_ready(node: &Node) -> bool {
    condition(node, "Ready") == Some("True")
}

/// The node's taints.
#[must_use]
pub fn taints(node: &Node) -> &[Taint] {
    node.spec.as_ref().and_then(|spec| spec.taints.as_deref()).unwrap_or_default()
}

/// Whether a node is known to be shut down: somebody says so, and it has given no sign of life for long that would
/// prove them wrong. One that says itself that it is not ready is alive.
#[must_use]
pub fn is_out_of_service(node: &Node) -> bool {
    condition(node, "Ready") == Some("Unknown") && says_out_of_service(node)
}

/// Whether somebody says that the node is shut down.
#[must_use]
pub fn says_out_of_service(node: &Node) -> bool {
    taints(node).iter().any(|taint| taint.key == OUT_OF_SERVICE)
}

/// Whether a toleration is for a taint, by the rules of the API documentation of `Toleration`.
#[must_use]
pub fn tolerates(toleration: &Toleration, taint: &Taint) -> bool {
    let effect = toleration.effect.as_deref().unwrap_or_default();
    let key = toleration.key.as_deref().unwrap_or_default();
    let exists = toleration.operator.as_deref() == Some("Exists");
    (effect.is_empty() || effect == taint.effect)
        && (if key.is_empty() { exists } else { key == taint.key })
        && (exists
            || toleration.value.as_deref().unwrap_or_default() == taint.value.as_deref().unwrap_or_default())
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn node(ready: &str, taint: &str) -> Node {
        let taints =
            if taint.is_empty() { json!([]) } else { json!([{"key": taint, "effect": NO_SCHEDULE}]) };
        let conditions = json!([{"type": "Ready", "status": ready}]);
        serde_json::from_value(json!({"spec": {"taints": taints}, "status": {"conditions": conditions}}))
            .unwrap()
    }

    #[test]
    fn a_sign_of_life_counts_more_than_a_promise() {
        assert!(!is_out_of_service(&node("False", OUT_OF_SERVICE)));
        assert!(is_out_of_service(&node("Unknown", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(says_out_of_service(&node("True", OUT_OF_SERVICE)));
        assert!(!is_out_of_service(&node("Unknown", UNREACHABLE)));
        assert!(!is_out_of_service(&Node::default()));
    }

    #[test]
    fn tolerations() {
        let taint = |key: &str, value: &str, effect: &str| Taint {
            key: key.to_owned(),
            value: Some(value.to_owned()),
            effect: effect.to_owned(),
            time_added: None,
        };
        let cases: [(u32, Value, bool); 8] = [
            (1, json!({"operator": "Exists"}), true),
            (2, json!({"key": "k", "operator": "Exists"}), true),
            (3, json!({"key": "k", "value": "v"}), true),
            (4, json!({"key": "k", "operator": "Equal", "value": "w"}), false),
            (5, json!({"key": "l", "operator": "Exists"}), false),
            (6, json!({"key": "k", "operator": "Exists", "effect": NO_EXECUTE}), false),
            (7, json!({"key": "k", "operator": "Exists", "effect": NO_SCHEDULE}), true),
            (8, json!({"value": "v"}), false),
        ];
        for (number, toleration, expected) in cases {
            let toleration = serde_json::from_value(toleration).unwrap();
            assert_eq!(tolerates(&toleration, &taint("k", "v", NO_SCHEDULE)), expected, "case {number}");
        }
    }
}
