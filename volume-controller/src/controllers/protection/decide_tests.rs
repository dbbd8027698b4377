//! Protection's table.

use holdfast_api::names::{PV_PROTECTION, PVC_PROTECTION, VAC_PROTECTION};

use super::{
    decide::{Action, decide},
    reason::Reason,
};
use crate::controllers::view::{attributes_class_key, fixture::*};

#[test]
fn claims() {
    let a = || claim("a").finalizer(PVC_PROTECTION).deleting();
    let free = || {
        let reason = Reason::ClaimUnused;
        Some(Action::Release { object: at(of_claim("a")), finalizer: PVC_PROTECTION, reason })
    };
    for (number, why, objects, expected) in [
        (1, "it stays", vec![claim("a").finalizer(PVC_PROTECTION)], None),
        (2, "nobody uses it", vec![a()], free()),
        (3, "it is not protected", vec![claim("a").deleting()], None),
        (4, "held by somebody else only", vec![claim("a").finalizer("x/y").deleting()], None),
        (5, "a pod on a node uses it", vec![a(), pod_on("n", "p", &["a"])], None),
        (6, "a pod that is going uses it still", vec![a(), pod_on("n", "p", &["a"]).deleting()], None),
        (7, "a pod without a node has nothing mounted", vec![a(), pod("p", &["a"])], free()),
        (8, "a pod that has ended", vec![a(), pod_on("n", "p", &["a"]).phase("Succeeded")], free()),
        (9, "a pod that has failed", vec![a(), pod_on("n", "p", &["a"]).phase("Failed")], free()),
        (
            10,
            "one that has ended and one that has not",
            vec![a(), pod_on("n", "o", &["a"]).phase("Failed"), pod_on("n", "p", &["a"])],
            None,
        ),
        (11, "a pod that uses another", vec![a(), pod_on("n", "p", &["b"])], free()),
        (
            12,
            "a pod of the same name elsewhere",
            vec![a(), pod_on("n", "p", &["a"]).set("metadata.namespace", "prod")],
            free(),
        ),
        (13, "it is not there", vec![], None),
        (
            26,
            "a pod that its node has let go of, and that waits for its claims",
            vec![a(), pod_on("n", "p", &["a"]).deleting().set("metadata.deletionGracePeriodSeconds", 0)],
            free(),
        ),
        (
            27,
            "a pod that its node has time for",
            vec![a(), pod_on("n", "p", &["a"]).deleting().set("metadata.deletionGracePeriodSeconds", 30)],
            None,
        ),
    ] {
        assert_eq!(decide(&view(&objects), &of_claim("a")), expected, "case {number}: {why}");
    }
}

#[test]
fn volumes() {
    let v = || volume("v").finalizer(PV_PROTECTION).deleting();
    let (a, bound_volume) = bound("a", "v");
    let going = bound_volume.finalizer(PV_PROTECTION).deleting();
    let free = || {
        let reason = Reason::VolumeUnbound;
        Some(Action::Release { object: at(of_volume("v")), finalizer: PV_PROTECTION, reason })
    };
    for (number, why, objects, expected) in [
        (14, "it stays", vec![volume("v").finalizer(PV_PROTECTION)], None),
        (15, "free", vec![v()], free()),
        (16, "bound", vec![a.clone(), going.clone()], None),
        (17, "its claim is gone, which nobody has said yet", vec![going.clone()], None),
        (18, "released", vec![going.clone().phase("Released")], free()),
        (19, "failed", vec![v().phase("Failed")], free()),
        (
            20,
            "a claim says that it has it, though the phase does not",
            vec![a, going.clone().phase("Available")],
            None,
        ),
        (21, "kept for a claim that is not there", vec![v().kept_for("a", "")], free()),
        (
            22,
            "kept for a claim that gets nothing from it any more",
            vec![claim("a"), v().kept_for("a", "")],
            free(),
        ),
        (23, "a later claim of the name", vec![claim("a").uid("later"), going.phase("Released")], free()),
    ] {
        assert_eq!(decide(&view(&objects), &of_volume("v")), expected, "case {number}: {why}");
    }
}

#[test]
fn attributes_classes() {
    let gold = || attributes_class("gold").finalizer(VAC_PROTECTION).deleting();
    let free = || {
        let (object, reason) = (at(attributes_class_key("gold")), Reason::AttributesUnused);
        Some(Action::Release { object, finalizer: VAC_PROTECTION, reason })
    };
    let (a, v) = bound("a", "v");
    let target = "status.modifyVolumeStatus.targetVolumeAttributesClassName";
    for (number, why, objects, expected) in [
        (24, "it stays", vec![attributes_class("gold").finalizer(VAC_PROTECTION)], None),
        (25, "nobody has it", vec![gold(), a.clone(), v.clone()], free()),
        (26, "it is not protected", vec![attributes_class("gold").deleting()], None),
        (
            27,
            "a claim wants it",
            vec![gold(), claim("b").set("spec.volumeAttributesClassName", "gold")],
            None,
        ),
        (
            28,
            "a claim has it still",
            vec![
                gold(),
                a.clone()
                    .set("spec.volumeAttributesClassName", "silver")
                    .set("status.currentVolumeAttributesClassName", "gold"),
            ],
            None,
        ),
        (29, "a claim is being given it", vec![gold(), a.clone().set(target, "gold")], None),
        (30, "a volume has it", vec![gold(), v.set("spec.volumeAttributesClassName", "gold")], None),
        (31, "another one is had", vec![gold(), a.set("spec.volumeAttributesClassName", "silver")], free()),
        (32, "it is not there", vec![], None),
    ] {
        assert_eq!(decide(&view(&objects), &attributes_class_key("gold")), expected, "case {number}: {why}");
    }
}
