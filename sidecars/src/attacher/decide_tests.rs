use serde_json::{Value, json};

use super::*;
use crate::csi::Origin;

const NOW: &str = "2026-01-01T00:00:00Z";

fn attachment(metadata: &Value, status: &Value) -> Option<Arc<VolumeAttachment>> {
    let mut value = json!({
        "metadata": {"name": "csi-1", "uid": "u"},
        "spec": {"attacher": "d.e", "nodeName": "n1", "source": {"persistentVolumeName": "pv"}},
        "status": status,
    });
    for (key, part) in metadata.as_object().into_iter().flatten() {
        value["metadata"][key] = part.clone();
    }
    Some(Arc::new(serde_json::from_value(value).expect("an attachment")))
}

fn volume(driver: &str, metadata: &Value, modes: &Value) -> Option<Arc<PersistentVolume>> {
    let mut value = json!({
        "metadata": {"name": "pv"},
        "spec": {"accessModes": modes, "csi": {"driver": driver, "volumeHandle": "h", "readOnly": true}},
    });
    for (key, part) in metadata.as_object().into_iter().flatten() {
        value["metadata"][key] = part.clone();
    }
    Some(Arc::new(serde_json::from_value(value).expect("a volume")))
}

fn kind(action: &Action) -> &'static str {
    match action {
        Action::Rest(_) => "rest",
        Action::Retry(_) => "retry",
        Action::HoldVolume(_) => "hold",
        Action::RecordIntent { .. } => "intent",
        Action::Publish { .. } => "publish",
        Action::MarkAttached { .. } => "attached",
        Action::NoteAttachError { .. } => "attach error",
        Action::Unpublish { .. } => "unpublish",
        Action::MarkDetached(_) => "detached",
        Action::NoteDetachError(_) => "detach error",
    }
}

#[test]
fn table() {
    let ours = finalizer("d.e");
    let none = json!({});
    let rwo = json!(["ReadWriteOnce"]);
    let held = json!({"finalizers": [ours]});
    let meant = json!({"finalizers": [ours], "annotations": {NODE_ID: "id1"}});
    let other_id = json!({"finalizers": [ours], "annotations": {NODE_ID: "old"}});
    let dying = json!({"deletionTimestamp": NOW});
    let dying_held = json!({"deletionTimestamp": NOW, "finalizers": [ours], "annotations": {NODE_ID: "id1"}});
    let open = json!({"attached": false});
    let attached = json!({"attached": true});
    let mut facts = DriverFacts::new("d.e".to_owned());
    facts.publish = true;
    let facts = Arc::new(facts);
    let view = |metadata: &Value, status: &Value| View {
        facts: Arc::clone(&facts),
        default_fs_type: "".into(),
        attachment: attachment(metadata, status),
        volume: volume("d.e", &held, &rwo),
        node_id: Some("id1".to_owned()),
        progress: Progress::Begun,
    };
    let plain = |view: View| View { facts: Arc::new(DriverFacts::new("d.e".to_owned())), ..view };
    let error = |method| CsiError {
        method,
        code: tonic::Code::Internal,
        message: "no".to_owned(),
        origin: Origin::Driver,
    };
    let published = || Progress::Published(BTreeMap::new());
    let table: Vec<(u32, View, &str)> = vec![
        (1, View { volume: volume("d.e", &none, &rwo), ..view(&none, &open) }, "hold"),
        (2, view(&none, &open), "intent"),
        (3, view(&meant, &open), "publish"),
        (4, View { progress: published(), ..view(&meant, &open) }, "attached"),
        (5, view(&meant, &attached), "rest"),
        (6, view(&other_id, &open), "intent"),
        (
            7,
            View {
                progress: Progress::PublishFailed(error("ControllerPublishVolume")),
                ..view(&meant, &open)
            },
            "attach error",
        ),
        (8, View { progress: Progress::Noted(Reason::BadSource), ..view(&meant, &open) }, "retry"),
        (9, View { volume: None, ..view(&none, &open) }, "attach error"),
        (10, View { volume: volume("x", &none, &rwo), ..view(&none, &open) }, "attach error"),
        (11, View { volume: volume("d.e", &dying, &rwo), ..view(&none, &open) }, "attach error"),
        (12, View { node_id: None, ..view(&none, &open) }, "attach error"),
        (13, View { volume: volume("d.e", &held, &json!([])), ..view(&none, &open) }, "attach error"),
        (14, plain(view(&none, &open)), "attached"),
        (15, view(&dying, &attached), "rest"),
        (16, view(&dying_held, &attached), "unpublish"),
        // Begun and never marked attached: it may be attached all the same.
        (17, view(&dying_held, &open), "unpublish"),
        (18, View { progress: Progress::Unpublished, ..view(&dying_held, &open) }, "detached"),
        (
            19,
            View {
                progress: Progress::UnpublishFailed(error("ControllerUnpublishVolume")),
                ..view(&dying_held, &open)
            },
            "detach error",
        ),
        (20, View { volume: None, ..view(&dying_held, &open) }, "detach error"),
        // The node is gone, but the attachment remembers its id.
        (21, View { node_id: None, ..view(&dying_held, &open) }, "unpublish"),
        (22, View { attachment: None, ..view(&none, &open) }, "rest"),
        (23, plain(view(&dying_held, &open)), "detached"),
        // The volume object is being deleted, which must not keep it attached.
        (24, View { volume: volume("d.e", &dying, &rwo), ..view(&dying_held, &attached) }, "unpublish"),
    ];
    for (number, view, wanted) in table {
        let action = decide(&view);
        assert_eq!(kind(&action), wanted, "row {number}: {action:?}");
    }
}

#[test]
fn requests() {
    let ours = finalizer("d.e");
    let mut facts = DriverFacts::new("d.e".to_owned());
    facts.publish = true;
    let dying = json!({"deletionTimestamp": NOW, "finalizers": [ours], "annotations": {NODE_ID: "old"}});
    let mut view = View {
        facts: Arc::new(facts.clone()),
        default_fs_type: "".into(),
        attachment: attachment(&dying, &json!({"attached": true})),
        volume: volume("d.e", &json!({"finalizers": [ours]}), &json!(["ReadOnlyMany"])),
        node_id: Some("new".to_owned()),
        progress: Progress::Begun,
    };
    let Action::Unpublish { request, .. } = decide(&view) else { panic!("not detached") };
    assert_eq!(request.node_id, "old", "detached from where it was attached");
    view.attachment = attachment(
        &json!({"finalizers": [ours], "annotations": {NODE_ID: "new"}}),
        &json!({"attached": false}),
    );
    let Action::Publish { request, .. } = decide(&view) else { panic!("not attached") };
    assert!(!request.readonly, "only a driver with PUBLISH_READONLY may be told");
    facts.publish_readonly = true;
    view.facts = Arc::new(facts);
    let Action::Publish { request, .. } = decide(&view) else { panic!("not attached") };
    assert!(request.readonly);
}

#[test]
fn finalizer_names() {
    assert_eq!(finalizer("csi.holdfast.dev"), "external-attacher/csi-holdfast-dev");
    assert_eq!(finalizer("a/b_c"), "external-attacher/a-b-c");
    assert_eq!(finalizer("odd."), "external-attacher/odd-X");
}

#[test]
fn when_a_volume_may_go() {
    let ours = finalizer("d.e");
    let rwo = json!(["ReadWriteOnce"]);
    let dying =
        volume("d.e", &json!({"finalizers": [ours], "deletionTimestamp": NOW}), &rwo).expect("a volume");
    let alive = volume("d.e", &json!({"finalizers": [ours]}), &rwo).expect("a volume");
    let free = volume("d.e", &json!({"deletionTimestamp": NOW}), &rwo).expect("a volume");
    assert!(may_let_go(&dying, "d.e", false));
    assert!(!may_let_go(&dying, "d.e", true));
    assert!(!may_let_go(&alive, "d.e", false));
    assert!(!may_let_go(&free, "d.e", false));
}
