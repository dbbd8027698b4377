use holdfast_proto::csi::Topology;
use serde_json::{Value, json};

use super::*;
use crate::{csi::Origin, provisioner::plan::PlanError};

const NOW: &str = "2026-01-01T00:00:00Z";

/// A merge patch: null takes away.
fn merge(into: &mut Value, from: &Value) {
    let (Value::Object(into), Value::Object(from)) = (into, from) else { return };
    for (key, value) in from {
        match value {
            Value::Null => drop(into.remove(key)),
            Value::Object(_) => merge(into.entry(key.clone()).or_insert(json!({})), value),
            other => drop(into.insert(key.clone(), other.clone())),
        }
    }
}

fn claim(changes: &Value) -> Option<Arc<PersistentVolumeClaim>> {
    let mut base = json!({
        "metadata": {"name": "data", "namespace": "dev", "uid": "1",
            "annotations": {names::STORAGE_PROVISIONER: "d"}},
        "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
            "resources": {"requests": {"storage": "1Gi"}}},
    });
    merge(&mut base, changes);
    Some(Arc::new(serde_json::from_value(base).expect("a claim")))
}

fn class(mode: &str) -> Option<Arc<StorageClass>> {
    let value = json!({"metadata": {"name": "fast"}, "provisioner": "d", "volumeBindingMode": mode,
        "parameters": {"pool": "p"}, "mountOptions": ["noatime"]});
    Some(Arc::new(serde_json::from_value(value).expect("a class")))
}

fn volume(owner: &str) -> VolumeObject {
    let value = json!({"metadata": {"name": "pvc-1"}, "spec": {"claimRef": {"uid": owner}}});
    VolumeObject::There(Arc::new(serde_json::from_value(value).expect("a volume")))
}

fn view() -> View {
    let mut facts = DriverFacts::new("d".to_owned());
    (facts.controller, facts.create_delete) = (true, true);
    View {
        facts: Arc::new(facts),
        settings: Arc::default(),
        claim: claim(&json!({})),
        live: true,
        class: class("Immediate"),
        volume: VolumeObject::NotSeen,
        places: Vec::new(),
        source: Source::NotAsked,
        memory: None,
        progress: Progress::Begun,
    }
}

fn failed(code: tonic::Code) -> CsiError {
    CsiError { method: "CreateVolume", code, message: "no".to_owned(), origin: Origin::Driver }
}

fn made(bytes: i64) -> Volume {
    Volume { volume_id: "h".to_owned(), capacity_bytes: bytes, ..Volume::default() }
}

fn a_plan() -> Box<Plan> {
    let view = view();
    let claim = view.claim.expect("a claim");
    let class = view.class.expect("a class");
    Box::new(plan::plan(&view.facts, &view.settings, &claim, &class, &[], &Source::NotAsked).expect("a plan"))
}

/// What kind of step it is; the details have assertions of their own.
fn kind(action: &Action) -> &'static str {
    match action {
        Action::Rest(_) => "rest",
        Action::Retry(_) => "retry",
        Action::ReadClaim(_) => "read claim",
        Action::ReadVolume(_) => "read volume",
        Action::ReadSource(_) => "read source",
        Action::ProtectSource(_) => "protect source",
        Action::RecordIntent(_) => "intent",
        Action::Create(..) => "create",
        Action::Save(..) => "save",
        Action::Delete { .. } => "delete",
        Action::DropIntent(_) => "drop",
        Action::Reschedule(_) => "reschedule",
    }
}

#[test]
fn table() {
    let intent = json!({"metadata": {"finalizers": [INTENT]}});
    let dying = json!({"metadata": {"deletionTimestamp": NOW}});
    let dying_intent = json!({"metadata": {"finalizers": [INTENT], "deletionTimestamp": NOW}});
    let bound = json!({"spec": {"volumeName": "pvc-1"}});
    let bound_intent = json!({"spec": {"volumeName": "pvc-1"}, "metadata": {"finalizers": [INTENT]}});
    let elsewhere_intent = json!({"spec": {"volumeName": "other"}, "metadata": {"finalizers": [INTENT]}});
    let selected_intent =
        json!({"metadata": {"finalizers": [INTENT], "annotations": {names::SELECTED_NODE: "n1"}}});
    let beta = json!({"metadata": {"annotations": {names::STORAGE_PROVISIONER: null, names::STORAGE_PROVISIONER_BETA: "d"}}});
    let foreign = json!({"metadata": {"annotations": {names::STORAGE_PROVISIONER: "e"}}});
    let selector = json!({"spec": {"selector": {"matchLabels": {"a": "b"}}}});
    let source = |group: &str, more: &Value| {
        let source = json!({"apiGroup": group, "kind": "VolumeSnapshot", "name": "s"});
        let mut changes = json!({"spec": {"dataSource": source}});
        merge(&mut changes, more);
        changes
    };
    let with = |changes: &Value| View { claim: claim(changes), ..view() };
    let restored = |more: &Value| with(&source(holdfast_api::snapshot::GROUP, more));
    let cloned = |finalizers: &[&str], more: &Value| {
        let mut changes = json!({"spec": {"dataSource": {"kind": "PersistentVolumeClaim", "name": "data"}}});
        merge(&mut changes, more);
        let other = json!({
            "metadata": {"name": "data", "uid": "o", "finalizers": finalizers},
            "spec": {"volumeName": "pv", "resources": {"requests": {"storage": "1Gi"}}},
            "status": {"phase": "Bound"},
        });
        let volume = json!({"spec": {"claimRef": {"uid": "o"}, "csi": {"driver": "d", "volumeHandle": "x"}}});
        let source = Source::Claim {
            claim: Some(Box::new(serde_json::from_value(other).expect("a claim"))),
            volume: Some(Box::new(serde_json::from_value(volume).expect("a volume"))),
        };
        let mut view = View { source, ..with(&changes) };
        view.facts = Arc::new(DriverFacts { clone: true, ..(*view.facts).clone() });
        view
    };
    let gone = || Source::Snapshot { snapshot: None, content: None };
    let clear = || Some(Memory::Nothing);
    let unanswered = || Some(Memory::Unanswered(a_plan()));
    let created = |bytes| Progress::Created { made: Box::new(made(bytes)), plan: a_plan() };
    let full = || Progress::CreateFailed(failed(tonic::Code::ResourceExhausted));
    let slow = || Progress::CreateFailed(failed(tonic::Code::DeadlineExceeded));
    let broken = || Progress::CreateFailed(failed(tonic::Code::Internal));
    let unsent =
        || Progress::CreateFailed(CsiError { origin: Origin::Unsent, ..failed(tonic::Code::Unavailable) });
    let taken = || Progress::CreateFailed(failed(tonic::Code::AlreadyExists));
    let saved = || Progress::Saved { volume: "pvc-1".to_owned() };
    let absent = |changes: &Value| View { volume: VolumeObject::Absent, ..with(changes) };
    let topology = |mut view: View| {
        let mut facts = (*view.facts).clone();
        facts.topology = true;
        view.facts = Arc::new(facts);
        view.places =
            vec![NodePlace { node: "n1".to_owned(), segments: [("z".to_owned(), "a".to_owned())].into() }];
        view
    };
    let table: Vec<(u32, View, &str)> = vec![
        // The way of a new claim.
        (1, View { live: false, ..view() }, "intent"),
        (2, with(&intent), "create"),
        (3, View { progress: created(1 << 30), ..with(&intent) }, "save"),
        (4, View { progress: saved(), ..with(&intent) }, "drop"),
        (5, View { progress: saved(), ..with(&json!({})) }, "rest"),
        // A cache never leads to CreateVolume.
        (6, View { live: false, ..with(&intent) }, "read claim"),
        // Not for us, or not yet.
        (7, View { claim: None, ..view() }, "rest"),
        (8, with(&foreign), "rest"),
        (9, View { live: false, ..with(&beta) }, "intent"),
        (10, View { class: None, ..view() }, "rest"),
        (11, View { class: class("WaitForFirstConsumer"), ..view() }, "rest"),
        (12, View { class: class("WaitForFirstConsumer"), ..with(&selected_intent) }, "create"),
        (13, with(&bound), "rest"),
        // Refused before anything is begun.
        (14, with(&selector), "retry"),
        (15, with(&source("x.example.com", &json!({}))), "rest"),
        (90, restored(&json!({})), "read source"),
        (91, View { source: gone(), ..restored(&json!({})) }, "retry"),
        (92, restored(&dying), "rest"),
        (95, cloned(&["x/y"], &intent), "protect source"),
        (96, cloned(&[crate::provisioner::cloning::CLONING], &intent), "create"),
        (97, cloned(&["x/y"], &json!({})), "intent"),
        (93, View { volume: VolumeObject::Absent, ..restored(&dying_intent) }, "read source"),
        (94, View { volume: VolumeObject::Absent, source: gone(), ..restored(&dying_intent) }, "retry"),
        (16, View { places: vec![], ..topology(View { places: vec![], ..view() }) }, "retry"),
        // After a crash.
        (17, with(&bound_intent), "drop"),
        (18, View { volume: volume("1"), ..with(&intent) }, "drop"),
        (19, View { volume: volume("1"), live: false, ..view() }, "rest"),
        (20, View { volume: volume("2"), ..with(&intent) }, "retry"),
        // Failures.
        (21, View { progress: full(), memory: clear(), ..absent(&intent) }, "drop"),
        (22, topology(View { progress: full(), memory: clear(), ..absent(&selected_intent) }), "reschedule"),
        (23, View { progress: full(), memory: clear(), ..absent(&selected_intent) }, "drop"),
        (67, topology(View { progress: full(), memory: clear(), ..with(&selected_intent) }), "read volume"),
        (68, View { progress: full(), memory: clear(), volume: volume("1"), ..with(&intent) }, "drop"),
        (53, View { progress: full(), ..with(&json!({})) }, "retry"),
        (54, View { progress: broken(), memory: clear(), ..absent(&intent) }, "drop"),
        (55, View { progress: unsent(), memory: clear(), ..absent(&intent) }, "drop"),
        (69, View { progress: unsent(), memory: unanswered(), ..absent(&intent) }, "retry"),
        (70, View { progress: slow(), memory: unanswered(), ..absent(&intent) }, "retry"),
        // Refused, but an earlier call (of an earlier life, or of this one) was never answered.
        (56, View { progress: full(), ..with(&intent) }, "retry"),
        (57, topology(View { progress: full(), ..with(&selected_intent) }), "retry"),
        (58, View { progress: broken(), ..with(&intent) }, "retry"),
        (59, View { progress: full(), memory: unanswered(), ..with(&intent) }, "retry"),
        (60, topology(View { progress: full(), memory: unanswered(), ..with(&selected_intent) }), "retry"),
        (24, topology(View { progress: slow(), ..with(&selected_intent) }), "retry"),
        (25, View { progress: created(1), ..with(&intent) }, "delete"),
        (26, View { progress: created(0), ..with(&intent) }, "save"),
        (27, View { progress: Progress::Deleted, ..with(&intent) }, "retry"),
        // Not answered: the same again, whatever changed; the class may even be gone.
        (28, View { memory: unanswered(), class: None, ..with(&intent) }, "create"),
        (29, View { memory: unanswered(), live: false, ..with(&intent) }, "read claim"),
        (30, View { memory: unanswered(), ..view() }, "intent"),
        // Finished, with caches behind.
        (31, View { memory: Some(Memory::Finished), live: false, ..with(&intent) }, "rest"),
        (32, View { memory: Some(Memory::Finished), live: false, ..view() }, "rest"),
        // Deleted meanwhile.
        (33, with(&dying), "rest"),
        (34, View { live: false, ..with(&dying_intent) }, "read volume"),
        (35, View { volume: volume("1"), ..with(&dying_intent) }, "drop"),
        // A volume object of our name that tells of another claim's volume tells nothing of ours.
        (71, View { volume: volume("2"), ..with(&dying_intent) }, "retry"),
        (36, View { live: false, ..absent(&dying_intent) }, "read claim"),
        (37, absent(&dying_intent), "create"),
        (38, View { progress: created(1 << 30), ..absent(&dying_intent) }, "delete"),
        (50, View { progress: created(1 << 30), ..with(&dying_intent) }, "read volume"),
        (51, View { progress: created(1 << 30), volume: volume("1"), ..with(&dying_intent) }, "drop"),
        (39, View { progress: Progress::Deleted, ..absent(&dying_intent) }, "drop"),
        (40, View { progress: full(), memory: clear(), ..absent(&dying_intent) }, "drop"),
        (61, View { progress: unsent(), memory: clear(), ..absent(&dying_intent) }, "drop"),
        (62, View { progress: full(), ..absent(&dying_intent) }, "retry"),
        (63, View { progress: broken(), ..absent(&dying_intent) }, "retry"),
        (64, View { progress: full(), memory: unanswered(), ..absent(&dying_intent) }, "retry"),
        (65, View { progress: unsent(), ..absent(&dying_intent) }, "retry"),
        (66, View { progress: full(), ..absent(&elsewhere_intent) }, "retry"),
        (41, View { progress: slow(), ..absent(&dying_intent) }, "retry"),
        // Something is there, under our name: it must not be forgotten.
        (52, View { progress: taken(), ..absent(&dying_intent) }, "retry"),
        (42, View { memory: clear(), ..absent(&dying_intent) }, "drop"),
        (43, View { memory: unanswered(), class: None, ..absent(&dying_intent) }, "create"),
        (44, View { class: None, ..absent(&dying_intent) }, "retry"),
        (
            45,
            View { progress: Progress::DeleteFailed(failed(tonic::Code::Internal)), ..absent(&dying_intent) },
            "retry",
        ),
        (46, View { class: class("WaitForFirstConsumer"), ..absent(&dying_intent) }, "create"),
        // Bound to another volume meanwhile.
        (47, absent(&elsewhere_intent), "create"),
        (48, View { progress: created(1 << 30), ..absent(&elsewhere_intent) }, "delete"),
        // The claim is deleted between CreateVolume and saving, and the volume is saved.
        (49, View { progress: saved(), ..with(&dying_intent) }, "drop"),
    ];
    for (number, view, wanted) in table {
        let action = decide(&view);
        assert_eq!(kind(&action), wanted, "row {number}: {action:?}");
    }
}

#[test]
fn a_refusal_names_its_reason() {
    let view = View { claim: claim(&json!({"spec": {"accessModes": []}})), ..view() };
    let Action::Retry(Reason::CannotPlan { error: PlanError::Modes(_), .. }) = decide(&view) else {
        panic!("not refused for its modes")
    };
}

#[test]
fn the_request_and_the_object() {
    let plan = a_plan();
    assert_eq!(plan.request.name, "pvc-1");
    assert_eq!(plan.request.capacity_range.map(|range| range.required_bytes), Some(1 << 30));
    assert_eq!(plan.request.parameters, [("pool".to_owned(), "p".to_owned())].into());
    let made = Volume {
        capacity_bytes: 2 << 30,
        volume_context: [("k".to_owned(), "v".to_owned())].into(),
        accessible_topology: vec![Topology { segments: [("z".to_owned(), "a".to_owned())].into() }],
        ..made(0)
    };
    let object = serde_json::to_value(plan.volume_object(&made)).expect("serialises");
    let wanted = json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {
            "name": "pvc-1",
            "annotations": {
                "pv.kubernetes.io/provisioned-by": "d",
                "volume.kubernetes.io/provisioner-deletion-secret-name": "",
                "volume.kubernetes.io/provisioner-deletion-secret-namespace": "",
            },
            "finalizers": ["external-provisioner.volume.kubernetes.io/finalizer"],
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "capacity": {"storage": "2Gi"},
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": "data",
                "namespace": "dev", "uid": "1"},
            "csi": {"driver": "d", "volumeHandle": "h", "volumeAttributes": {"k": "v"}},
            "mountOptions": ["noatime"],
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
        },
    });
    // No affinity: this driver has no topologies, so its answer's are not to be believed.
    assert_eq!(object, wanted);
}

#[test]
fn doubt_tells_the_way_out_within_an_event() {
    let error = CsiError { message: "x".repeat(2000), ..failed(tonic::Code::ResourceExhausted) };
    let intent = json!({"metadata": {"finalizers": [INTENT]}});
    let view = View { claim: claim(&intent), progress: Progress::CreateFailed(error), ..view() };
    let text = decide(&view).reason().to_string();
    let event = &text[..1024];
    for part in ["pvc-1", INTENT, "ResourceExhausted"] {
        assert!(event.contains(part), "{event}");
    }
}
