//! Where a volume can be used: node affinity against a node's labels.
//!
//! Source: the API documentation of `NodeSelector`; terms are ORed, the
//! expressions of one term are ANDed, an empty term matches nothing.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::{NodeSelector, NodeSelectorRequirement, NodeSelectorTerm, PersistentVolume};

/// The labels of a node.
pub type Labels = BTreeMap<String, String>;

/// Whether a volume can be used on a node with this name and these labels.
#[must_use]
pub fn volume_fits_node(volume: &PersistentVolume, node: &str, labels: &Labels) -> bool {
    let required =
        volume.spec.as_ref().and_then(|s| s.node_affinity.as_ref()).and_then(|a| a.required.as_ref());
    required.is_none_or(|selector| matches(selector, node, labels))
}

/// Whether a node satisfies a selector.
#[must_use]
pub fn matches(selector: &NodeSelector, node: &str, labels: &Labels) -> bool {
    selector.node_selector_terms.iter().any(|term| term_matches(term, node, labels))
}

fn term_matches(term: &NodeSelectorTerm, node: &str, labels: &Labels) -> bool {
    let expressions = term.match_expressions.as_deref().unwrap_or_default();
    let fields = term.match_fields.as_deref().unwrap_or_default();
    if expressions.is_empty() && fields.is_empty() {
        return false;
    }
    expressions.iter().all(|r| holds(r, labels.get(&r.key).map(String::as_str)))
        && fields.iter().all(|r| r.key == "metadata.name" && holds(r, Some(node)))
}

/// An operator that is not known never holds: a volume must not land where its
/// affinity could not be understood.
fn holds(requirement: &NodeSelectorRequirement, found: Option<&str>) -> bool {
    let values = requirement.values.as_deref().unwrap_or_default();
    let among = |found: &str| values.iter().any(|v| v == found);
    let compare = |order| {
        let number = |text: &str| text.parse::<i64>().ok();
        match (found.and_then(number), values) {
            (Some(found), [bound]) => number(bound).is_some_and(|bound| found.cmp(&bound) == order),
            _ => false,
        }
    };
    match requirement.operator.as_str() {
        "In" => found.is_some_and(among),
        "NotIn" => !found.is_some_and(among),
        "Exists" => found.is_some(),
        "DoesNotExist" => found.is_none(),
        "Gt" => compare(std::cmp::Ordering::Greater),
        "Lt" => compare(std::cmp::Ordering::Less),
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn check(terms: &Value) -> bool {
        let selector: NodeSelector = serde_json::from_value(json!({"nodeSelectorTerms": terms})).unwrap();
        let labels = [("zone", "a"), ("cpus", "8")].map(|(k, v)| (k.to_owned(), v.to_owned())).into();
        matches(&selector, "node-1", &labels)
    }

    #[test]
    fn table() {
        let expression = |key: &str, operator: &str, values: Value| json!([{"matchExpressions": [{"key": key, "operator": operator, "values": values}]}]);
        for (terms, expected) in [
            (json!([]), false),
            (json!([{}]), false),
            (expression("zone", "In", json!(["a", "b"])), true),
            (expression("zone", "In", json!(["b"])), false),
            (expression("zone", "NotIn", json!(["b"])), true),
            (expression("rack", "NotIn", json!(["b"])), true),
            (expression("zone", "Exists", json!([])), true),
            (expression("rack", "Exists", json!([])), false),
            (expression("rack", "DoesNotExist", json!([])), true),
            (expression("cpus", "Gt", json!(["4"])), true),
            (expression("cpus", "Lt", json!(["4"])), false),
            (expression("zone", "Gt", json!(["4"])), false),
            (expression("zone", "Near", json!(["a"])), false),
            (
                json!([{"matchFields": [{"key": "metadata.name", "operator": "In", "values": ["node-1"]}]}]),
                true,
            ),
            (
                json!([{"matchFields": [{"key": "metadata.uid", "operator": "In", "values": ["node-1"]}]}]),
                false,
            ),
            (json!([{}, {"matchExpressions": [{"key": "zone", "operator": "Exists"}]}]), true),
        ] {
            assert_eq!(check(&terms), expected, "{terms}");
        }
    }
}
