use holdfast_api::snapshot::{group::VolumeGroupSnapshotContent, names, volume::VolumeSnapshotContent};
use holdfast_proto::csi::Snapshot;
use serde_json::{Value, json};

use super::*;
use crate::{csi::Origin, snapshotter::parameters::ClassError};

type View = super::View<VolumeSnapshotContent>;
type Class = super::Class<VolumeSnapshotContent>;
type Progress = super::Progress<VolumeSnapshotContent>;
type Groups = super::View<VolumeGroupSnapshotContent>;

fn merge(into: &mut Value, from: &Value) {
    match (into, from) {
        (Value::Object(into), Value::Object(from)) => {
            for (key, value) in from {
                merge(into.entry(key.clone()).or_insert(Value::Null), value);
            }
        }
        (into, from) => *into = from.clone(),
    }
}

/// A content as the snapshot controller makes it, for snapshot `s` of volume `h`.
fn content(changes: &[&Value]) -> Option<Arc<VolumeSnapshotContent>> {
    let mut value = json!({
        "metadata": {"name": "snapcontent-s", "uid": "c", "finalizers": [names::CONTENT_BOUND]},
        "spec": {
            "driver": "d", "deletionPolicy": "Delete", "volumeSnapshotClassName": "quick",
            "source": {"volumeHandle": "h"},
            "volumeSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
        },
    });
    for change in changes {
        merge(&mut value, change);
    }
    Some(Arc::new(serde_json::from_value(value).expect("a content")))
}

fn class(parameters: &Value) -> Class {
    let value = json!({"metadata": {"name": "quick"}, "driver": "d", "deletionPolicy": "Delete", "parameters": parameters});
    Class::There(Box::new(serde_json::from_value(value).expect("a class")))
}

fn view(changes: &[&Value]) -> View {
    let facts = DriverFacts { controller: true, create_snapshot: true, ..DriverFacts::new("d".to_owned()) };
    View {
        facts: Arc::new(facts),
        extra_create_metadata: false,
        content: content(changes),
        live: true,
        class: class(&json!({"pool": "fast"})),
        clear: false,
        progress: Progress::Begun,
    }
}

fn failed(task: Task, code: tonic::Code, origin: Origin) -> Progress {
    Progress::Failed(task, CsiError { method: "CreateSnapshot", code, message: "no".to_owned(), origin })
}

fn told(ready: bool) -> Progress {
    Progress::Told(Box::new(Snapshot {
        snapshot_id: "x".to_owned(),
        ready_to_use: ready,
        ..Snapshot::default()
    }))
}

/// A decision in a word.
fn word<C: Content>(view: &super::View<C>) -> &'static str {
    match decide(view) {
        Action::Rest(_) => "rest",
        Action::Retry(_) => "retry",
        Action::ReadContent(_) => "read content",
        Action::ReadClass { .. } => "read class",
        Action::RecordIntent(_) => "intent",
        Action::Create { .. } => "create",
        Action::Ask { .. } => "ask",
        Action::Save { .. } => "save",
        Action::Trust { .. } => "trust",
        Action::DropIntent(_) => "drop",
        Action::NoteFailure(_) => "note",
        Action::Delete { .. } => "delete",
        Action::Unprotect(_) => "unprotect",
    }
}

#[test]
fn table() {
    use tonic::Code::{DeadlineExceeded, Internal};
    let none = json!({});
    let intent = json!({"metadata": {"annotations": {names::BEING_CREATED: "yes"}}});
    let bare = json!({"metadata": {"finalizers": []}});
    let taken = json!({"status": {"snapshotHandle": "x", "readyToUse": false}});
    let ready = json!({"status": {"snapshotHandle": "x", "readyToUse": true}});
    let given = json!({"spec": {"source": {"volumeHandle": null, "snapshotHandle": "x"}}});
    let unbound = json!({"spec": {"volumeSnapshotRef": {"uid": null}}});
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let released = json!({"metadata": {"annotations": {names::BEING_DELETED: "yes"}}});
    let retain = json!({"spec": {"deletionPolicy": "Retain"}});
    let of_group = json!({"status": {"volumeGroupSnapshotHandle": "g"}});
    let noted_group = json!({"metadata": {"annotations": {names::GROUP_HANDLE: "g"}}});
    let other = json!({"spec": {"driver": "e"}});
    let unclassed = json!({"spec": {"volumeSnapshotClassName": null}});
    let going = |more: &[&Value]| {
        let all: Vec<&Value> = [&deleting, &released].into_iter().chain(more.iter().copied()).collect();
        view(&all)
    };
    let progress = |view: View, progress: Progress| View { progress, ..view };
    let clear = |view: View| View { clear: true, ..view };
    let stale = |view: View| View { live: false, ..view };
    let class = |view: View, class: Class| View { class, ..view };
    let facts = |view: View, change: fn(&mut DriverFacts)| {
        let mut facts = (*view.facts).clone();
        change(&mut facts);
        View { facts: Arc::new(facts), ..view }
    };
    let lists = |view: View| facts(view, |facts| facts.list_snapshots = true);
    let noted = || Progress::Noted(Box::new(Reason::NotSupported));
    let unknown = || failed(Task::Create, DeadlineExceeded, Origin::Way);
    let refused = || failed(Task::Create, Internal, Origin::Driver);
    let table = [
        // Taking.
        (1, View { content: None, ..view(&[]) }, "rest"),
        (2, view(&[&other]), "rest"),
        (3, class(view(&[]), Class::NotAsked), "read class"),
        (4, class(view(&[]), Class::Absent), "note"),
        (5, class(view(&[&unclassed]), Class::NotAsked), "intent"),
        (6, view(&[&none]), "intent"),
        (7, stale(view(&[&none])), "intent"),
        (8, stale(view(&[&intent])), "read content"),
        (9, view(&[&intent]), "create"),
        (10, view(&[&intent, &bare]), "intent"),
        (11, facts(view(&[]), |facts| facts.create_snapshot = false), "note"),
        (12, progress(view(&[&intent]), told(true)), "save"),
        (13, progress(view(&[&intent, &ready]), Progress::Saved { ready: true }), "drop"),
        (14, progress(view(&[&ready]), Progress::Saved { ready: true }), "rest"),
        (15, progress(view(&[&intent, &taken]), Progress::Saved { ready: false }), "drop"),
        (16, progress(view(&[&taken]), Progress::Saved { ready: false }), "retry"),
        // Later looks: an intent that a crash left goes, what is not ready is asked for again.
        (17, view(&[&ready]), "rest"),
        (18, view(&[&ready, &intent]), "drop"),
        (19, view(&[&taken]), "create"),
        (20, lists(view(&[&taken])), "ask"),
        (21, class(lists(view(&[&taken])), Class::NotAsked), "read class"),
        (22, class(lists(view(&[&taken])), Class::Absent), "ask"),
        // Failures.
        (23, progress(view(&[&intent]), unknown()), "note"),
        (24, progress(clear(view(&[&intent])), refused()), "note"),
        (25, progress(view(&[&intent]), noted()), "retry"),
        (26, progress(clear(view(&[&intent])), noted()), "drop"),
        (27, progress(view(&[]), noted()), "retry"),
        (28, progress(view(&[&taken]), failed(Task::Ask, Internal, Origin::Driver)), "note"),
        // One that was there.
        (29, lists(view(&[&given])), "ask"),
        (30, facts(view(&[&given]), |facts| facts.get_snapshot = true), "ask"),
        (31, view(&[&given]), "trust"),
        (32, progress(lists(view(&[&given])), Progress::Missing { handle: "x".to_owned() }), "note"),
        (33, lists(view(&[&given, &ready])), "rest"),
        (34, lists(view(&[&given, &unbound])), "ask"),
        // Deletion.
        (35, view(&[&deleting, &ready]), "rest"),
        (36, view(&[&deleting, &intent]), "create"),
        (37, going(&[&ready]), "delete"),
        (38, stale(going(&[&ready])), "read content"),
        (39, going(&[&ready, &retain]), "unprotect"),
        (40, going(&[]), "unprotect"),
        (41, going(&[&intent]), "create"),
        (42, going(&[&intent, &retain]), "create"),
        (43, clear(going(&[&intent])), "unprotect"),
        (44, progress(going(&[&intent]), told(true)), "save"),
        (45, progress(going(&[&intent, &ready]), Progress::Saved { ready: true }), "delete"),
        (46, progress(going(&[&ready]), Progress::Deleted), "unprotect"),
        (47, progress(going(&[&ready]), failed(Task::Delete, Internal, Origin::Driver)), "note"),
        (48, going(&[&bare, &ready]), "rest"),
        (49, going(&[&ready, &of_group]), "unprotect"),
        // One of a group, of which the group's content tells: never taken by itself.
        (54, view(&[&of_group]), "rest"),
        (55, view(&[&of_group, &taken]), "rest"),
        (56, view(&[&noted_group]), "rest"),
        (57, going(&[&noted_group]), "unprotect"),
        (58, lists(view(&[&of_group, &given])), "ask"),
        (50, facts(going(&[&ready]), |facts| facts.create_snapshot = false), "note"),
        (51, view(&[&deleting, &unbound, &given]), "delete"),
        (52, going(&[&given]), "delete"),
        (53, stale(going(&[])), "read content"),
    ];
    for (number, view, wanted) in table {
        assert_eq!(word(&view), wanted, "row {number}: {:?}", decide(&view));
    }
}

#[test]
fn a_refusal_after_a_lost_answer_is_doubt() {
    let intent = json!({"metadata": {"annotations": {names::BEING_CREATED: "yes"}}});
    let refused = || failed(Task::Create, tonic::Code::NotFound, Origin::Driver);
    let doubtful = View { progress: refused(), ..view(&[&intent]) };
    assert!(matches!(decide(&doubtful), Action::NoteFailure(Reason::InDoubt { .. })));
    let certain = View { clear: true, ..doubtful };
    assert!(matches!(decide(&certain), Action::NoteFailure(Reason::Failed { task: Task::Create, .. })));
}

#[test]
fn what_the_driver_is_asked() {
    let annotations = json!({
        names::BEING_CREATED: "yes", names::SECRET_NAME: "key", names::SECRET_NAMESPACE: "sys",
    });
    let annotated = json!({"metadata": {"annotations": annotations}});
    let Action::Create { request, secret, .. } = decide(&view(&[&annotated])) else { panic!("no call") };
    assert_eq!((request.name.as_str(), request.source_volume_id.as_str()), ("snapshot-s", "h"));
    assert_eq!(request.parameters, [("pool".to_owned(), "fast".to_owned())].into());
    assert_eq!(secret, Some(SecretKey { namespace: "sys".to_owned(), name: "key".to_owned() }));
    let with_names = View { extra_create_metadata: true, ..view(&[&annotated]) };
    let Action::Create { request, .. } = decide(&with_names) else { panic!("no call") };
    for (key, value) in [
        ("csi.storage.k8s.io/volumesnapshot/name", "monday"),
        ("csi.storage.k8s.io/volumesnapshot/namespace", "dev"),
        ("csi.storage.k8s.io/volumesnapshotcontent/name", "snapcontent-s"),
        ("pool", "fast"),
    ] {
        assert_eq!(request.parameters.get(key).map(String::as_str), Some(value), "{key}");
    }
    let reserved = "csi.storage.k8s.io/snapshotter-secret".to_owned();
    let bad = View { class: class(&json!({ &reserved: "x" })), ..view(&[&annotated]) };
    let wanted = Action::NoteFailure(Reason::BadClass(ClassError::Reserved(reserved)));
    assert_eq!(decide(&bad), wanted);
    let listing = json!({
        "csi.storage.k8s.io/snapshotter-list-secret-name": "l-${volumesnapshotcontent.name}",
        "csi.storage.k8s.io/snapshotter-list-secret-namespace": "sys",
    });
    let given = json!({"spec": {"source": {"volumeHandle": null, "snapshotHandle": "x"}}});
    let mut asking = View { class: class(&listing), ..view(&[&given]) };
    asking.facts = Arc::new(DriverFacts { list_snapshots: true, ..(*asking.facts).clone() });
    let Action::Ask { handle, secret, .. } = decide(&asking) else { panic!("no call") };
    let key = SecretKey { namespace: "sys".to_owned(), name: "l-snapcontent-s".to_owned() };
    assert_eq!((handle.as_str(), secret), ("x", Some(key)));
}

/// A group's content as the snapshot controller makes it, for group snapshot `s` of volumes `h` and `i`.
fn group(changes: &[&Value]) -> Groups {
    let mut value = json!({
        "metadata": {"name": "groupsnapcontent-s", "uid": "c", "finalizers": [names::GROUP_CONTENT_BOUND]},
        "spec": {
            "driver": "d", "deletionPolicy": "Delete", "source": {"volumeHandles": ["h", "i"]},
            "volumeGroupSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
        },
    });
    for change in changes {
        merge(&mut value, change);
    }
    let facts = DriverFacts { controller: true, group_snapshots: true, ..DriverFacts::new("d".to_owned()) };
    Groups {
        facts: Arc::new(facts),
        extra_create_metadata: false,
        content: Some(Arc::new(serde_json::from_value(value).expect("a content"))),
        live: true,
        class: super::Class::NotAsked,
        clear: false,
        progress: super::Progress::Begun,
    }
}

/// What differs for groups: they are asked about in place of being taken again, never trusted, and
/// there is nothing that they could be part of.
#[test]
fn table_of_groups() {
    let intent = json!({"metadata": {"annotations": {names::GROUP_BEING_CREATED: "yes"}}});
    let other_intent = json!({"metadata": {"annotations": {names::BEING_CREATED: "yes"}}});
    let taken = json!({"status": {"volumeGroupSnapshotHandle": "g", "readyToUse": false}});
    let ready = json!({"status": {"volumeGroupSnapshotHandle": "g", "readyToUse": true}});
    let handles = json!({"volumeGroupSnapshotHandle": "g", "volumeSnapshotHandles": ["x", "y"]});
    let given = json!({"spec": {"source": {"volumeHandles": null, "groupSnapshotHandles": handles}}});
    let classed = json!({"spec": {"volumeGroupSnapshotClassName": "quick"}});
    let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
    let released = json!({"metadata": {"annotations": {names::GROUP_BEING_DELETED: "yes"}}});
    let retain = json!({"spec": {"deletionPolicy": "Retain"}});
    let cannot = |view: Groups| Groups { facts: Arc::new(DriverFacts::new("d".to_owned())), ..view };
    let table = [
        (1, group(&[]), "intent"),
        (2, group(&[&other_intent]), "intent"),
        (3, group(&[&classed]), "read class"),
        (4, group(&[&intent]), "create"),
        (5, group(&[&taken]), "ask"),
        (6, group(&[&taken, &intent]), "ask"),
        (7, group(&[&ready, &intent]), "drop"),
        (8, group(&[&ready]), "rest"),
        (9, group(&[&given]), "ask"),
        (10, group(&[&given, &ready]), "rest"),
        // Trap: a driver that takes no groups is told of, not waited for in silence.
        (11, cannot(group(&[])), "note"),
        (12, cannot(group(&[&given])), "note"),
        (13, group(&[&deleting, &ready]), "rest"),
        (14, group(&[&deleting, &released, &ready]), "delete"),
        (15, group(&[&deleting, &released, &intent]), "create"),
        (16, group(&[&deleting, &released]), "unprotect"),
        (17, group(&[&deleting, &released, &ready, &retain]), "unprotect"),
        (18, group(&[&deleting, &released, &given]), "delete"),
    ];
    for (number, view, wanted) in table {
        assert_eq!(word(&view), wanted, "row {number}: {:?}", decide(&view));
    }
}

#[test]
fn what_the_driver_is_asked_for_a_group() {
    let annotated = json!({"metadata": {"annotations": {
        names::GROUP_BEING_CREATED: "yes", names::GROUP_SECRET_NAME: "key", names::GROUP_SECRET_NAMESPACE: "sys",
    }}});
    let view = Groups { extra_create_metadata: true, ..group(&[&annotated]) };
    let Action::Create { request, secret, .. } = decide(&view) else { panic!("no call") };
    assert_eq!((request.name.as_str(), request.source_volume_ids.len()), ("groupsnapshot-s", 2));
    for (key, value) in [
        ("csi.storage.k8s.io/volumegroupsnapshot/name", "monday"),
        ("csi.storage.k8s.io/volumegroupsnapshot/namespace", "dev"),
        ("csi.storage.k8s.io/volumegroupsnapshotcontent/name", "groupsnapcontent-s"),
    ] {
        assert_eq!(request.parameters.get(key).map(String::as_str), Some(value), "{key}");
    }
    assert_eq!(secret, Some(SecretKey { namespace: "sys".to_owned(), name: "key".to_owned() }));
    let doubt = Reason::InDoubt {
        name: "groupsnapshot-s".to_owned(),
        error: CsiError {
            method: "x",
            code: tonic::Code::NotFound,
            message: "no".to_owned(),
            origin: Origin::Driver,
        },
    };
    let said = doubt.in_words(VolumeGroupSnapshotContent::WORDS).to_string();
    assert!(
        said.contains(names::GROUP_BEING_CREATED) && said.contains("group snapshot groupsnapshot-s"),
        "{said}"
    );
}
