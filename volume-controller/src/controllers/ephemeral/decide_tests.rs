//! The table of pods' own claims.

use serde_json::{Value, json};

use super::{
    decide::{Action, decide},
    reason::Reason,
};
use crate::controllers::view::fixture::*;

fn template() -> Value {
    json!({
        "metadata": {"labels": {"a": "b"}, "annotations": {"c": "d"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}},
    })
}

/// A pod with a claim by name and these volumes of its own.
fn bringing(volumes: &[&str]) -> Made {
    let mut all = vec![json!({"name": "named", "persistentVolumeClaim": {"claimName": "c"}})];
    let own = |name: &&str| json!({"name": name, "ephemeral": {"volumeClaimTemplate": template()}});
    all.extend(volumes.iter().map(own));
    pod("p", &[]).set("spec.volumes", json!(all))
}

fn owned(name: &str, uid: &str) -> Made {
    let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
    claim(name).set("metadata.ownerReferences", owner)
}

fn create(volume: &str) -> Option<Action> {
    let claim = json!({
        "apiVersion": "v1", "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": format!("p-{volume}"), "namespace": SPACE, "labels": {"a": "b"}, "annotations": {"c": "d"},
            "ownerReferences": [{
                "apiVersion": "v1", "kind": "Pod", "name": "p", "uid": "uid-p", "controller": true,
                "blockOwnerDeletion": true,
            }],
        },
        "spec": template()["spec"],
    });
    Some(Action::Create { volume: volume.to_owned(), claim })
}

#[test]
fn table() {
    let not_owner = |volume: &str| {
        let (volume, claim, pod) = (volume.to_owned(), format!("p-{volume}"), "p".to_owned());
        Some(Action::Tell { reason: Reason::NotOwner { volume, claim, pod } })
    };
    for (number, why, objects, expected) in [
        (1, "the pod is not there", vec![], None),
        (2, "it brings none", vec![bringing(&[])], None),
        (3, "it brings one", vec![bringing(&["x"])], create("x")),
        (4, "it has it", vec![bringing(&["x"]), owned("p-x", "uid-p")], None),
        (5, "the second is missing", vec![bringing(&["x", "y"]), owned("p-x", "uid-p")], create("y")),
        (6, "somebody else's is in the way", vec![bringing(&["x"]), claim("p-x")], not_owner("x")),
        (
            7,
            "that of a pod of the same name before it",
            vec![bringing(&["x"]), owned("p-x", "uid-old")],
            not_owner("x"),
        ),
        (8, "the others are made all the same", vec![bringing(&["x", "y"]), claim("p-x")], create("y")),
        (9, "it goes", vec![bringing(&["x"]).deleting()], None),
        (10, "it has ended", vec![bringing(&["x"]).phase("Succeeded")], None),
    ] {
        assert_eq!(decide(&view(&objects), &of_pod("p")), expected, "case {number}: {why}");
    }
}
