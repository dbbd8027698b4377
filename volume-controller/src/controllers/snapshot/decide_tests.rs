//! The snapshot controller's table: what is there, which key is looked at, what follows.

use holdfast_api::{
    secret::SecretError,
    snapshot::names::{
        BEING_CREATED, BEING_DELETED, CLAIM_AS_SOURCE, CONTENT_BOUND, DEFAULT_CLASS, SECRET_NAME,
        SECRET_NAMESPACE, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND,
    },
};
use serde_json::{Value, json};

use super::{
    decide::{Action, decide},
    reason::{Reason, Sort},
    source::Unfit,
};
use crate::{
    controllers::view::{SNAPSHOTS, content_key, fixture::*},
    store::Key,
};

const CONTENT: &str = "snapcontent-uid-s";

fn of_snapshot(name: &str) -> Key {
    Key::new(SNAPSHOTS, SPACE, name)
}

/// Class, claim and volume: all that a snapshot needs.
fn ground() -> Vec<Made> {
    let (claim, volume) = bound("a", "v");
    vec![snapshot_class("quick"), claim, volume]
}

fn with(more: impl IntoIterator<Item = Made>) -> Vec<Made> {
    ground().into_iter().chain(more).collect()
}

/// A snapshot that has its content, and everything that keeps it.
fn begun() -> Made {
    snapshot("s", "a")
        .set("metadata.finalizers", json!([SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND]))
        .set("status", json!({"boundVolumeSnapshotContentName": CONTENT, "readyToUse": false}))
}

fn held() -> Made {
    content("s", "v").finalizer(CONTENT_BOUND)
}

fn fail(reason: Reason) -> Option<Action> {
    Some(Action::Fail { snapshot: at(of_snapshot("s")), reason })
}

struct Case(u32, &'static str, Vec<Made>, Option<Action>);

fn check(cases: Vec<Case>, key: &Key) {
    for Case(number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), key), expected, "case {number}: {why}");
    }
}

#[test]
fn snapshots_to_be_taken() {
    let claim = || "a".to_owned();
    let (bound_claim, bound_volume) = bound("a", "v");
    let unclassed = || snapshot("s", "a").unset("spec.volumeSnapshotClassName");
    let default = |name: &str| snapshot_class(name).note(DEFAULT_CLASS, "true");
    let of_other = |class: Made| class.set("driver", "other.example.com");
    let templates = |name: &str, namespace: &str| {
        snapshot_class("quick").set(
            "parameters",
            json!({
                "csi.storage.k8s.io/snapshotter-secret-name": name,
                "csi.storage.k8s.io/snapshotter-secret-namespace": namespace,
            }),
        )
    };
    let classify = |class: &str| {
        let reason = Reason::DefaultClass { class: class.into() };
        Some(Action::Classify { snapshot: at(of_snapshot("s")), class: class.into(), reason })
    };
    let bad = SecretError::Token {
        purpose: "snapshotter",
        template: "${volumesnapshot.name}".into(),
        token: "volumesnapshot.name".into(),
    };
    let wrong = |class: &str| Reason::WrongDriver {
        class: class.into(),
        of: "other.example.com".into(),
        driver: DRIVER.into(),
    };
    let no_claim = Reason::NoClaim { claim: claim() };
    let said = snapshot("s", "a").set("status.error.message", no_claim.message(Sort::Snapshot));
    check(
        vec![
            Case(1, "no such claim", vec![snapshot("s", "a")], fail(no_claim.clone())),
            Case(
                2,
                "no such claim, which is said already",
                vec![said],
                Some(Action::Wait { key: of_snapshot("s"), reason: no_claim }),
            ),
            Case(
                3,
                "the claim is going",
                vec![snapshot("s", "a"), bound_claim.clone().deleting(), bound_volume.clone()],
                fail(Reason::Unfit(Unfit::Going { claim: claim() })),
            ),
            Case(
                4,
                "the claim has no volume yet",
                vec![snapshot("s", "a"), super::super::view::fixture::claim("a")],
                fail(Reason::Unfit(Unfit::Unbound { claim: claim() })),
            ),
            Case(
                5,
                "the claim has lost its volume",
                vec![snapshot("s", "a"), bound_claim.clone()],
                fail(Reason::Unfit(Unfit::NoVolume { claim: claim(), volume: "v".into() })),
            ),
            Case(
                6,
                "the volume is another claim's of the name",
                vec![snapshot("s", "a"), bound_claim.clone().uid("later"), bound_volume.clone()],
                fail(Reason::Unfit(Unfit::NoVolume { claim: claim(), volume: "v".into() })),
            ),
            Case(
                7,
                "not a CSI volume",
                vec![
                    snapshot("s", "a"),
                    bound_claim.clone(),
                    bound_volume.clone().unset("spec.csi").set("spec.local.path", "/x"),
                ],
                fail(Reason::Unfit(Unfit::NotCsi { volume: "v".into() })),
            ),
            Case(
                8,
                "no such class",
                vec![snapshot("s", "a"), bound_claim.clone(), bound_volume.clone()],
                fail(Reason::NoClass { class: "quick".into() }),
            ),
            Case(
                9,
                "a class of another driver",
                vec![
                    snapshot("s", "a"),
                    bound_claim.clone(),
                    bound_volume.clone(),
                    of_other(snapshot_class("quick")),
                ],
                fail(wrong("quick")),
            ),
            Case(
                10,
                "no default class: the one there is is not marked",
                with([unclassed()]),
                fail(Reason::NoDefaultClass { driver: DRIVER.into() }),
            ),
            Case(
                11,
                "the default is another driver's",
                with([unclassed(), of_other(default("x"))]),
                fail(Reason::NoDefaultClass { driver: DRIVER.into() }),
            ),
            Case(12, "the default", with([unclassed(), default("x")]), classify("x")),
            Case(
                13,
                "the default, and that of another driver",
                with([unclassed(), default("x"), of_other(default("y"))]),
                classify("x"),
            ),
            Case(
                14,
                "two defaults",
                with([unclassed(), default("x"), default("y")]),
                fail(Reason::ManyDefaultClasses { driver: DRIVER.into(), classes: "x, y".into() }),
            ),
            Case(
                15,
                "a secret's namespace that a user could choose",
                vec![snapshot("s", "a"), bound_claim, bound_volume, templates("s", "${volumesnapshot.name}")],
                fail(Reason::BadSecret(bad)),
            ),
            Case(
                16,
                "it was bound once: never a second time",
                with([begun()]),
                fail(Reason::ContentMissing { content: CONTENT.into() }),
            ),
        ],
        &of_snapshot("s"),
    );
}

/// What is made for a snapshot of class `quick` with these parameters.
fn made(parameters: Value) -> Value {
    let mut objects = with([snapshot("s", "a")]);
    objects[0] = snapshot_class("quick").set("parameters", parameters);
    let Some(Action::Create { snapshot, claim, content, unchanged, .. }) =
        decide(&view(&objects), &of_snapshot("s"))
    else {
        panic!("nothing is made");
    };
    assert_eq!((snapshot, claim), (at(of_snapshot("s")), at(of_claim("a"))));
    let rests_on: Vec<Key> = unchanged.into_iter().map(|at| at.key).collect();
    assert_eq!(rests_on, [of_volume("v"), crate::controllers::view::snapshot_class_key("quick")]);
    serde_json::to_value(content).unwrap()
}

#[test]
fn contents_that_are_made() {
    let content = made(json!({"pool": "fast"}));
    assert_eq!(content["metadata"]["name"], CONTENT);
    assert_eq!(content["metadata"]["finalizers"], json!([CONTENT_BOUND]), "kept from its first moment");
    assert_eq!(content["metadata"]["annotations"], Value::Null);
    assert_eq!(
        content["spec"],
        json!({
            "volumeSnapshotRef": {
                "apiVersion": "snapshot.storage.k8s.io/v1", "kind": "VolumeSnapshot", "namespace": SPACE,
                "name": "s", "uid": "uid-s", "resourceVersion": REVISION.to_string(),
            },
            "deletionPolicy": "Delete", "driver": DRIVER, "volumeSnapshotClassName": "quick",
            "source": {"volumeHandle": "h-v"}, "sourceVolumeMode": "Filesystem",
        })
    );
    let content = made(json!({
        "csi.storage.k8s.io/snapshotter-secret-name": "${volumesnapshot.name}-x",
        "csi.storage.k8s.io/snapshotter-secret-namespace": "${volumesnapshot.namespace}",
    }));
    assert_eq!(content["metadata"]["annotations"], json!({ SECRET_NAME: "s-x", SECRET_NAMESPACE: SPACE }));
}

#[test]
fn snapshots_with_a_content() {
    let status = json!({
        "snapshotHandle": "x", "creationTime": 1_700_000_000_999_999_999_i64, "restoreSize": 1 << 30,
        "readyToUse": true,
    });
    let mirrored = json!({
        "boundVolumeSnapshotContentName": CONTENT, "creationTime": "2023-11-14T22:13:20Z",
        "readyToUse": true, "restoreSize": "1Gi",
    });
    let cut = |ready: bool| held().set("status", status.clone()).set("status.readyToUse", ready);
    let (created, ready) =
        (Reason::Created { snapshot: "dev/s".into() }, Reason::Ready { snapshot: "dev/s".into() });
    let failed = |message: &str| held().set("status.error", json!({"message": message}));
    let mirror = |status: Value, reasons: Vec<Reason>| {
        let status = Box::new(serde_json::from_value(status).unwrap());
        Some(Action::Mirror { snapshot: at(of_snapshot("s")), status, reasons })
    };
    let change = |path: &str, value: Value| {
        let mut changed = mirrored.clone();
        changed[path] = value;
        changed
    };
    let done = || begun().set("status", mirrored.clone());
    let protect = |finalizers: Vec<&'static str>| {
        let reason = Reason::Protecting;
        Some(Action::Protect { object: at(of_snapshot("s")), finalizers, reason })
    };
    let bare = json!({"boundVolumeSnapshotContentName": CONTENT, "readyToUse": false});
    let mut with_error = bare.clone();
    with_error["error"] = json!({"message": "no room"});
    let misbound = || fail(Reason::Misbound { content: CONTENT.into() });
    let of = |content: Made, uid: &str| content.set("spec.volumeSnapshotRef.uid", uid);
    check(
        vec![
            Case(17, "the driver has not answered", with([begun(), held()]), None),
            Case(
                18,
                "cut and ready at once",
                with([begun(), cut(true)]),
                mirror(mirrored.clone(), vec![created.clone(), ready.clone()]),
            ),
            Case(
                19,
                "cut, not ready",
                with([begun(), cut(false)]),
                mirror(change("readyToUse", json!(false)), vec![created]),
            ),
            Case(
                20,
                "ready after it was cut",
                with([begun().set("status", change("readyToUse", json!(false))), cut(true)]),
                mirror(mirrored.clone(), vec![ready]),
            ),
            Case(21, "all is told", with([done(), cut(true)]), None),
            Case(
                22,
                "the driver failed",
                with([begun(), failed("no room")]),
                mirror(with_error.clone(), vec![Reason::DriverFailed { message: "no room".into() }]),
            ),
            Case(
                23,
                "the driver failed, which is told",
                with([begun().set("status", with_error.clone()), failed("no room")]),
                None,
            ),
            Case(
                24,
                "the driver failed, and fails no more",
                with([begun().set("status", with_error), held()]),
                mirror(bare, vec![]),
            ),
            Case(
                25,
                "a size that is not known",
                with([done(), cut(true).set("status.restoreSize", 0)]),
                mirror(
                    {
                        let mut without = mirrored.clone();
                        without.as_object_mut().unwrap().remove("restoreSize");
                        without
                    },
                    vec![],
                ),
            ),
            Case(
                26,
                "a finalizer was taken off",
                with([done().finalizer(SNAPSHOT_BOUND), cut(true)]),
                protect(vec![SNAPSHOT_AS_SOURCE]),
            ),
            Case(
                27,
                "the content of an earlier snapshot of the name",
                with([begun(), of(held(), "earlier")]),
                misbound(),
            ),
            Case(
                28,
                "the content names another snapshot",
                with([begun(), held().set("spec.volumeSnapshotRef.name", "t")]),
                misbound(),
            ),
        ],
        &of_snapshot("s"),
    );
}

#[test]
fn contents_that_were_there() {
    let asked = || snapshot("s", "a").set("spec", json!({"source": {"volumeSnapshotContentName": CONTENT}}));
    let given = || {
        content("s", "v")
            .set("spec.source", json!({"snapshotHandle": "x"}))
            .set("spec.volumeSnapshotRef", json!({"namespace": SPACE, "name": "s"}))
    };
    let name = || CONTENT.to_owned();
    let misbound = || fail(Reason::Misbound { content: name() });
    check(
        vec![
            Case(29, "it is not there", vec![asked()], fail(Reason::ContentMissing { content: name() })),
            Case(
                30,
                "it was made for a snapshot of a claim",
                vec![asked(), held()],
                fail(Reason::ContentMismatch { content: name() }),
            ),
            Case(
                31,
                "it is free",
                vec![asked(), given()],
                Some(Action::Bind {
                    snapshot: at(of_snapshot("s")),
                    content: at(content_key(CONTENT)),
                    reason: Reason::Bound { snapshot: "dev/s".into(), content: name() },
                }),
            ),
            Case(
                32,
                "it is for another namespace",
                vec![asked(), given().set("spec.volumeSnapshotRef.namespace", "prod")],
                misbound(),
            ),
            Case(
                33,
                "it is bound to an earlier snapshot of the name",
                vec![asked(), given().set("spec.volumeSnapshotRef.uid", "earlier")],
                misbound(),
            ),
            Case(
                34,
                "it is free, and going",
                vec![asked(), given().finalizer(CONTENT_BOUND).deleting()],
                fail(Reason::ContentGoing { content: name() }),
            ),
            Case(
                35,
                "it is bound",
                vec![
                    asked().set("metadata.finalizers", json!([SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND])).set(
                        "status",
                        json!({"boundVolumeSnapshotContentName": CONTENT, "readyToUse": false}),
                    ),
                    given().set("spec.volumeSnapshotRef.uid", "uid-s"),
                ],
                None,
            ),
        ],
        &of_snapshot("s"),
    );
}

#[test]
fn snapshots_that_are_going() {
    let going = || begun().deleting();
    let told = || held().note(BEING_DELETED, "yes");
    let keep = |content: Made| content.set("spec.deletionPolicy", "Retain");
    let abandon = |delete: bool| {
        let snapshot = "dev/s".to_owned();
        let reason = if delete { Reason::Deleting { snapshot } } else { Reason::Keeping { snapshot } };
        Some(Action::Abandon { content: at(content_key(CONTENT)), delete, reason })
    };
    let release = |finalizers: Vec<&'static str>, reason: Reason| {
        Some(Action::Release { object: at(of_snapshot("s")), finalizers, reason })
    };
    let both = || vec![SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND];
    let waits = || Reason::WaitsForContent { content: CONTENT.into() };
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": "s"});
    let from = |name: &str| claim(name).set("spec.dataSource", source.clone());
    let restoring = |claims: &str| {
        let reason = Reason::InRestore { claims: claims.into() };
        Some(Action::Wait { key: of_snapshot("s"), reason })
    };
    check(
        vec![
            Case(36, "its content goes with it", vec![going(), held()], abandon(true)),
            Case(37, "told, but not gone", vec![going(), told()], abandon(true)),
            Case(
                38,
                "the content is going",
                vec![going(), told().deleting()],
                release(vec![SNAPSHOT_AS_SOURCE], waits()),
            ),
            Case(
                39,
                "the content is going still",
                vec![going().finalizer(SNAPSHOT_BOUND), told().deleting()],
                None,
            ),
            Case(
                110,
                "the driver does not delete it",
                vec![
                    going().finalizer(SNAPSHOT_BOUND),
                    told().deleting().set("status.error", json!({"message": "in use"})),
                ],
                Some(Action::Wait {
                    key: of_snapshot("s"),
                    reason: Reason::NotDeleted { message: "in use".into() },
                }),
            ),
            Case(40, "the content is gone", vec![going()], release(both(), Reason::Gone)),
            Case(41, "nothing of ours keeps it", vec![going().finalizer("x/y")], None),
            Case(42, "its content stays", vec![going(), keep(held())], abandon(false)),
            Case(
                43,
                "its content stays, which it is told",
                vec![going(), keep(told())],
                release(both(), Reason::Kept { content: CONTENT.into() }),
            ),
            Case(
                44,
                "the content of a later snapshot of the name is none of its business",
                vec![going(), held().set("spec.volumeSnapshotRef.uid", "later")],
                release(both(), Reason::Gone),
            ),
            Case(45, "a claim is filled from it", vec![going(), held(), from("r")], restoring("r")),
            Case(
                46,
                "a claim is filled from it, by dataSourceRef",
                vec![going(), held(), claim("r").set("spec.dataSourceRef", source.clone())],
                restoring("r"),
            ),
            Case(
                47,
                "a claim that is being deleted may still be filled",
                vec![going(), held(), from("r").finalizer("holdfast.dev/provisioning").deleting()],
                restoring("r"),
            ),
            Case(
                48,
                "a claim that came later gets nothing from it",
                vec![going(), held(), from("r").set("metadata.creationTimestamp", "2026-01-02T00:00:01Z")],
                abandon(true),
            ),
            Case(
                49,
                "a claim of the same second holds it",
                vec![going(), held(), from("r").set("metadata.creationTimestamp", "2026-01-02T00:00:00Z")],
                restoring("r"),
            ),
            Case(
                50,
                "a claim that has its volume needs it no more",
                vec![going(), held(), from("r").set("spec.volumeName", "w")],
                abandon(true),
            ),
            Case(
                51,
                "a claim of another namespace",
                vec![going(), held(), from("r").set("metadata.namespace", "prod")],
                abandon(true),
            ),
            Case(
                52,
                "a claim's source of another group",
                vec![going(), held(), from("r").set("spec.dataSource.apiGroup", "x.example.com")],
                abandon(true),
            ),
            Case(
                53,
                "never bound",
                vec![snapshot("s", "a").finalizer(SNAPSHOT_AS_SOURCE).deleting()],
                release(vec![SNAPSHOT_AS_SOURCE], Reason::Gone),
            ),
        ],
        &of_snapshot("s"),
    );
}

#[test]
fn contents() {
    let key = content_key(CONTENT);
    let nobody =
        || Some(Action::Wait { key: key.clone(), reason: Reason::NoDriver { driver: DRIVER.into() } });
    let protect = || {
        let (finalizers, reason) = (vec![CONTENT_BOUND], Reason::Protecting);
        Some(Action::Protect { object: at(key.clone()), finalizers, reason })
    };
    let retained = || {
        held()
            .set("spec.deletionPolicy", "Retain")
            .set("status.readyToUse", true)
            .note(BEING_DELETED, "yes")
            .deleting()
    };
    let settled = || {
        let (finalizers, reason) = (vec![CONTENT_BOUND], Reason::NothingToDelete { driver: DRIVER.into() });
        Some(Action::Release { object: at(key.clone()), finalizers, reason })
    };
    check(
        vec![
            Case(54, "made by hand", vec![content("s", "v"), driver(true)], protect()),
            Case(55, "kept, and the driver is known", vec![held(), driver(true)], None),
            Case(56, "kept, and a node has the driver", vec![held(), csi_node("n", &[DRIVER])], None),
            Case(57, "nobody knows the driver", vec![held(), csi_node("n", &["x"])], nobody()),
            Case(
                58,
                "nobody knows the driver, but all is done",
                vec![held().set("status.readyToUse", true)],
                None,
            ),
            Case(
                59,
                "nobody is there to delete it",
                vec![held().set("status.readyToUse", true).deleting()],
                nobody(),
            ),
            Case(
                60,
                "going, and not ours to keep any more",
                vec![content("s", "v").finalizer("x/y").deleting()],
                None,
            ),
            Case(61, "its snapshot is not there: it stays", vec![held(), driver(true)], None),
            Case(102, "to be retained, and nobody is there", vec![retained()], settled()),
            Case(103, "its own driver does it", vec![retained(), driver(true)], None),
            Case(
                104,
                "its snapshot does not let it go",
                vec![retained().set("metadata.annotations", json!({}))],
                nobody(),
            ),
            Case(105, "it may have been made", vec![retained().note(BEING_CREATED, "yes")], nobody()),
            Case(
                106,
                "it never had a snapshot",
                vec![retained().set("metadata.annotations", json!({})).unset("spec.volumeSnapshotRef.uid")],
                settled(),
            ),
        ],
        &key,
    );
}

#[test]
fn claims() {
    let (a, _) = bound("a", "v");
    let a = || a.clone().finalizer(CLAIM_AS_SOURCE);
    let free = || {
        let (object, finalizers) = (at(of_claim("a")), vec![CLAIM_AS_SOURCE]);
        Some(Action::Release { object, finalizers, reason: Reason::ClaimUnused })
    };
    check(
        vec![
            Case(62, "being cut", vec![a(), begun()], None),
            Case(63, "cut", vec![a(), begun().set("status.readyToUse", true)], free()),
            Case(64, "not begun", vec![a(), snapshot("s", "a")], free()),
            Case(65, "no snapshot", vec![a()], free()),
            Case(
                66,
                "one of two",
                vec![a(), begun().set("status.readyToUse", true), begun().set("metadata.name", "t")],
                None,
            ),
            Case(
                67,
                "a snapshot of another claim",
                vec![a(), begun().set("spec.source.persistentVolumeClaimName", "b")],
                free(),
            ),
            Case(68, "going, and being cut", vec![a(), begun().deleting()], None),
            Case(69, "not held by us", vec![claim("a").finalizer("x/y")], None),
        ],
        &of_claim("a"),
    );
}

#[test]
fn reasons_in_words() {
    let name = || "d/s".to_owned();
    let of_snapshot = [
        (
            Reason::Creating { snapshot: name() },
            Some("CreatingSnapshot"),
            false,
            "Waiting for a snapshot d/s",
        ),
        (Reason::Ready { snapshot: name() }, Some("SnapshotReady"), false, "d/s is ready to use."),
        (
            Reason::InRestore { claims: "r".into() },
            Some("SnapshotDeletePending"),
            true,
            "used to restore a PVC (r)",
        ),
        (
            Reason::InGroup { group: name() },
            Some("SnapshotDeletePending"),
            true,
            "part of group snapshot d/s",
        ),
        (Reason::NoDriver { driver: "x".into() }, Some("DriverNotFound"), true, "\"x\""),
        (Reason::Gone, None, false, "no content"),
    ];
    let of_group = [
        (
            Reason::Creating { snapshot: name() },
            Some("CreatingGroupSnapshot"),
            false,
            "Waiting for a group snapshot d/s",
        ),
        (Reason::Ready { snapshot: name() }, Some("GroupSnapshotReady"), false, "GroupSnapshot d/s is ready"),
        (
            Reason::ContentMissing { content: "c".into() },
            Some("GroupSnapshotContentMissing"),
            true,
            "VolumeGroupSnapshotContent c",
        ),
        (
            Reason::NoDefaultClass { driver: "x".into() },
            Some("SetDefaultGroupSnapshotClassFailed"),
            true,
            "groupsnapshot.storage.kubernetes.io/is-default-class",
        ),
        (Reason::NothingSelected, Some("GroupSnapshotContentCreationFailed"), true, "selects no PVC"),
    ];
    let of_snapshot = of_snapshot.map(|row| (Sort::Snapshot, row));
    for (sort, (reason, name, is_warning, words)) in
        of_snapshot.into_iter().chain(of_group.map(|row| (Sort::Group, row)))
    {
        let message = reason.message(sort);
        assert_eq!(reason.name(sort), name);
        assert_eq!(reason.is_warning(), is_warning, "{message}");
        assert!(message.contains(words), "{message}");
    }
}
