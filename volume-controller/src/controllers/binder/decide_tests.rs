//! The binder's table: what is there, which key is looked at, what follows.

use holdfast_api::names;
use serde_json::json;

use super::{
    decide::{Action, Keys, decide},
    reason::Reason,
};
use crate::{
    controllers::view::{fixture::*, is_free},
    store::Key,
};

fn bind(claim: &str, volume: &str) -> Option<Action> {
    let reason = Reason::Bound { claim: format!("{SPACE}/{claim}"), volume: volume.into() };
    Some(Action::Bind { claim: at(of_claim(claim)), volume: at(of_volume(volume)), reason })
}

fn wait(reason: Reason) -> Option<Action> {
    Some(Action::Wait { claim: of_claim("a"), reason })
}

fn phase(phase: &'static str, reason: Reason) -> Option<Action> {
    Some(Action::Phase { volume: at(of_volume("v")), phase, reason })
}

fn lose(reason: Reason) -> Option<Action> {
    Some(Action::Lose { claim: at(of_claim("a")), reason })
}

fn ask() -> Option<Action> {
    let reason = Reason::Provisioning { provisioner: DRIVER.into() };
    Some(Action::Ask { claim: at(of_claim("a")), provisioner: DRIVER.into(), reason })
}

fn misfit(why: &'static str) -> Option<Action> {
    wait(Reason::Misfit { volume: "v".into(), why })
}

fn gone() -> Reason {
    Reason::ClaimGone { claim: format!("{SPACE}/a") }
}

struct Case(u32, &'static str, Vec<Made>, Option<Action>);

fn check(cases: Vec<Case>, key: &Key) {
    for Case(number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), &Keys::new(), key), expected, "case {number}: {why}");
    }
}

#[test]
fn a_claim_finds_the_best_free_volume() {
    let a = || claim("a");
    let v = || volume("v");
    let nothing = || wait(Reason::NothingFits);
    check(
        vec![
            Case(1, "nothing is there", vec![], None),
            Case(2, "no volume", vec![a()], nothing()),
            Case(3, "one that fits exactly", vec![a(), v()], bind("a", "v")),
            Case(4, "the smallest that is large enough", vec![
                a().size("2Gi"), volume("v1").size("1Gi"), volume("v9").size("9Gi"), volume("v3").size("3Gi"),
            ], bind("a", "v3")),
            Case(5, "sizes are compared as numbers", vec![a().size("1000Mi"), v().size("999Mi")], nothing()),
            Case(6, "decimal against binary units", vec![a().size("1G"), v().size("1Gi")], bind("a", "v")),
            Case(7, "among equals the first by name", vec![a(), volume("w"), volume("v")], bind("a", "v")),
            Case(8, "a mode is missing", vec![a().modes(&["ReadWriteMany"]), v()], nothing()),
            Case(9, "a volume may offer more modes", vec![
                a(), v().modes(&["ReadWriteOnce", "ReadWriteMany"]),
            ], bind("a", "v")),
            Case(10, "but one with fewer modes too many is better", vec![
                a(), volume("u").modes(&["ReadWriteOnce", "ReadWriteMany"]), v(),
            ], bind("a", "v")),
            Case(11, "all modes asked for must be there", vec![
                a().modes(&["ReadWriteOnce", "ReadOnlyMany"]), v(),
            ], nothing()),
            Case(12, "a mode nobody knows is never satisfied by another", vec![
                a().modes(&["ReadSometimes"]), v().modes(&["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]),
            ], nothing()),
            Case(13, "block is not a file system", vec![a().set("spec.volumeMode", "Block"), v()], nothing()),
            Case(14, "nor the other way round", vec![a(), v().set("spec.volumeMode", "Block")], nothing()),
            Case(15, "no mode means a file system", vec![a().unset("spec.volumeMode"), v()], bind("a", "v")),
            Case(16, "the volume is of a class, the claim wants none", vec![a(), v().class("fast")], nothing()),
            Case(17, "the class by its old annotation", vec![
                a().note(names::CLASS_BETA, "fast"), v().class("fast"),
            ], bind("a", "v")),
            Case(18, "the same class, though its object is not there", vec![
                a().class("fast"), v().class("fast"),
            ], bind("a", "v")),
            Case(19, "labels as asked for", vec![
                a().set("spec.selector", json!({"matchLabels": {"disk": "ssd"}})),
                volume("u").label("disk", "hdd"), v().label("disk", "ssd").size("9Gi"),
            ], bind("a", "v")),
            Case(20, "labels not as asked for", vec![
                a().set("spec.selector", json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]})), v(),
            ], nothing()),
            Case(21, "the same class of attributes", vec![
                a().set("spec.volumeAttributesClassName", "gold"),
                volume("u"), v().set("spec.volumeAttributesClassName", "gold"),
            ], bind("a", "v")),
            Case(22, "another class of attributes", vec![a(), v().set("spec.volumeAttributesClassName", "gold")], nothing()),
            Case(23, "a volume that is being deleted is not given away", vec![a(), v().deleting()], nothing()),
            Case(24, "nor a released one", vec![a(), v().phase("Released")], nothing()),
            Case(25, "nor a failed one", vec![a(), v().phase("Failed")], nothing()),
            Case(26, "one that nobody has looked at yet is", vec![a(), v().unset("status.phase")], bind("a", "v")),
            Case(27, "one kept for another claim is not", vec![a(), v().kept_for("b", "")], nothing()),
            Case(28, "a claim that is being deleted gets nothing", vec![a().deleting(), v()], None),
            Case(29, "a volume whose size cannot be read is none", vec![a(), v().size("many")], nothing()),
        ],
        &of_claim("a"),
    );
}

#[test]
fn an_unreadable_selector_is_said() {
    let selector = json!({"matchExpressions": [{"key": "disk", "operator": "Near", "values": ["x"]}]});
    let view = view(&[claim("a").set("spec.selector", selector), volume("v")]);
    // 30
    assert!(matches!(
        decide(&view, &Keys::new(), &of_claim("a")),
        Some(Action::Wait { reason: Reason::BadSelector { .. }, .. })
    ));
    // 31: nor does the volume's side guess.
    assert_eq!(decide(&view, &Keys::new(), &of_volume("v")), None);
}

#[test]
fn classes() {
    let a = || claim("a").class("fast");
    let unclassed = || claim("a").unset("spec.storageClassName");
    let default = |name: &str| class(name).note(names::DEFAULT_CLASS, "true");
    let classify = |class: &str| {
        let reason = Reason::DefaultClass { class: class.into() };
        Some(Action::Classify { claim: at(of_claim("a")), class: class.into(), reason })
    };
    let asked = |claim: Made| claim.note(names::STORAGE_PROVISIONER, DRIVER);
    check(
        vec![
            Case(32, "no such class", vec![a()], wait(Reason::NoClass { class: "fast".into() })),
            Case(33, "a volume is asked for", vec![a(), class("fast")], ask()),
            Case(34, "once", vec![asked(a()), class("fast")], wait(Reason::Provisioning { provisioner: DRIVER.into() })),
            Case(35, "again when the class has another provisioner now", vec![
                a().note(names::STORAGE_PROVISIONER, "old.example.com"), class("fast"),
            ], ask()),
            Case(36, "one that is there is better than a new one", vec![
                a(), class("fast"), volume("v").class("fast"),
            ], bind("a", "v")),
            Case(37, "also while a new one is being made", vec![
                asked(a()), class("fast"), volume("v").class("fast"),
            ], bind("a", "v")),
            Case(38, "volumes of the class are made by hand", vec![
                a(), class("fast").set("provisioner", names::NO_PROVISIONER),
            ], wait(Reason::NoProvisioner { class: "fast".into() })),
            Case(39, "a claim that names no class, and no default", vec![unclassed(), class("fast")], wait(Reason::NothingFits)),
            Case(40, "which then takes a volume without class", vec![unclassed(), volume("v")], bind("a", "v")),
            Case(41, "a default that came later", vec![unclassed(), class("fast"), default("std")], classify("std")),
            Case(42, "marked in the old way", vec![
                unclassed(), class("std").note(names::DEFAULT_CLASS_BETA, "true"),
            ], classify("std")),
            Case(43, "not marked with false", vec![
                unclassed(), class("std").note(names::DEFAULT_CLASS, "false"),
            ], wait(Reason::NothingFits)),
            Case(44, "the newest of two defaults", vec![
                unclassed(), default("old"), default("new").set("metadata.creationTimestamp", "2026-03-01T00:00:00Z"),
            ], classify("new")),
            Case(45, "of the same age the first by name", vec![unclassed(), default("y"), default("x")], classify("x")),
            Case(46, "who chose no class on purpose gets none", vec![claim("a"), default("std")], wait(Reason::NothingFits)),
            Case(47, "a volume kept for the claim comes before the default", vec![
                unclassed(), default("std"), volume("v").kept_for("a", ""),
            ], bind("a", "v")),
        ],
        &of_claim("a"),
    );
}

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
            Case(49, "not even for a volume that is there", vec![a(), late(), v()], wait(Reason::WaitsForConsumer)),
            Case(50, "a pod without a node", vec![a(), late(), pod("p", &["a"])], wait(Reason::WaitsForPod { pod: "p".into() })),
            Case(51, "a node was chosen", vec![placed(), late(), n()], ask()),
            Case(52, "a volume that is on the node", vec![placed(), late(), n(), v().in_zone("x")], bind("a", "v")),
            Case(53, "a volume that is elsewhere", vec![placed(), late(), n(), v().in_zone("y")], ask()),
            Case(54, "the smallest that is on the node", vec![
                placed(), late(), n(), volume("u").class("late").in_zone("y"), v().in_zone("x").size("5Gi"),
            ], bind("a", "v")),
            Case(55, "none on the node, and none is made", vec![
                placed(), by_hand(), n(), v().in_zone("y"),
            ], wait(Reason::NoProvisioner { class: "late".into() })),
            Case(56, "the chosen node is not there", vec![
                placed(), by_hand(), v(),
            ], wait(Reason::NoProvisioner { class: "late".into() })),
            Case(57, "one made for the claim does not wait", vec![
                a(), late(), v().kept_for("a", "uid-a"),
            ], bind("a", "v")),
            Case(58, "but it must be on the chosen node", vec![
                placed(), late(), n(), v().kept_for("a", "uid-a").in_zone("y"),
            ], ask()),
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
            Case(60, "it is not there", vec![a(), volume("u")], wait(Reason::WaitsForVolume { volume: "v".into() })),
            Case(61, "it is free", vec![a(), v()], bind("a", "v")),
            Case(62, "it is larger than the best", vec![a(), v().size("9Gi"), volume("u")], bind("a", "v")),
            Case(63, "too small", vec![a().size("2Gi"), v()], misfit("requested PV is too small")),
            Case(64, "size that cannot be read", vec![a(), v().size("many")], misfit("requested PV is too small")),
            Case(65, "block", vec![a(), v().set("spec.volumeMode", "Block")], misfit("incompatible volumeMode")),
            Case(66, "class", vec![a(), v().class("fast")], misfit("storageClassName does not match")),
            Case(67, "modes", vec![a().modes(&["ReadWriteMany"]), v()], misfit("incompatible accessMode")),
            Case(68, "attributes", vec![
                a(), v().set("spec.volumeAttributesClassName", "gold"),
            ], misfit("volumeAttributesClassName does not match")),
            Case(69, "it is being deleted", vec![a(), v().deleting()], misfit("the volume is being deleted")),
            Case(70, "it is kept for this claim by name", vec![a(), v().kept_for("a", "")], bind("a", "v")),
            Case(71, "it is this claim's", vec![a(), v().kept_for("a", "uid-a")], bind("a", "v")),
            Case(72, "it is another's", vec![a(), v().kept_for("b", "uid-b")], wait(Reason::TakenVolume { volume: "v".into() })),
            Case(73, "it was an earlier claim's of this name", vec![
                a(), v().kept_for("a", "uid-before").phase("Released"),
            ], wait(Reason::TakenVolume { volume: "v".into() })),
            Case(74, "released, its reference taken off, not yet looked at", vec![
                a(), v().phase("Released"),
            ], wait(Reason::TakenVolume { volume: "v".into() })),
            Case(75, "a selector does not count against a name", vec![
                a().set("spec.selector", json!({"matchLabels": {"x": "y"}})), v(),
            ], bind("a", "v")),
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
            Case(77, "by name, though another fits better", vec![a(), v().kept_for("a", ""), volume("u")], bind("a", "v")),
            Case(78, "by UID", vec![a(), v().kept_for("a", "uid-a")], bind("a", "v")),
            Case(79, "for a claim before of the same name", vec![a(), v().kept_for("a", "uid-before")], nothing()),
            Case(80, "for a claim of that name elsewhere", vec![
                a(), v().kept_for("a", "").set("spec.claimRef.namespace", "prod"),
            ], nothing()),
            Case(81, "too small", vec![a().size("9Gi"), v().kept_for("a", "")], nothing()),
            Case(82, "of the wrong mode", vec![a(), v().kept_for("a", "").set("spec.volumeMode", "Block")], nothing()),
            Case(83, "on its way out", vec![a(), v().kept_for("a", "").deleting()], nothing()),
            Case(84, "released", vec![a(), v().kept_for("a", "").phase("Released")], nothing()),
            Case(85, "two: the smaller", vec![
                a(), v().kept_for("a", ""), volume("w").size("2Gi").kept_for("a", ""),
            ], bind("a", "w")),
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
            Case(90, "its volume is another's", vec![a.clone(), volume("v").kept_for("b", "uid-b")], lose(misbound())),
            Case(91, "its volume is an earlier claim's: this one was restored", vec![
                a.clone(), v.clone().kept_for("a", "uid-before"),
            ], lose(misbound())),
            Case(92, "the volume's side was taken off", vec![a.clone(), v.clone().unset("spec.claimRef")], bind("a", "v")),
            Case(93, "the volume's side has no UID", vec![a.clone(), v.clone().kept_for("a", "")], bind("a", "v")),
            Case(94, "the claim's phase was lost", vec![a.clone().phase("Pending"), v.clone()], bind("a", "v")),
            Case(95, "the volume's phase was lost", vec![a.clone(), v.clone().phase("Available")], bind("a", "v")),
            Case(96, "no capacity is said", vec![a.clone().unset("status.capacity"), v.clone()], bind("a", "v")),
            Case(97, "there is none to be said", vec![
                a.clone().unset("status.capacity"), v.clone().unset("spec.capacity"),
            ], None),
            Case(98, "a larger one does not tempt it", vec![a.clone(), v.clone(), volume("u")], None),
            Case(99, "being deleted it stays as it is", vec![a.deleting(), v], None),
        ],
        &of_claim("a"),
    );
}

#[test]
fn a_volume_without_a_claim() {
    let v = || volume("v");
    let waiting = |name: &str, size: &str| claim(name).size(size);
    check(
        vec![
            Case(100, "new", vec![v().unset("status.phase")], phase("Available", Reason::Free)),
            Case(101, "free", vec![v()], None),
            Case(102, "released, its reference taken off", vec![v().phase("Released")], phase("Available", Reason::Free)),
            Case(103, "failed, its reference taken off", vec![v().phase("Failed")], phase("Available", Reason::Free)),
            Case(104, "a claim waits", vec![v(), waiting("a", "1Gi")], bind("a", "v")),
            Case(105, "a claim waits that is too large", vec![v(), waiting("a", "2Gi")], None),
            Case(106, "the largest that it satisfies", vec![
                v().size("3Gi"), waiting("a", "1Gi"), waiting("b", "3Gi"), waiting("c", "4Gi"),
            ], bind("b", "v")),
            Case(107, "which gets what is best for it", vec![
                v().size("9Gi"), volume("u"), waiting("a", "1Gi"),
            ], bind("a", "u")),
            Case(108, "a claim whose selector does not match", vec![
                v(), claim("a").set("spec.selector", json!({"matchLabels": {"x": "y"}})), claim("b"),
            ], bind("b", "v")),
            Case(109, "a claim that waits for a pod", vec![
                v().class("late"), late_class("late"), claim("a").class("late"),
            ], None),
            Case(110, "a claim on another node", vec![
                v().class("late").in_zone("y"), late_class("late"), node("n").label("zone", "x"),
                claim("a").class("late").note(names::SELECTED_NODE, "n"),
            ], None),
            Case(111, "a claim on this node", vec![
                v().class("late").in_zone("x"), late_class("late"), node("n").label("zone", "x"),
                claim("a").class("late").note(names::SELECTED_NODE, "n"),
            ], bind("a", "v")),
            Case(112, "a claim that names another volume", vec![v(), claim("a").set("spec.volumeName", "u")], None),
            Case(113, "a claim for which another is kept gets that", vec![
                v(), claim("a"), volume("u").size("9Gi").kept_for("a", ""),
            ], bind("a", "u")),
            Case(114, "a claim of another mode", vec![v(), claim("a").set("spec.volumeMode", "Block")], None),
            Case(115, "a claim for more modes", vec![v(), claim("a").modes(&["ReadWriteMany"])], None),
            Case(116, "a claim that is to get a default class first", vec![
                v(), claim("a").unset("spec.storageClassName"), class("std").note(names::DEFAULT_CLASS, "true"),
            ], None),
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
            Case(122, "kept for a claim that is not there yet", vec![kept("").phase("Pending")], phase("Available", Reason::Free)),
            Case(123, "kept for a claim that waits", vec![kept("").phase("Pending"), claim("a")], phase("Available", Reason::Free)),
            Case(124, "made for a claim that waits", vec![kept("uid-a").phase("Pending"), claim("a")], None),
            Case(125, "the claim names it and is not bound yet", vec![
                kept("uid-a"), claim("a").set("spec.volumeName", "v"),
            ], None),
            Case(126, "the claim is gone", vec![v.clone()], phase("Released", gone())),
            Case(127, "the claim was made again", vec![v.clone(), claim("a").uid("uid-later")], phase("Released", gone())),
            Case(128, "made for a claim that went before", vec![kept("uid-a").phase("Pending")], phase("Released", gone())),
            Case(129, "retained", vec![v.clone().phase("Released")], None),
            Case(130, "of a provisioner that deletes it", vec![
                v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Delete"),
            ], None),
            Case(131, "nobody can delete it", vec![
                v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Delete").unset("spec.csi"),
            ], phase("Failed", Reason::NoDeleter)),
            Case(132, "not CSI, but of some provisioner", vec![
                v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Delete").unset("spec.csi")
                    .note(names::PROVISIONED_BY, "nfs.example.com"),
            ], None),
            Case(133, "nobody recycles", vec![
                v.clone().phase("Released").set("spec.persistentVolumeReclaimPolicy", "Recycle"),
            ], phase("Failed", Reason::NoRecycler)),
            Case(134, "failed stays failed", vec![
                v.clone().phase("Failed").set("spec.persistentVolumeReclaimPolicy", "Recycle"),
            ], None),
            Case(135, "its UID taken off, it is kept for the next of the name", vec![
                v.clone().kept_for("a", "").phase("Released"),
            ], phase("Available", Reason::Free)),
            Case(136, "made for a claim that took another", vec![
                kept("uid-a").note(names::PROVISIONED_BY, DRIVER), elsewhere(),
            ], phase("Released", not_needed())),
            Case(137, "kept by the binder for a claim that took another", vec![
                kept("uid-a").note(names::BOUND_BY_CONTROLLER, "yes"), elsewhere(),
            ], free()),
            Case(138, "kept by a person for a claim that took another", vec![kept("").phase("Pending"), elsewhere()],
                phase("Available", Reason::Free)),
            Case(139, "the same with a UID: only a person takes that back", vec![kept("uid-a"), elsewhere()], None),
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
        (140, "the best is about to go: the next", vec![claim("a"), volume("u"), volume("v")], vec![u.clone()], a.clone(), bind("a", "v")),
        (141, "all are about to go: in a moment", vec![claim("a"), volume("u")], vec![u.clone()], a.clone(), contested(a.clone())),
        (142, "nothing is asked for meanwhile", vec![claim("a").class("fast"), class("fast"), volume("u").class("fast")],
            vec![u.clone()], a.clone(), contested(a.clone())),
        (143, "the volume itself is about to go", vec![claim("a"), volume("u")], vec![u.clone()], u.clone(), contested(u)),
        (144, "the claim is about to get another", vec![claim("a"), volume("v")], vec![a.clone()], v.clone(), contested(v.clone())),
        (145, "the next claim", vec![claim("a"), claim("b"), volume("v")], vec![of_claim("b")], v, bind("a", "v")),
    ] {
        assert_eq!(decide(&view(&objects), &underway(&busy), &key), expected, "case {number}: {why}");
    }
}

#[test]
fn reasons_in_words() {
    for (reason, name, is_warning, words) in [
        (Reason::WaitsForConsumer, "WaitForFirstConsumer", false, "waiting for first consumer to be created before binding"),
        (Reason::WaitsForPod { pod: "p".into() }, "WaitForPodScheduled", false, "waiting for pod p to be scheduled"),
        (Reason::NothingFits, "FailedBinding", false,
            "no persistent volumes available for this claim and no storage class is set"),
        (Reason::NoClass { class: "x".into() }, "ProvisioningFailed", true, "storageclass.storage.k8s.io \"x\" not found"),
        (Reason::TakenVolume { volume: "v".into() }, "FailedBinding", true,
            "volume \"v\" already bound to a different claim."),
        (Reason::VolumeGone { volume: "v".into() }, "ClaimLost", true,
            "Bound claim has lost its PersistentVolume v. Data on the volume is lost!"),
        (Reason::Misfit { volume: "v".into(), why: "incompatible accessMode" }, "VolumeMismatch", true,
            "Cannot bind to requested volume \"v\": incompatible accessMode"),
    ] {
        assert_eq!((reason.name(), reason.is_warning(), reason.to_string().as_str()), (name, is_warning, words));
    }
}

#[test]
fn free_is_what_may_be_given_away() {
    let view = view(&[volume("v"), volume("w").deleting(), volume("x").kept_for("a", "")]);
    let free: Vec<_> = view.volumes.iter().filter(|volume| is_free(volume)).map(|v| v.key.name.to_string()).collect();
    assert_eq!(free, ["v"]);
}
