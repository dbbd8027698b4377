//! The volume's side, and what is passed over.

use holdfast_api::names;
use serde_json::json;

use super::*;

#[test]
fn a_volume_without_a_claim() {
    let v = || volume("v");
    let waiting = |name: &str, size: &str| claim(name).size(size);
    check(
        vec![
            Case(100, "new", vec![v().unset("status.phase")], phase("Available", Reason::Free)),
            Case(101, "free", vec![v()], None),
            Case(
                102,
                "released, its reference taken off",
                vec![v().phase("Released")],
                phase("Available", Reason::Free),
            ),
            Case(
                103,
                "failed, its reference taken off",
                vec![v().phase("Failed")],
                phase("Available", Reason::Free),
            ),
            Case(104, "a claim waits", vec![v(), waiting("a", "1Gi")], bind("a", "v")),
            Case(105, "a claim waits that is too large", vec![v(), waiting("a", "2Gi")], None),
            Case(
                106,
                "the largest that it satisfies",
                vec![v().size("3Gi"), waiting("a", "1Gi"), waiting("b", "3Gi"), waiting("c", "4Gi")],
                bind("b", "v"),
            ),
            Case(
                107,
                "which gets what is best for it",
                vec![v().size("9Gi"), volume("u"), waiting("a", "1Gi")],
                bind("a", "u"),
            ),
            Case(
                108,
                "a claim whose selector does not match",
                vec![v(), claim("a").set("spec.selector", json!({"matchLabels": {"x": "y"}})), claim("b")],
                bind("b", "v"),
            ),
            Case(
                109,
                "a claim that waits for a pod",
                vec![v().class("late"), late_class("late"), claim("a").class("late")],
                None,
            ),
            Case(
                110,
                "a claim on another node",
                vec![
                    v().class("late").in_zone("y"),
                    late_class("late"),
                    node("n").label("zone", "x"),
                    claim("a").class("late").note(names::SELECTED_NODE, "n"),
                ],
                None,
            ),
            Case(
                111,
                "a claim on this node",
                vec![
                    v().class("late").in_zone("x"),
                    late_class("late"),
                    node("n").label("zone", "x"),
                    claim("a").class("late").note(names::SELECTED_NODE, "n"),
                ],
                bind("a", "v"),
            ),
            Case(
                112,
                "a claim that names another volume",
                vec![v(), claim("a").set("spec.volumeName", "u")],
                None,
            ),
            Case(
                113,
                "a claim for which another is kept gets that",
                vec![v(), claim("a"), volume("u").size("9Gi").kept_for("a", "")],
                bind("a", "u"),
            ),
            Case(114, "a claim of another mode", vec![v(), claim("a").set("spec.volumeMode", "Block")], None),
            Case(115, "a claim for more modes", vec![v(), claim("a").modes(&["ReadWriteMany"])], None),
            Case(
                116,
                "a claim that is to get a default class first",
                vec![
                    v(),
                    claim("a").unset("spec.storageClassName"),
                    class("std").note(names::DEFAULT_CLASS, "true"),
                ],
                None,
            ),
            Case(117, "being deleted it goes to nobody", vec![v().deleting(), claim("a")], None),
        ],
        &of_volume("v"),
    );
}

#[test]
fn a_volume_of_a_claim() {
    let (a, v) = bound("a", "v");
    let kept = |uid: &str| volume("v").kept_for("a", uid);
    let elsewhere = || {
        let (claim, _) = bound("a", "u");
        claim
    };
    let not_needed = || Reason::NotNeeded { claim: format!("{SPACE}/a") };
    let free = || Some(Action::Free { volume: at(of_volume("v")), reason: not_needed() });
    check(
        vec![
            Case(118, "all is well", vec![a.clone(), v.clone()], None),
            Case(119, "the claim is going but there", vec![a.clone().deleting(), v.clone()], None),
            Case(120, "the volume is going but bound", vec![a.clone(), v.clone().deleting()], None),
            Case(121, "its phase is behind", vec![a.clone(), v.clone().phase("Available")], bind("a", "v")),
            Case(
                122,
                "kept for a claim that is not there yet",
                vec![kept("").phase("Pending")],
                phase("Available", Reason::Free),
            ),
            Case(
                123,
                "kept for a claim that waits",
                vec![kept("").phase("Pending"), claim("a")],
                phase("Available", Reason::Free),
            ),
            Case(124, "made for a claim that waits", vec![kept("uid-a").phase("Pending"), claim("a")], None),
            Case(
                125,
                "the claim names it and is not bound yet",
                vec![kept("uid-a"), claim("a").set("spec.volumeName", "v")],
                None,
            ),
            Case(126, "the claim is gone", vec![v.clone()], phase("Released", gone())),
            Case(
                127,
                "the claim was made again",
                vec![v.clone(), claim("a").uid("uid-later")],
                phase("Released", gone()),
            ),
            Case(
                128,
                "made for a claim that went before",
                vec![kept("uid-a").phase("Pending")],
                phase("Released", gone()),
            ),
            Case(129, "retained", vec![v.clone().phase("Released")], None),
            Case(
                130,
                "of a provisioner that deletes it",
                vec![
                    v.clone()
                        .phase("Released")
                        .note(names::PROVISIONED_BY, DRIVER)
                        .set("spec.persistentVolumeReclaimPolicy", "Delete"),
                ],
                None,
            ),
            Case(
                170,
                "of a driver, but no provisioner made it",
                vec![v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Delete")],
                phase("Failed", Reason::NoDeleter),
            ),
            Case(
                131,
                "nobody can delete it",
                vec![
                    v.clone()
                        .phase("Released")
                        .set("spec.persistentVolumeReclaimPolicy", "Delete")
                        .unset("spec.csi"),
                ],
                phase("Failed", Reason::NoDeleter),
            ),
            Case(
                132,
                "not CSI, but of some provisioner",
                vec![
                    v.clone()
                        .phase("Released")
                        .set("spec.persistentVolumeReclaimPolicy", "Delete")
                        .unset("spec.csi")
                        .note(names::PROVISIONED_BY, "nfs.example.com"),
                ],
                None,
            ),
            Case(
                133,
                "nobody recycles",
                vec![v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Recycle")],
                phase("Failed", Reason::NoRecycler),
            ),
            Case(
                134,
                "failed stays failed",
                vec![v.clone().phase("Failed").set("spec.persistentVolumeReclaimPolicy", "Recycle")],
                None,
            ),
            Case(
                135,
                "its UID taken off, it is kept for the next of the name",
                vec![v.clone().kept_for("a", "").phase("Released")],
                phase("Available", Reason::Free),
            ),
            Case(
                136,
                "made for a claim that took another",
                vec![kept("uid-a").note(names::PROVISIONED_BY, DRIVER), elsewhere()],
                phase("Released", not_needed()),
            ),
            Case(
                137,
                "kept by the binder for a claim that took another",
                vec![kept("uid-a").note(names::BOUND_BY_CONTROLLER, "yes"), elsewhere()],
                free(),
            ),
            Case(
                138,
                "kept by a person for a claim that took another",
                vec![kept("").phase("Pending"), elsewhere()],
                phase("Available", Reason::Free),
            ),
            Case(
                146,
                "made for a claim that took another, and its deletion failed",
                vec![kept("uid-a").note(names::PROVISIONED_BY, DRIVER).phase("Failed"), elsewhere()],
                None,
            ),
            Case(
                139,
                "the same with a UID: only a person takes that back",
                vec![kept("uid-a"), elsewhere()],
                None,
            ),
        ],
        &of_volume("v"),
    );
}

#[test]
fn what_is_underway_is_passed_over() {
    let contested = |key| Some(Action::Defer { key, reason: Reason::Contested });
    let underway = |keys: &[Key]| keys.iter().cloned().collect::<Keys>();
    let (u, v, a) = (of_volume("u"), of_volume("v"), of_claim("a"));
    for (number, why, objects, busy, key, expected) in [
        (
            140,
            "the best is about to go: the next",
            vec![claim("a"), volume("u"), volume("v")],
            vec![u.clone()],
            a.clone(),
            bind("a", "v"),
        ),
        (
            141,
            "all are about to go: in a moment",
            vec![claim("a"), volume("u")],
            vec![u.clone()],
            a.clone(),
            contested(a.clone()),
        ),
        (
            142,
            "nothing is asked for meanwhile",
            vec![claim("a").class("fast"), class("fast"), volume("u").class("fast")],
            vec![u.clone()],
            a.clone(),
            contested(a.clone()),
        ),
        (
            143,
            "the volume itself is about to go",
            vec![claim("a"), volume("u")],
            vec![u.clone()],
            u.clone(),
            contested(u),
        ),
        (
            144,
            "the claim is about to get another",
            vec![claim("a"), volume("v")],
            vec![a.clone()],
            v.clone(),
            contested(v.clone()),
        ),
        (
            145,
            "the next claim",
            vec![claim("a"), claim("b"), volume("v")],
            vec![of_claim("b")],
            v,
            bind("a", "v"),
        ),
    ] {
        assert_eq!(decide(&view(&objects), &underway(&busy), &key), expected, "case {number}: {why}");
    }
}

#[test]
fn free_is_what_may_be_given_away() {
    let view = view(&[volume("v"), volume("w").deleting(), volume("x").kept_for("a", "")]);
    let free: Vec<_> =
        view.volumes.iter().filter(|volume| is_free(volume)).map(|v| v.key.name.to_string()).collect();
    assert_eq!(free, ["v"]);
}
