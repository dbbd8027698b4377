//! What a claim without a volume gets.

use holdfast_api::names;
use serde_json::json;

use super::*;

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
            Case(
                4,
                "the smallest that is large enough",
                vec![
                    a().size("2Gi"),
                    volume("v1").size("1Gi"),
                    volume("v9").size("9Gi"),
                    volume("v3").size("3Gi"),
                ],
                bind("a", "v3"),
            ),
            Case(5, "sizes are compared as numbers", vec![a().size("1000Mi"), v().size("999Mi")], nothing()),
            Case(6, "decimal against binary units", vec![a().size("1G"), v().size("1Gi")], bind("a", "v")),
            Case(7, "among equals the first by name", vec![a(), volume("w"), volume("v")], bind("a", "v")),
            Case(8, "a mode is missing", vec![a().modes(&["ReadWriteMany"]), v()], nothing()),
            Case(
                9,
                "a volume may offer more modes",
                vec![a(), v().modes(&["ReadWriteOnce", "ReadWriteMany"])],
                bind("a", "v"),
            ),
            Case(
                10,
                "but one with fewer modes too many is better",
                vec![a(), volume("u").modes(&["ReadWriteOnce", "ReadWriteMany"]), v()],
                bind("a", "v"),
            ),
            Case(
                11,
                "all modes asked for must be there",
                vec![a().modes(&["ReadWriteOnce", "ReadOnlyMany"]), v()],
                nothing(),
            ),
            Case(
                12,
                "a mode nobody knows is never satisfied by another",
                vec![
                    a().modes(&["ReadSometimes"]),
                    v().modes(&["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"]),
                ],
                nothing(),
            ),
            Case(13, "block is not a file system", vec![a().set("spec.volumeMode", "Block"), v()], nothing()),
            Case(14, "nor the other way round", vec![a(), v().set("spec.volumeMode", "Block")], nothing()),
            Case(15, "no mode means a file system", vec![a().unset("spec.volumeMode"), v()], bind("a", "v")),
            Case(
                16,
                "the volume is of a class, the claim wants none",
                vec![a(), v().class("fast")],
                nothing(),
            ),
            Case(
                17,
                "the class by its old annotation",
                vec![a().note(names::CLASS_BETA, "fast"), v().class("fast")],
                bind("a", "v"),
            ),
            Case(
                18,
                "the same class, though its object is not there",
                vec![a().class("fast"), v().class("fast")],
                bind("a", "v"),
            ),
            Case(
                19,
                "labels as asked for",
                vec![
                    a().set("spec.selector", json!({"matchLabels": {"disk": "ssd"}})),
                    volume("u").label("disk", "hdd"),
                    v().label("disk", "ssd").size("9Gi"),
                ],
                bind("a", "v"),
            ),
            Case(
                20,
                "labels not as asked for",
                vec![
                    a().set(
                        "spec.selector",
                        json!({"matchExpressions": [{"key": "disk", "operator": "Exists"}]}),
                    ),
                    v(),
                ],
                nothing(),
            ),
            Case(
                21,
                "the same class of attributes",
                vec![
                    a().set("spec.volumeAttributesClassName", "gold"),
                    volume("u"),
                    v().set("spec.volumeAttributesClassName", "gold"),
                ],
                bind("a", "v"),
            ),
            Case(
                22,
                "another class of attributes",
                vec![a(), v().set("spec.volumeAttributesClassName", "gold")],
                nothing(),
            ),
            Case(
                23,
                "a volume that is being deleted is not given away",
                vec![a(), v().deleting()],
                nothing(),
            ),
            Case(24, "nor a released one", vec![a(), v().phase("Released")], nothing()),
            Case(25, "nor a failed one", vec![a(), v().phase("Failed")], nothing()),
            Case(
                26,
                "one that nobody has looked at yet is",
                vec![a(), v().unset("status.phase")],
                bind("a", "v"),
            ),
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
            Case(
                34,
                "once",
                vec![asked(a()), class("fast")],
                wait(Reason::Provisioning { provisioner: DRIVER.into() }),
            ),
            Case(
                35,
                "again when the class has another provisioner now",
                vec![a().note(names::STORAGE_PROVISIONER, "old.example.com"), class("fast")],
                ask(),
            ),
            Case(
                36,
                "one that is there is better than a new one",
                vec![a(), class("fast"), volume("v").class("fast")],
                bind("a", "v"),
            ),
            Case(
                37,
                "also while a new one is being made",
                vec![asked(a()), class("fast"), volume("v").class("fast")],
                bind("a", "v"),
            ),
            Case(
                38,
                "volumes of the class are made by hand",
                vec![a(), class("fast").set("provisioner", names::NO_PROVISIONER)],
                wait(Reason::NoProvisioner { class: "fast".into() }),
            ),
            Case(
                39,
                "a claim that names no class, and no default",
                vec![unclassed(), class("fast")],
                wait(Reason::NothingFits),
            ),
            Case(
                40,
                "which then takes a volume without class",
                vec![unclassed(), volume("v")],
                bind("a", "v"),
            ),
            Case(
                41,
                "a default that came later",
                vec![unclassed(), class("fast"), default("std")],
                classify("std"),
            ),
            Case(
                42,
                "marked in the old way",
                vec![unclassed(), class("std").note(names::DEFAULT_CLASS_BETA, "true")],
                classify("std"),
            ),
            Case(
                43,
                "not marked with false",
                vec![unclassed(), class("std").note(names::DEFAULT_CLASS, "false")],
                wait(Reason::NothingFits),
            ),
            Case(
                44,
                "the newest of two defaults",
                vec![
                    unclassed(),
                    default("old"),
                    default("new").set("metadata.creationTimestamp", "2026-03-01T00:00:00Z"),
                ],
                classify("new"),
            ),
            Case(
                45,
                "of the same age the first by name",
                vec![unclassed(), default("y"), default("x")],
                classify("x"),
            ),
            Case(
                46,
                "who chose no class on purpose gets none",
                vec![claim("a"), default("std")],
                wait(Reason::NothingFits),
            ),
            Case(
                47,
                "a volume kept for the claim comes before the default",
                vec![unclassed(), default("std"), volume("v").kept_for("a", "")],
                bind("a", "v"),
            ),
        ],
        &of_claim("a"),
    );
}
