//! The table of aggregated roles.

use serde_json::{Value, json};

use super::decide::{Action, decide};
use crate::{
    controllers::view::{CLUSTER_ROLES, fixture::*},
    store::Key,
};

fn rule(resource: &str) -> Value {
    json!({"verbs": ["get"], "apiGroups": [""], "resources": [resource]})
}

fn labelled(name: &str, label: &str, resources: &[&str]) -> Made {
    let rules: Vec<Value> = resources.iter().map(|resource| rule(resource)).collect();
    cluster_role(name).set("rules", json!(rules)).set("metadata.labels", json!({label: "true"}))
}

fn made_of(name: &str, labels: &[&str], resources: &[&str]) -> Made {
    let selectors: Vec<Value> = labels.iter().map(|label| json!({"matchLabels": {*label: "true"}})).collect();
    labelled(name, "to-all", resources).set("aggregationRule", json!({"clusterRoleSelectors": selectors}))
}

#[test]
fn table() {
    let key = Key::new(CLUSTER_ROLES, "", "m");
    let (pods, maps) = (|| labelled("a", "to-m", &["pods"]), || labelled("b", "to-m", &["maps", "pods"]));
    let odd = json!({"clusterRoleSelectors": [{"matchExpressions": [{"key": "a", "operator": "Near"}]}]});
    for (number, why, objects, expected) in [
        (1, "it is not there", vec![pods()], None),
        (2, "it stands for itself", vec![pods(), labelled("m", "x", &["pods"])], None),
        (3, "one is chosen", vec![pods(), made_of("m", &["to-m"], &[])], Some(vec!["pods"])),
        (
            4,
            "each rule once, by name",
            vec![maps(), pods(), made_of("m", &["to-m"], &[])],
            Some(vec!["pods", "maps"]),
        ),
        (5, "it has them", vec![maps(), pods(), made_of("m", &["to-m"], &["pods", "maps"])], None),
        (
            6,
            "what others had goes",
            vec![pods(), made_of("m", &["to-m"], &["pods", "secrets"])],
            Some(vec!["pods"]),
        ),
        (7, "nothing is chosen any more", vec![made_of("m", &["to-m"], &["pods"])], Some(vec![])),
        (8, "not of itself", vec![made_of("m", &["to-all"], &["pods"])], Some(vec![])),
        (
            9,
            "either selector",
            vec![labelled("c", "to-n", &["x"]), pods(), made_of("m", &["to-n", "to-m"], &[])],
            Some(vec!["x", "pods"]),
        ),
        (10, "it goes", vec![pods(), made_of("m", &["to-m"], &[]).deleting()], None),
        (
            11,
            "who is meant is not known",
            vec![pods(), made_of("m", &[], &["x"]).set("aggregationRule", odd)],
            None,
        ),
    ] {
        let expected = expected.map(|resources| Action::Replace {
            role: at(key.clone()),
            rules: resources.into_iter().map(|r| serde_json::from_value(rule(r)).unwrap()).collect(),
        });
        assert_eq!(decide(&view(&objects), &key), expected, "case {number}: {why}");
    }
}
