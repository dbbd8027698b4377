//! Claims that wait for a pod, name a volume, have one kept for them, or were bound.

use holdfast_api::names;
use serde_json::json;

use super::*;

#[test]
fn claims_that_wait_for_a_pod() {
    let a = || claim("a").class("late");
    let placed = || a().note(names::SELECTED_NODE, "n");
    let late = || late_class("late");
    let by_hand = || late().set("provisioner", names::NO_PROVISIONER);
    let v = || volume("v").class("late");
    let n = || node("n").label("zone", "x");
    check(
        vec![
            Case(48, "no pod", vec![a(), late()], wait(Reason::WaitsForConsumer)),
            Case(
                49,
                "not even for a volume that is there",
                vec![a(), late(), v()],
                wait(Reason::WaitsForConsumer),
            ),
            Case(
                50,
                "a pod without a node",
                vec![a(), late(), pod("p", &["a"])],
                wait(Reason::WaitsForPod { pod: "p".into() }),
            ),
            Case(51, "a node was chosen", vec![placed(), late(), n()], ask()),
            Case(
                52,
                "a volume that is on the node",
                vec![placed(), late(), n(), v().in_zone("x")],
                bind("a", "v"),
            ),
            Case(53, "a volume that is elsewhere", vec![placed(), late(), n(), v().in_zone("y")], ask()),
            Case(
                54,
                "the smallest that is on the node",
                vec![
                    placed(),
                    late(),
                    n(),
                    volume("u").class("late").in_zone("y"),
                    v().in_zone("x").size("5Gi"),
                ],
                bind("a", "v"),
            ),
            Case(
                55,
                "none on the node, and none is made",
                vec![placed(), by_hand(), n(), v().in_zone("y")],
                wait(Reason::NoProvisioner { class: "late".into() }),
            ),
            Case(
                56,
                "the chosen node is not there",
                vec![placed(), by_hand(), v()],
                wait(Reason::NoProvisioner { class: "late".into() }),
            ),
            Case(
                57,
                "one made for the claim does not wait",
                vec![a(), late(), v().kept_for("a", "uid-a")],
                bind("a", "v"),
            ),
            Case(
                58,
                "but it must be on the chosen node",
                vec![placed(), late(), n(), v().kept_for("a", "uid-a").in_zone("y")],
                ask(),
            ),
            Case(59, "the class is gone: nothing to wait for", vec![a(), v()], bind("a", "v")),
        ],
        &of_claim("a"),
    );
}

#[test]
fn a_claim_that_names_its_volume() {
    let a = || claim("a").set("spec.volumeName", "v");
    let v = || volume("v");
    check(
        vec![
            Case(
                60,
                "it is not there",
                vec![a(), volume("u")],
                wait(Reason::WaitsForVolume { volume: "v".into() }),
            ),
            Case(61, "it is free", vec![a(), v()], bind("a", "v")),
            Case(62, "it is larger than the best", vec![a(), v().size("9Gi"), volume("u")], bind("a", "v")),
            Case(63, "too small", vec![a().size("2Gi"), v()], misfit("requested PV is too small")),
            Case(
                64,
                "size that cannot be read",
                vec![a(), v().size("many")],
                misfit("requested PV is too small"),
            ),
            Case(
                65,
                "block",
                vec![a(), v().set("spec.volumeMode", "Block")],
                misfit("incompatible volumeMode"),
            ),
            Case(66, "class", vec![a(), v().class("fast")], misfit("storageClassName does not match")),
            Case(67, "modes", vec![a().modes(&["ReadWriteMany"]), v()], misfit("incompatible accessMode")),
            Case(
                68,
                "attributes",
                vec![a(), v().set("spec.volumeAttributesClassName", "gold")],
                misfit("volumeAttributesClassName does not match"),
            ),
            Case(69, "it is being deleted", vec![a(), v().deleting()], misfit("the volume is being deleted")),
            Case(70, "it is kept for this claim by name", vec![a(), v().kept_for("a", "")], bind("a", "v")),
            Case(71, "it is this claim's", vec![a(), v().kept_for("a", "uid-a")], bind("a", "v")),
            Case(
                72,
                "it is another's",
                vec![a(), v().kept_for("b", "uid-b")],
                wait(Reason::TakenVolume { volume: "v".into() }),
            ),
            Case(
                73,
                "it was an earlier claim's of this name",
                vec![a(), v().kept_for("a", "uid-before").phase("Released")],
                wait(Reason::TakenVolume { volume: "v".into() }),
            ),
            Case(
                74,
                "released, its reference taken off, not yet looked at",
                vec![a(), v().phase("Released")],
                wait(Reason::TakenVolume { volume: "v".into() }),
            ),
            Case(
                75,
                "a selector does not count against a name",
                vec![a().set("spec.selector", json!({"matchLabels": {"x": "y"}})), v()],
                bind("a", "v"),
            ),
            Case(76, "the claim is being deleted", vec![a().deleting(), v()], None),
        ],
        &of_claim("a"),
    );
}

#[test]
fn a_volume_that_is_kept_for_a_claim() {
    let a = || claim("a");
    let v = || volume("v").size("5Gi");
    let nothing = || wait(Reason::NothingFits);
    check(
        vec![
            Case(
                77,
                "by name, though another fits better",
                vec![a(), v().kept_for("a", ""), volume("u")],
                bind("a", "v"),
            ),
            Case(78, "by UID", vec![a(), v().kept_for("a", "uid-a")], bind("a", "v")),
            Case(
                79,
                "for a claim before of the same name",
                vec![a(), v().kept_for("a", "uid-before")],
                nothing(),
            ),
            Case(
                80,
                "for a claim of that name elsewhere",
                vec![a(), v().kept_for("a", "").set("spec.claimRef.namespace", "prod")],
                nothing(),
            ),
            Case(81, "too small", vec![a().size("9Gi"), v().kept_for("a", "")], nothing()),
            Case(
                82,
                "of the wrong mode",
                vec![a(), v().kept_for("a", "").set("spec.volumeMode", "Block")],
                nothing(),
            ),
            Case(83, "on its way out", vec![a(), v().kept_for("a", "").deleting()], nothing()),
            Case(84, "released", vec![a(), v().kept_for("a", "").phase("Released")], nothing()),
            Case(
                85,
                "two: the smaller",
                vec![a(), v().kept_for("a", ""), volume("w").size("2Gi").kept_for("a", "")],
                bind("a", "w"),
            ),
        ],
        &of_claim("a"),
    );
}

#[test]
fn a_claim_that_was_bound() {
    let (a, v) = bound("a", "v");
    let lost = || Reason::VolumeGone { volume: "v".into() };
    let misbound = || Reason::VolumeOfAnother { volume: "v".into() };
    check(
        vec![
            Case(86, "all is well", vec![a.clone(), v.clone()], None),
            Case(87, "its volume is gone", vec![a.clone()], lose(lost())),
            Case(88, "said already", vec![a.clone().phase("Lost")], None),
            Case(89, "and came back", vec![a.clone().phase("Lost"), v.clone()], bind("a", "v")),
            Case(
                90,
                "its volume is another's",
                vec![a.clone(), volume("v").kept_for("b", "uid-b")],
                lose(misbound()),
            ),
            Case(
                91,
                "its volume is an earlier claim's: this one was restored",
                vec![a.clone(), v.clone().kept_for("a", "uid-before")],
                lose(misbound()),
            ),
            Case(
                92,
                "the volume's side was taken off",
                vec![a.clone(), v.clone().unset("spec.claimRef")],
                bind("a", "v"),
            ),
            Case(
                93,
                "the volume's side has no UID",
                vec![a.clone(), v.clone().kept_for("a", "")],
                bind("a", "v"),
            ),
            Case(
                94,
                "the claim's phase was lost",
                vec![a.clone().phase("Pending"), v.clone()],
                bind("a", "v"),
            ),
            Case(
                95,
                "the volume's phase was lost",
                vec![a.clone(), v.clone().phase("Available")],
                bind("a", "v"),
            ),
            Case(
                96,
                "no capacity is said",
                vec![a.clone().unset("status.capacity"), v.clone()],
                bind("a", "v"),
            ),
            Case(
                97,
                "there is none to be said",
                vec![a.clone().unset("status.capacity"), v.clone().unset("spec.capacity")],
                None,
            ),
            Case(98, "a larger one does not tempt it", vec![a.clone(), v.clone(), volume("u")], None),
            Case(99, "being deleted it stays as it is", vec![a.deleting(), v], None),
        ],
        &of_claim("a"),
    );
}
