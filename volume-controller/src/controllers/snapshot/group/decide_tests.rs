//! The table of group snapshots: what is there, which key is looked at, what follows.

use holdfast_api::{
    secret::SecretError,
    snapshot::{
        group::VolumeGroupSnapshotStatus,
        member_names,
        names::{
            CLAIM_AS_SOURCE, CONTENT_BOUND, DEFAULT_GROUP_CLASS, GROUP_BEING_CREATED, GROUP_BEING_DELETED,
            GROUP_BOUND, GROUP_CONTENT_BOUND, GROUP_HANDLE, GROUP_SECRET_NAME, GROUP_SECRET_NAMESPACE,
            SECRET_NAME, SECRET_NAMESPACE, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP,
        },
    },
};
use serde_json::{Value, json};

use super::{
    super::{
        decide as snapshots,
        reason::{Reason, Sort},
        source::Unfit,
    },
    decide::{Action, decide},
};
use crate::{
    controllers::view::{GROUP_CLASSES, GROUPS, SNAPSHOTS, content_key, fixture::*, group_content_key},
    store::Key,
};

const CONTENT: &str = "groupsnapcontent-uid-g";

fn of_group() -> Key {
    Key::new(GROUPS, SPACE, "g")
}

/// A bound claim with the label, and its volume.
fn labelled(name: &str, volume_name: &str) -> [Made; 2] {
    let (claim, volume) = bound(name, volume_name);
    [claim.label("app", "db"), volume]
}

/// The class and two claims with volumes: all that a group needs.
fn ground() -> Vec<Made> {
    [group_class("quick")].into_iter().chain(labelled("a", "v")).chain(labelled("b", "w")).collect()
}

fn with(more: impl IntoIterator<Item = Made>) -> Vec<Made> {
    ground().into_iter().chain(more).collect()
}

/// A group snapshot that has its content, and what keeps it.
fn begun() -> Made {
    let status = json!({"boundVolumeGroupSnapshotContentName": CONTENT, "readyToUse": false});
    group("g").finalizer(GROUP_BOUND).set("status", status)
}

fn held() -> Made {
    group_content("g", &["v", "w"]).finalizer(GROUP_CONTENT_BOUND)
}

fn info(volume: &str, is_ready: bool) -> Value {
    json!({
        "volumeHandle": format!("h-{volume}"), "snapshotHandle": format!("x-{volume}"), "readyToUse": is_ready,
        "creationTime": 1_700_000_000_000_000_005_i64, "restoreSize": 1 << 30,
    })
}

/// The content when the driver has answered.
fn cut(is_ready: bool) -> Made {
    held().set(
        "status",
        json!({
            "volumeGroupSnapshotHandle": "gx", "creationTime": "2023-11-14T22:13:20Z", "readyToUse": is_ready,
            "volumeSnapshotInfoList": [info("v", true), info("w", is_ready)],
        }),
    )
}

fn status(is_ready: bool) -> Value {
    json!({
        "boundVolumeGroupSnapshotContentName": CONTENT, "creationTime": "2023-11-14T22:13:20Z",
        "readyToUse": is_ready,
    })
}

/// A group's snapshot of a volume and its content, as they are saved when the group is cut.
fn member(claim: &str, volume: &str, is_ready: bool) -> [Made; 2] {
    let [name, content_name] = member_names("uid-g", &format!("h-{volume}"));
    let owner = json!({
        "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot", "name": "g", "uid": "uid-g",
    });
    let snapshot = snapshot(&name, claim)
        .unset("spec.volumeSnapshotClassName")
        .uid(&format!("uid-{volume}"))
        .set("metadata.ownerReferences", json!([owner]))
        .set("metadata.finalizers", json!([SNAPSHOT_IN_GROUP, SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND]))
        .set(
            "status",
            json!({
                "boundVolumeSnapshotContentName": content_name, "creationTime": "2023-11-14T22:13:20Z",
                "readyToUse": is_ready, "restoreSize": "1Gi", "volumeGroupSnapshotName": "g",
            }),
        );
    let content = content(&name, volume)
        .set("metadata.name", content_name)
        .note(GROUP_HANDLE, "gx")
        .finalizer(CONTENT_BOUND)
        .unset("spec.volumeSnapshotClassName")
        .set("spec.volumeSnapshotRef.uid", format!("uid-{volume}"))
        .set(
            "status",
            json!({
                "snapshotHandle": format!("x-{volume}"), "creationTime": 1_700_000_000_000_000_005_i64,
                "restoreSize": 1 << 30, "readyToUse": is_ready, "volumeGroupSnapshotHandle": "gx",
            }),
        );
    [snapshot, content]
}

fn members(is_ready: bool) -> Vec<Made> {
    member("a", "v", is_ready).into_iter().chain(member("b", "w", is_ready)).collect()
}

fn of_member(volume: &str) -> Key {
    let [name, _] = member_names("uid-g", &format!("h-{volume}"));
    Key::new(SNAPSHOTS, SPACE, &name)
}

/// Everything of a group that is cut.
fn done() -> Vec<Made> {
    with(members(true).into_iter().chain([begun().set("status", status(true)), cut(true)]))
}

fn fail(reason: Reason) -> Option<Action> {
    Some(Action::Fail { group: at(of_group()), reason })
}

struct Case(u32, &'static str, Vec<Made>, Option<Action>);

fn check(cases: Vec<Case>, key: &Key) {
    for Case(number, why, objects, expected) in cases {
        assert_eq!(decide(&view(&objects), key), expected, "case {number}: {why}");
    }
}

#[test]
fn groups_to_be_taken() {
    let unclassed = || group("g").unset("spec.volumeGroupSnapshotClassName");
    let default = |name: &str| group_class(name).note(DEFAULT_GROUP_CLASS, "true");
    let of_other = |made: Made| made.set("driver", "other.example.com");
    let [other_claim, other_volume] = labelled("c", "x");
    let other_volume = other_volume.set("spec.csi.driver", "other.example.com");
    let several = "d.example.com: a, b; other.example.com: c".to_owned();
    let templates = json!({
        "csi.storage.k8s.io/group-snapshotter-secret-name": "s",
        "csi.storage.k8s.io/group-snapshotter-secret-namespace": "${volumegroupsnapshot.name}",
    });
    let bad = SecretError::Token {
        purpose: "group-snapshotter",
        template: "${volumegroupsnapshot.name}".into(),
        token: "volumegroupsnapshot.name".into(),
    };
    let nothing = group("g").set("status.error.message", Reason::NothingSelected.message(Sort::Group));
    let (unlabelled, its_volume) = bound("a", "v");
    let unbound = claim("c").label("app", "db");
    let classify = Action::Classify {
        group: at(of_group()),
        class: "x".into(),
        reason: Reason::DefaultClass { class: "x".into() },
    };
    check(
        vec![
            Case(1, "no claim at all", vec![group("g"), group_class("quick")], fail(Reason::NothingSelected)),
            Case(
                2,
                "no claim with the label",
                vec![group("g"), group_class("quick"), unlabelled, its_volume],
                fail(Reason::NothingSelected),
            ),
            Case(
                3,
                "nothing is selected, which is said already",
                vec![nothing],
                Some(Action::Wait { key: of_group(), reason: Reason::NothingSelected }),
            ),
            Case(
                4,
                "one of three is not bound",
                with([group("g"), unbound.clone()]),
                fail(Reason::Unfit(Unfit::Unbound { claim: "c".into() })),
            ),
            Case(
                5,
                "one of three is going",
                with([group("g"), other_claim.clone().deleting(), other_volume.clone()]),
                fail(Reason::Unfit(Unfit::Going { claim: "c".into() })),
            ),
            Case(
                6,
                "one of three has lost its volume",
                with([group("g"), other_claim.clone()]),
                fail(Reason::Unfit(Unfit::NoVolume { claim: "c".into(), volume: "x".into() })),
            ),
            Case(
                7,
                "one of three is not of CSI",
                with([
                    group("g"),
                    other_claim.clone(),
                    other_volume.clone().unset("spec.csi").set("spec.local.path", "/x"),
                ]),
                fail(Reason::Unfit(Unfit::NotCsi { volume: "x".into() })),
            ),
            Case(
                8,
                "one of three is of another driver",
                with([group("g"), other_claim, other_volume]),
                fail(Reason::SeveralDrivers { drivers: several }),
            ),
            Case(
                9,
                "no such class",
                labelled("a", "v").into_iter().chain([group("g")]).collect(),
                fail(Reason::NoClass { class: "quick".into() }),
            ),
            Case(
                10,
                "a class of another driver",
                labelled("a", "v").into_iter().chain([group("g"), of_other(group_class("quick"))]).collect(),
                fail(Reason::WrongDriver {
                    class: "quick".into(),
                    of: "other.example.com".into(),
                    driver: DRIVER.into(),
                }),
            ),
            Case(
                11,
                "no default class",
                with([unclassed(), of_other(default("y"))]),
                fail(Reason::NoDefaultClass { driver: DRIVER.into() }),
            ),
            Case(12, "the default class", with([unclassed(), default("x")]), Some(classify)),
            Case(
                13,
                "two default classes",
                with([unclassed(), default("x"), default("y")]),
                fail(Reason::ManyDefaultClasses { driver: DRIVER.into(), classes: "x, y".into() }),
            ),
            Case(
                14,
                "a secret's namespace that a user could choose",
                labelled("a", "v")
                    .into_iter()
                    .chain([group("g"), group_class("quick").set("parameters", templates)])
                    .collect(),
                fail(Reason::BadSecret(bad)),
            ),
            Case(
                15,
                "it was bound once: never a second time",
                with([begun()]),
                fail(Reason::ContentMissing { content: CONTENT.into() }),
            ),
        ],
        &of_group(),
    );
    let bad = group("g").set(
        "spec.source.selector",
        json!({"matchExpressions": [{"key": "app", "operator": "Like", "values": ["d"]}]}),
    );
    assert!(matches!(
        decide(&view(&with([bad])), &of_group()),
        Some(Action::Fail { reason: Reason::BadSelector(_), .. })
    ));
}

#[test]
fn contents_that_are_made() {
    let selector = json!({"matchExpressions": [{"key": "app", "operator": "In", "values": ["db", "web"]}]});
    let parameters = json!({
        "csi.storage.k8s.io/group-snapshotter-secret-name": "${volumegroupsnapshot.name}-x",
        "csi.storage.k8s.io/group-snapshotter-secret-namespace": "${volumegroupsnapshot.namespace}",
    });
    let mut objects = with([group("g").set("spec.source.selector", selector)]);
    objects[0] = group_class("quick").set("parameters", parameters);
    let Some(Action::Create { group, claims, content, unchanged, .. }) = decide(&view(&objects), &of_group())
    else {
        panic!("nothing is made");
    };
    assert_eq!((group, claims), (at(of_group()), vec![at(of_claim("a")), at(of_claim("b"))]));
    let rests_on: Vec<Key> = unchanged.into_iter().map(|at| at.key).collect();
    assert_eq!(rests_on, [of_volume("v"), of_volume("w"), Key::new(GROUP_CLASSES, "", "quick")]);
    let content = serde_json::to_value(content).unwrap();
    assert_eq!(content["metadata"]["name"], CONTENT);
    assert_eq!(content["metadata"]["finalizers"], json!([GROUP_CONTENT_BOUND]), "kept from its first moment");
    assert_eq!(
        content["metadata"]["annotations"],
        json!({ GROUP_SECRET_NAME: "g-x", GROUP_SECRET_NAMESPACE: SPACE })
    );
    assert_eq!(
        content["spec"],
        json!({
            "volumeGroupSnapshotRef": {
                "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot",
                "namespace": SPACE, "name": "g", "uid": "uid-g", "resourceVersion": REVISION.to_string(),
            },
            "deletionPolicy": "Delete", "driver": DRIVER, "volumeGroupSnapshotClassName": "quick",
            "source": {"volumeHandles": ["h-v", "h-w"]},
        })
    );
}

#[test]
fn groups_with_a_content() {
    let typed = |value: Value| -> Box<VolumeGroupSnapshotStatus> { serde_json::from_value(value).unwrap() };
    let (created, ready) =
        (Reason::Created { snapshot: "dev/g".into() }, Reason::Ready { snapshot: "dev/g".into() });
    let mirror = |status: Value, reasons: Vec<Reason>| {
        Some(Action::Mirror { group: at(of_group()), status: typed(status), members: vec![], reasons })
    };
    let bare = json!({"boundVolumeGroupSnapshotContentName": CONTENT, "readyToUse": false});
    let mut failed = bare.clone();
    failed["error"] = json!({"message": "no room"});
    let no_room = Reason::DriverFailed { message: "no room".into() };
    let [taken, _] = member("a", "v", true);
    let taken_name = of_member("v").name.to_string();
    check(
        vec![
            Case(17, "the driver has not answered", with([begun(), held()]), None),
            Case(
                18,
                "the driver failed",
                with([begun(), held().set("status.error", json!({"message": "no room"}))]),
                mirror(failed.clone(), vec![no_room]),
            ),
            Case(
                19,
                "the driver failed, which is told",
                with([
                    begun().set("status", failed.clone()),
                    held().set("status.error", json!({"message": "no room"})),
                ]),
                None,
            ),
            Case(
                20,
                "an id and no snapshots: nothing that could be shown",
                with([begun(), cut(true).set("status.volumeSnapshotInfoList", json!([]))]),
                None,
            ),
            Case(
                21,
                "a snapshot of the name is there",
                with([begun(), cut(true), taken.set("status", json!({}))]),
                fail(Reason::Taken { object: format!("VolumeSnapshot {taken_name}") }),
            ),
            Case(22, "all is told", done(), None),
            Case(
                23,
                "a snapshot was forced away: never made a second time",
                done().into_iter().filter(|made| made.key() != of_member("v")).collect(),
                None,
            ),
            Case(
                24,
                "its finalizer was taken off",
                with([begun().unset("metadata.finalizers"), held()]),
                Some(Action::Protect {
                    object: at(of_group()),
                    finalizers: vec![GROUP_BOUND],
                    reason: Reason::Protecting,
                }),
            ),
            Case(
                25,
                "the content of an earlier group of the name",
                with([begun(), held().set("spec.volumeGroupSnapshotRef.uid", "earlier")]),
                fail(Reason::Misbound { content: CONTENT.into() }),
            ),
        ],
        &of_group(),
    );
    for (is_ready, reasons) in [(true, vec![created.clone(), ready.clone()]), (false, vec![created])] {
        let objects = with([begun(), cut(is_ready)]);
        let Some(Action::Complete { group, status: told, members, unchanged, reasons: said }) =
            decide(&view(&objects), &of_group())
        else {
            panic!("nothing is made");
        };
        assert_eq!((group, told, said), (at(of_group()), typed(status(is_ready)), reasons));
        assert_eq!(unchanged, [at(group_content_key(CONTENT))]);
        assert_eq!(members.len(), 2);
        for (made, [snapshot, content]) in
            members.iter().zip([member("a", "v", is_ready), member("b", "w", is_ready)])
        {
            let (made_snapshot, made_content) =
                (serde_json::to_value(&made.snapshot).unwrap(), serde_json::to_value(&made.content).unwrap());
            for (made, expected) in [(&made_snapshot, &snapshot.0), (&made_content, &content.0)] {
                for path in ["name", "finalizers", "ownerReferences"] {
                    assert_eq!(made["metadata"][path], expected["metadata"][path], "{path}");
                }
                assert_eq!(made["status"], expected["status"]);
            }
            assert_eq!(made_content["metadata"]["annotations"], content.0["metadata"]["annotations"]);
            assert_eq!(made_snapshot["spec"], snapshot.0["spec"]);
            assert_eq!(made_content["spec"]["source"], content.0["spec"]["source"]);
            assert_eq!(made_content["spec"]["sourceVolumeMode"], "Filesystem");
            assert_eq!(
                made_content["spec"]["volumeSnapshotRef"]["uid"],
                Value::Null,
                "known when it is saved"
            );
        }
    }
    // What is ready later is ready at once with all of it.
    let slow = members(false).into_iter().chain([begun().set("status", status(false)), cut(true)]);
    let Some(Action::Mirror { status: told, members, reasons, .. }) = decide(&view(&with(slow)), &of_group())
    else {
        panic!("nothing is told");
    };
    assert_eq!((told, reasons), (typed(status(true)), vec![ready]));
    for (change, volume) in members.iter().zip(["v", "w"]) {
        assert_eq!(change.snapshot, at(of_member(volume)));
        assert_eq!(
            (change.status.ready_to_use, change.content_status.ready_to_use),
            (Some(true), Some(true))
        );
        assert_eq!(change.status.volume_group_snapshot_name.as_deref(), Some("g"));
    }
    assert_eq!(members.len(), 2);
}

#[test]
fn secrets_go_along_with_the_snapshots() {
    let content = cut(true).note(GROUP_SECRET_NAME, "key").note(GROUP_SECRET_NAMESPACE, "sys");
    let Some(Action::Complete { members, .. }) = decide(&view(&with([begun(), content])), &of_group()) else {
        panic!("nothing is made");
    };
    let annotations = members[0].content.metadata.annotations.clone().unwrap();
    assert_eq!((&*annotations[SECRET_NAME], &*annotations[SECRET_NAMESPACE]), ("key", "sys"));
}

#[test]
fn contents_that_were_there() {
    let asked = || group("g").set("spec", json!({"source": {"volumeGroupSnapshotContentName": CONTENT}}));
    let handles = json!({"volumeGroupSnapshotHandle": "gx", "volumeSnapshotHandles": ["x-v"]});
    let given = || {
        held()
            .set("spec.source", json!({"groupSnapshotHandles": handles}))
            .set("spec.volumeGroupSnapshotRef", json!({"namespace": SPACE, "name": "g"}))
    };
    let name = || CONTENT.to_owned();
    let reference =
        |field: &str, value: &str| given().set(&format!("spec.volumeGroupSnapshotRef.{field}"), value);
    let bound = || reference("uid", "uid-g");
    let asked_and_bound = || {
        let status = json!({"boundVolumeGroupSnapshotContentName": CONTENT, "readyToUse": false});
        asked().finalizer(GROUP_BOUND).set("status", status)
    };
    let told = bound().set("status", cut(true).0["status"].clone());
    let (created, ready) =
        (Reason::Created { snapshot: "dev/g".into() }, Reason::Ready { snapshot: "dev/g".into() });
    check(
        vec![
            Case(26, "it is not there", vec![asked()], fail(Reason::ContentMissing { content: name() })),
            Case(
                27,
                "it was made for a group of claims",
                vec![asked(), held()],
                fail(Reason::ContentMismatch { content: name() }),
            ),
            Case(
                28,
                "it is free",
                vec![asked(), given()],
                Some(Action::Bind {
                    group: at(of_group()),
                    content: at(group_content_key(CONTENT)),
                    reason: Reason::Bound { snapshot: "dev/g".into(), content: name() },
                }),
            ),
            Case(
                29,
                "it is for another namespace",
                vec![asked(), reference("namespace", "prod")],
                fail(Reason::Misbound { content: name() }),
            ),
            Case(
                30,
                "it is bound to an earlier group of the name",
                vec![asked(), reference("uid", "earlier")],
                fail(Reason::Misbound { content: name() }),
            ),
            Case(
                31,
                "it is free, and going",
                vec![asked(), given().deleting()],
                fail(Reason::ContentGoing { content: name() }),
            ),
            Case(32, "it is bound", vec![asked_and_bound(), bound()], None),
            Case(
                33,
                "the driver has it: no snapshots are made for it",
                vec![asked_and_bound(), told],
                Some(Action::Mirror {
                    group: at(of_group()),
                    status: serde_json::from_value(status(true)).unwrap(),
                    members: vec![],
                    reasons: vec![created, ready],
                }),
            ),
        ],
        &of_group(),
    );
}

#[test]
fn groups_that_are_going() {
    let going = || begun().set("status", status(true)).deleting();
    let told = || cut(true).note(GROUP_BEING_DELETED, "yes");
    let keep = |content: Made| content.set("spec.deletionPolicy", "Retain");
    let dying = || {
        members(true)
            .into_iter()
            .map(|made| if made.0["kind"] == "VolumeSnapshot" { made.deleting() } else { made })
    };
    let content = || Some(at(group_content_key(CONTENT)));
    let abandon = |content, members: &[&str], delete: bool| {
        let snapshot = "dev/g".to_owned();
        let reason = if delete { Reason::Deleting { snapshot } } else { Reason::Keeping { snapshot } };
        let mut members: Vec<_> = members.iter().map(|volume| at(of_member(volume))).collect();
        members.sort_by(|one, other| one.key.cmp(&other.key));
        Some(Action::Abandon { content, members, delete, about: of_group(), reason })
    };
    let release = |reason: Reason| {
        Some(Action::Release { object: at(of_group()), finalizers: vec![GROUP_BOUND], reason })
    };
    let source = json!({"apiGroup": "snapshot.storage.k8s.io", "kind": "VolumeSnapshot", "name": &*of_member("w").name});
    let from = |name: &str| claim(name).set("spec.dataSource", source.clone());
    let all = |more: Vec<Made>| with(members(true).into_iter().chain(more));
    let rest = |more: Vec<Made>| with(dying().chain(more));
    let earlier = |made: Made| {
        let owner = json!({
            "apiVersion": "groupsnapshot.storage.k8s.io/v1", "kind": "VolumeGroupSnapshot", "name": "g",
            "uid": "earlier",
        });
        if made.0["kind"] == "VolumeSnapshot" {
            made.set("metadata.ownerReferences", json!([owner]))
        } else {
            made
        }
    };
    check(
        vec![
            Case(
                34,
                "all of it goes with it",
                all(vec![going(), cut(true)]),
                abandon(content(), &["v", "w"], true),
            ),
            Case(
                35,
                "the content is told, the snapshots are not",
                all(vec![going(), told().deleting()]),
                abandon(None, &["v", "w"], true),
            ),
            Case(36, "told, but not gone", rest(vec![going(), told()]), abandon(content(), &[], true)),
            Case(37, "the driver has not deleted it yet", rest(vec![going(), told().deleting()]), None),
            Case(
                55,
                "the driver does not delete it",
                rest(vec![going(), told().deleting().set("status.error", json!({"message": "in use"}))]),
                Some(Action::Wait {
                    key: of_group(),
                    reason: Reason::NotDeleted { message: "in use".into() },
                }),
            ),
            Case(38, "the content is gone", rest(vec![going()]), release(Reason::Gone)),
            Case(
                39,
                "its content stays",
                all(vec![going(), keep(cut(true))]),
                abandon(content(), &["v", "w"], false),
            ),
            Case(
                40,
                "its content stays, which it is told",
                rest(vec![going(), keep(told())]),
                release(Reason::Kept { content: CONTENT.into() }),
            ),
            Case(
                41,
                "the content of a later group of the name is none of its business",
                with([going(), held().set("spec.volumeGroupSnapshotRef.uid", "later")]),
                release(Reason::Gone),
            ),
            Case(
                42,
                "a claim is filled from one of its snapshots",
                all(vec![going(), cut(true), from("r")]),
                Some(Action::Wait { key: of_group(), reason: Reason::InRestore { claims: "r".into() } }),
            ),
            Case(
                43,
                "a claim that came later gets nothing from it",
                all(vec![
                    going(),
                    cut(true),
                    from("r").set("metadata.creationTimestamp", "2026-01-02T00:00:01Z"),
                ]),
                abandon(content(), &["v", "w"], true),
            ),
            Case(
                44,
                "never bound",
                vec![group("g").finalizer(GROUP_BOUND).deleting()],
                release(Reason::Gone),
            ),
            Case(45, "nothing of ours keeps it", vec![group("g").finalizer("x/y").deleting()], None),
            Case(
                54,
                "snapshots of an earlier group of the name",
                with(members(true).into_iter().map(earlier).chain([going(), told().deleting()])),
                None,
            ),
            Case(
                46,
                "deleted before it was cut",
                with([begun().deleting(), held()]),
                abandon(content(), &[], true),
            ),
        ],
        &of_group(),
    );
}

#[test]
fn contents() {
    let key = group_content_key(CONTENT);
    let nobody =
        || Some(Action::Wait { key: key.clone(), reason: Reason::NoDriver { driver: DRIVER.into() } });
    let (object, finalizers) = (at(key.clone()), vec![GROUP_CONTENT_BOUND]);
    let protect = Some(Action::Protect {
        object: object.clone(),
        finalizers: finalizers.clone(),
        reason: Reason::Protecting,
    });
    let settled = Some(Action::Release {
        object,
        finalizers,
        reason: Reason::NothingToDelete { driver: DRIVER.into() },
    });
    let retained =
        || cut(true).set("spec.deletionPolicy", "Retain").note(GROUP_BEING_DELETED, "yes").deleting();
    check(
        vec![
            Case(47, "made by hand", vec![group_content("g", &["v"]), driver(true)], protect),
            Case(48, "kept, and the driver is known", vec![held(), driver(true)], None),
            Case(49, "nobody knows the driver", vec![held()], nobody()),
            Case(50, "nobody knows the driver, but all is done", vec![cut(true)], None),
            Case(51, "nobody is there to delete it", vec![cut(true).deleting()], nobody()),
            Case(52, "to be retained, and nobody is there", vec![retained()], settled),
            Case(53, "it may have been made", vec![retained().note(GROUP_BEING_CREATED, "yes")], nobody()),
        ],
        &key,
    );
}

/// What the controller of single snapshots does for those of a group, and for the claims.
#[test]
fn snapshots_and_claims_of_a_group() {
    let act = |objects: &[Made], key: &Key| snapshots::decide(&view(objects), key);
    let key = of_member("v");
    // All that there is to it is there from the first.
    assert_eq!(act(&done(), &key), None);
    assert_eq!(act(&done(), &content_key(&member_names("uid-g", "h-v")[1])), None);

    // Alone it does not go, and it is said why.
    let alone = |group: Made| {
        let others =
            done().into_iter().filter(|made| made.key() != of_member("v") && made.key() != of_group());
        let [snapshot, _] = member("a", "v", true);
        others.chain([snapshot.deleting(), group]).collect::<Vec<Made>>()
    };
    let group_done = || begun().set("status", status(true));
    let reason = Reason::InGroup { group: "dev/g".into() };
    assert_eq!(act(&alone(group_done()), &key), Some(snapshots::Action::Wait { key: key.clone(), reason }));
    // With its group it waits without a word, until that is gone.
    assert_eq!(act(&alone(group_done().deleting()), &key), None);
    let later = alone(group_done().uid("later"));
    assert!(matches!(act(&later, &key), Some(snapshots::Action::Abandon { delete: true, .. })));
    let orphans: Vec<Made> =
        alone(group_done()).into_iter().filter(|made| made.key() != of_group()).collect();
    assert!(matches!(act(&orphans, &key), Some(snapshots::Action::Abandon { delete: true, .. })));
    let [snapshot, _] = member("a", "v", true);
    let released = act(&[snapshot.deleting()], &key);
    let Some(snapshots::Action::Release { finalizers, .. }) = released else { panic!("{released:?}") };
    assert_eq!(finalizers, [SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND, SNAPSHOT_IN_GROUP]);

    // Claims are held from when the group is begun until it is cut.
    let claim_held = |objects: Vec<Made>| {
        let objects: Vec<Made> = objects
            .into_iter()
            .map(|made| if made.key() == of_claim("a") { made.finalizer(CLAIM_AS_SOURCE) } else { made })
            .collect();
        act(&objects, &of_claim("a")).is_none()
    };
    assert!(claim_held(with([begun(), held()])));
    assert!(claim_held(with([begun().deleting(), held()])), "the call may be under way");
    assert!(!claim_held(with([begun(), group_content("g", &["w"])])), "of another claim");
    assert!(!claim_held(with([group("g")])), "not begun");
    assert!(!claim_held(done()));
    let slow = members(false).into_iter().chain([begun().set("status", status(false)), cut(false)]);
    assert!(claim_held(with(slow)), "its snapshot is not ready");
}

/// Snapshots that people made for a group that was there before.
#[test]
fn snapshots_that_were_there_join_their_group() {
    let source = json!({"volumeSnapshotContentName": "given"});
    let snapshot = snapshot("s", "a")
        .set("spec", json!({"source": source}))
        .set("metadata.finalizers", json!([SNAPSHOT_AS_SOURCE, SNAPSHOT_BOUND]))
        .set("status", json!({"boundVolumeSnapshotContentName": "given", "readyToUse": false}));
    let content = content("s", "v")
        .set("metadata.name", "given")
        .set("spec.source", json!({"snapshotHandle": "x-v"}))
        .set("status", json!({"snapshotHandle": "x-v", "volumeGroupSnapshotHandle": "gx"}));
    let group = group("g").finalizer(GROUP_BOUND);
    let of_group = held().set("status.volumeGroupSnapshotHandle", "gx");
    let key = Key::new(SNAPSHOTS, SPACE, "s");
    let act = |objects: &[Made]| snapshots::decide(&view(objects), &key);
    let joins = act(&[snapshot.clone(), content.clone(), group.clone(), of_group.clone()]);
    let Some(snapshots::Action::Join { owner, unchanged, .. }) = joins else { panic!("{joins:?}") };
    assert_eq!((owner.name.as_str(), owner.uid.as_str()), ("g", "uid-g"));
    assert_eq!(unchanged, [at(group.key())]);
    for objects in [
        vec![snapshot.clone(), content.clone(), group.clone()],
        vec![snapshot.clone(), content.clone(), of_group.clone()],
        vec![snapshot.clone(), content.clone(), group.clone().deleting(), of_group.clone()],
        vec![snapshot.clone(), content.clone(), group.clone().uid("later"), of_group.clone()],
        vec![snapshot, content, group, of_group.set("status.volumeGroupSnapshotHandle", "other")],
    ] {
        assert!(!matches!(act(&objects), Some(snapshots::Action::Join { .. })), "{objects:?}");
    }
}
