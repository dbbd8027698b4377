//! The scheduler's table: what is there, what follows for pod `p`.

use holdfast_api::names::{NO_PROVISIONER, SELECTED_NODE};
use serde_json::{Value, json};

use super::{
    decide::{Action, decide},
    reason::{Reason, Refusal},
};
use crate::controllers::view::{fixture::*, pod_claims};

fn wait(reason: Reason) -> Option<Action> {
    Some(Action::Wait { pod: at(of_pod("p")), reason })
}

fn bind(node: &str) -> Option<Action> {
    let reason = Reason::Assigned { pod: format!("{SPACE}/p"), node: node.into() };
    Some(Action::Bind { pod: at(of_pod("p")), node: node.into(), claims: Vec::new(), reason })
}

fn choose(claims: &[&str], node: &str) -> Option<Action> {
    let names = claims.iter().map(|&claim| claim.to_owned()).collect();
    let reason = Reason::Chosen { claims: names, node: node.into() };
    Some(Action::Choose {
        claims: claims.iter().map(|c| at(of_claim(c))).collect(),
        node: node.into(),
        reason,
    })
}

fn refused(refusals: &[(Refusal, usize)]) -> Option<Action> {
    let nodes = refusals.iter().map(|(_, count)| count).sum();
    wait(Reason::NoNode { nodes, refusals: refusals.to_vec() })
}

fn check(cases: Vec<(u32, &str, Vec<Made>, Option<Action>)>) {
    for (number, why, objects, expected) in cases {
        let view = view(&objects);
        let mut found = decide(&view, &of_pod("p"));
        if let Some(Action::Bind { claims, .. }) = &mut found {
            // Every claim of the pod, as it is: which they are, `pod_claims` says, and not each case.
            let all = view.pods.at(&of_pod("p")).into_iter().flat_map(|pod| pod_claims(pod));
            let all: Vec<_> = all.map(|(name, _)| at(of_claim(&name))).collect();
            assert_eq!(std::mem::take(claims), all, "case {number}: {why}");
        }
        assert_eq!(found, expected, "case {number}: {why}");
    }
}

#[test]
fn whose_pods() {
    let p = || pod("p", &[]);
    let n = || node("n");
    check(vec![
        (1, "a pod and a node", vec![p(), n()], bind("n")),
        (2, "on a node already", vec![pod_on("n", "p", &[]), n()], None),
        (3, "being deleted", vec![p().deleting(), n()], None),
        (4, "ended before it began", vec![p().phase("Failed"), n()], None),
        (5, "of another scheduler", vec![p().set("spec.schedulerName", "mine"), n()], None),
        (6, "of no scheduler by name", vec![p().unset("spec.schedulerName"), n()], bind("n")),
        (7, "held by a gate", vec![p().set("spec.schedulingGates", json!([{"name": "x"}])), n()], None),
        (8, "its gates are gone", vec![p().set("spec.schedulingGates", json!([])), n()], bind("n")),
        (9, "not there", vec![n()], None),
        (10, "no nodes", vec![p()], refused(&[])),
        (11, "the node with the fewest pods", vec![p(), n(), node("m"), pod_on("m", "o", &[])], bind("n")),
    ]);
}

#[test]
fn nodes_that_do_not_fit() {
    let p = || pod("p", &[]);
    let taint = |effect: &str| {
        node("n").set("spec.taints", json!([{"key": "gpu", "value": "yes", "effect": effect}]))
    };
    let tolerating = |toleration: Value| p().set("spec.tolerations", json!([toleration]));
    let tainted = || refused(&[(Refusal::Taint("gpu: yes".into()), 1)]);
    let affine = |operator: &str| {
        let term = json!({"matchExpressions": [{"key": "zone", "operator": operator, "values": ["x"]}]});
        let required = "spec.affinity.nodeAffinity.requiredDuringSchedulingIgnoredDuringExecution";
        p().set(required, json!({"nodeSelectorTerms": [term]}))
    };
    let in_x = || node("n").label("zone", "x");
    check(vec![
        (
            12,
            "not ready",
            vec![p(), node("n").set("status.conditions", json!([{"type": "Ready", "status": "False"}]))],
            refused(&[(Refusal::NotReady, 1)]),
        ),
        (
            13,
            "never heard of",
            vec![p(), node("n").unset("status.conditions")],
            refused(&[(Refusal::NotReady, 1)]),
        ),
        (
            14,
            "cordoned",
            vec![p(), node("n").set("spec.unschedulable", true)],
            refused(&[(Refusal::Unschedulable, 1)]),
        ),
        (15, "tainted", vec![p(), taint("NoSchedule")], tainted()),
        (16, "tainted, a little", vec![p(), taint("PreferNoSchedule")], bind("n")),
        (
            17,
            "tolerated by value",
            vec![tolerating(json!({"key": "gpu", "value": "yes"})), taint("NoExecute")],
            bind("n"),
        ),
        (
            18,
            "another value",
            vec![tolerating(json!({"key": "gpu", "value": "no"})), taint("NoSchedule")],
            tainted(),
        ),
        (
            19,
            "any value",
            vec![tolerating(json!({"key": "gpu", "operator": "Exists"})), taint("NoSchedule")],
            bind("n"),
        ),
        (
            20,
            "another effect",
            vec![
                tolerating(json!({"key": "gpu", "operator": "Exists", "effect": "NoExecute"})),
                taint("NoSchedule"),
            ],
            tainted(),
        ),
        (
            21,
            "everything tolerated",
            vec![tolerating(json!({"operator": "Exists"})), taint("NoSchedule")],
            bind("n"),
        ),
        (
            22,
            "an empty key without Exists tolerates nothing",
            vec![tolerating(json!({"value": "yes"})), taint("NoSchedule")],
            tainted(),
        ),
        (
            23,
            "selector",
            vec![p().set("spec.nodeSelector.zone", "x"), node("n")],
            refused(&[(Refusal::Affinity, 1)]),
        ),
        (24, "selector that matches", vec![p().set("spec.nodeSelector.zone", "x"), in_x()], bind("n")),
        (25, "affinity", vec![affine("NotIn"), in_x()], refused(&[(Refusal::Affinity, 1)])),
        (26, "affinity that matches", vec![affine("In"), in_x()], bind("n")),
        (27, "one of several fits", vec![affine("In"), node("m"), in_x()], bind("n")),
        (
            28,
            "every refusal is counted",
            vec![affine("In"), node("k"), node("l"), node("m").set("spec.unschedulable", true)],
            refused(&[(Refusal::Unschedulable, 1), (Refusal::Affinity, 2)]),
        ),
    ]);
}

#[test]
fn claims_that_are_there() {
    let p = || pod("p", &["a"]);
    let (a, v) = bound("a", "v");
    let n = || node("n").label("zone", "x");
    let once = || a.clone().modes(&["ReadWriteOncePod"]);
    let lost = || wait(Reason::ClaimLost { claim: "a".into(), volume: "v".into() });
    let ephemeral = || {
        let volumes = json!([{"name": "data", "ephemeral": {"volumeClaimTemplate": {"spec": {}}}}]);
        pod("p", &[]).set("spec.volumes", volumes)
    };
    let made_from = |uid: &str| {
        let (claim, _) = bound("p-data", "w");
        let owner = json!([{"apiVersion": "v1", "kind": "Pod", "name": "p", "uid": uid, "controller": true}]);
        claim.set("metadata.ownerReferences", owner)
    };
    let missing = || wait(Reason::EphemeralMissing { claim: "p-data".into() });
    check(vec![
        (29, "bound", vec![p(), n(), a.clone(), v.clone()], bind("n")),
        (30, "not there", vec![p(), n()], wait(Reason::ClaimMissing { claim: "a".into() })),
        (
            31,
            "being deleted",
            vec![p(), n(), a.clone().deleting(), v.clone()],
            wait(Reason::ClaimDeleting { claim: "a".into() }),
        ),
        (32, "not bound", vec![p(), n(), claim("a")], wait(Reason::UnboundImmediate)),
        (
            33,
            "not bound, of a class whose volumes are made at once",
            vec![p(), n(), claim("a").class("fast"), class("fast")],
            wait(Reason::UnboundImmediate),
        ),
        (
            34,
            "not bound, of no class that is there",
            vec![p(), n(), claim("a").class("x")],
            wait(Reason::UnboundImmediate),
        ),
        (
            35,
            "names a volume that it does not have yet",
            vec![p(), n(), claim("a").class("late").set("spec.volumeName", "v"), late_class("late")],
            wait(Reason::UnboundImmediate),
        ),
        (36, "its volume is gone", vec![p(), n(), a.clone()], lost()),
        (37, "its volume is another's", vec![p(), n(), a.clone(), v.clone().kept_for("b", "uid-b")], lost()),
        (38, "lost", vec![p(), n(), a.clone().phase("Lost"), v.clone()], lost()),
        (
            39,
            "its volume is not on the node",
            vec![p(), n(), a.clone(), v.clone().in_zone("y")],
            refused(&[(Refusal::VolumeAffinity, 1)]),
        ),
        (
            40,
            "its volume is on the other node",
            vec![p(), node("m").label("zone", "y"), n(), a.clone(), v.clone().in_zone("x")],
            bind("n"),
        ),
        (41, "for one pod, and nobody has it", vec![p(), n(), once(), v.clone()], bind("n")),
        (
            42,
            "for one pod, and another has it",
            vec![p(), n(), once(), v.clone(), pod_on("n", "o", &["a"])],
            refused(&[(Refusal::OtherPodHasClaim, 1)]),
        ),
        (
            43,
            "for one pod, and the other waits as well",
            vec![p(), n(), once(), v.clone(), pod("o", &["a"])],
            bind("n"),
        ),
        (
            44,
            "for one pod, and the other has ended",
            vec![p(), n(), once(), v.clone(), pod_on("n", "o", &["a"]).phase("Succeeded")],
            bind("n"),
        ),
        (
            45,
            "for one writer: many pods",
            vec![p(), n(), a.clone(), v.clone(), pod_on("n", "o", &["a"])],
            bind("n"),
        ),
        (46, "ephemeral, not made yet", vec![ephemeral(), n()], missing()),
        (47, "ephemeral", vec![ephemeral(), n(), made_from("uid-p"), bound("p-data", "w").1], bind("n")),
        (
            48,
            "the claim of that name is not this pod's",
            vec![ephemeral(), n(), made_from("uid-before"), bound("p-data", "w").1],
            missing(),
        ),
    ]);
}

#[test]
fn claims_that_wait_for_a_node() {
    let p = || pod("p", &["a"]);
    let a = || claim("a").class("late");
    let b = || claim("b").class("late");
    let on_n = |claim: Made| claim.note(SELECTED_NODE, "n");
    let late = || late_class("late");
    let by_hand = || late().set("provisioner", NO_PROVISIONER);
    let n = || node("n").label("zone", "x");
    let allowed = |zone: &str| {
        let terms = json!([{"matchLabelExpressions": [{"key": "zone", "values": [zone]}]}]);
        late().set("allowedTopologies", terms)
    };
    let v = || volume("v").class("late");
    let (c, w) = bound("c", "w");
    let forget = |reason| Some(Action::Forget { claim: at(of_claim("a")), reason });
    let provisioning = wait(Reason::Provisioning { claims: vec!["a".into()], node: "n".into() });
    let missing_driver = refused(&[(Refusal::NoDriver(DRIVER.into()), 1)]);
    check(vec![
        (49, "a node is chosen", vec![p(), n(), a(), late()], choose(&["a"], "n")),
        (
            50,
            "for all claims at once",
            vec![pod("p", &["a", "b"]), n(), a(), b(), late()],
            choose(&["a", "b"], "n"),
        ),
        (
            51,
            "a claim that is named twice once",
            vec![pod("p", &["a", "a"]), n(), a(), late()],
            choose(&["a"], "n"),
        ),
        (
            52,
            "which the volumes that are there allow",
            vec![pod("p", &["a", "c"]), node("m"), n(), a(), late(), c, w.in_zone("x")],
            choose(&["a"], "n"),
        ),
        (53, "the volume is being made", vec![p(), n(), on_n(a()), late()], provisioning.clone()),
        (
            54,
            "also on a node that is not ready now",
            vec![p(), n().unset("status.conditions"), on_n(a()), late()],
            provisioning,
        ),
        (
            55,
            "the second claim follows the first",
            vec![pod("p", &["a", "b"]), node("m"), n(), on_n(a()), b(), late()],
            choose(&["b"], "n"),
        ),
        (
            56,
            "the chosen node is gone",
            vec![p(), node("m"), on_n(a()), late()],
            forget(Reason::NodeGone { claim: "a".into(), node: "n".into() }),
        ),
        (57, "the topology is allowed", vec![p(), n(), a(), allowed("x")], choose(&["a"], "n")),
        (
            58,
            "the topology is not allowed",
            vec![p(), n(), a(), allowed("y")],
            refused(&[(Refusal::Topology, 1)]),
        ),
        (
            59,
            "the driver is on the node",
            vec![p(), n(), a(), late(), driver(true), csi_node("n", &[DRIVER])],
            choose(&["a"], "n"),
        ),
        (
            60,
            "the driver is not on the node",
            vec![p(), n(), a(), late(), driver(true), csi_node("n", &[])],
            missing_driver.clone(),
        ),
        (
            61,
            "nothing is known of drivers on the node",
            vec![p(), n(), a(), late(), driver(true)],
            missing_driver,
        ),
        (
            62,
            "a volume on the node needs no driver",
            vec![p(), n(), a(), late(), driver(true), v().in_zone("x")],
            choose(&["a"], "n"),
        ),
        (
            63,
            "made by hand: where one is free",
            vec![p(), node("m"), n(), a(), by_hand(), v().in_zone("x")],
            choose(&["a"], "n"),
        ),
        (
            64,
            "made by hand: none is free on any node",
            vec![p(), n(), a(), by_hand(), v().in_zone("y")],
            refused(&[(Refusal::NoCandidate, 1)]),
        ),
        (
            65,
            "made by hand: none is large enough",
            vec![p(), n(), a().size("2Gi"), by_hand(), v().in_zone("x")],
            refused(&[(Refusal::NoCandidate, 1)]),
        ),
        (
            66,
            "made by hand: another took the last on the chosen node",
            vec![p(), n(), on_n(a()), by_hand(), v().in_zone("x").kept_for("z", "uid-z")],
            forget(Reason::NothingThere { claim: "a".into(), node: "n".into() }),
        ),
        (
            67,
            "no node is ready",
            vec![p(), n().unset("status.conditions"), a(), late()],
            refused(&[(Refusal::NotReady, 1)]),
        ),
    ]);
}

#[test]
fn reasons_in_words() {
    let none = Reason::NoNode {
        nodes: 3,
        refusals: vec![(Refusal::NotReady, 2), (Refusal::Taint("gpu: yes".into()), 1)],
    };
    for (reason, name, words) in [
        (
            none,
            "FailedScheduling",
            "0/3 nodes are available: 2 node(s) were not ready, 1 node(s) had untolerated taint {gpu: yes}.",
        ),
        (
            Reason::NoNode { nodes: 0, refusals: vec![] },
            "FailedScheduling",
            "no nodes available to schedule pods",
        ),
        (
            Reason::NoNode { nodes: 1, refusals: vec![(Refusal::NoCandidate, 1)] },
            "FailedScheduling",
            "0/1 nodes are available: 1 node(s) didn't find available persistent volumes to bind.",
        ),
        (
            Reason::ClaimMissing { claim: "a".into() },
            "FailedScheduling",
            "persistentvolumeclaim \"a\" not found",
        ),
        (Reason::UnboundImmediate, "FailedScheduling", "pod has unbound immediate PersistentVolumeClaims"),
        (
            Reason::Assigned { pod: "dev/p".into(), node: "n".into() },
            "Scheduled",
            "Successfully assigned dev/p to n",
        ),
        (
            Reason::Provisioning { claims: vec!["a".into(), "b".into()], node: "n".into() },
            "WaitForVolumes",
            "waiting for the volumes of a, b to be made on node n",
        ),
    ] {
        assert_eq!((reason.name(), reason.to_string().as_str()), (name, words));
    }
}
