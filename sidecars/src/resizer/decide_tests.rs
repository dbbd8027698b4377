use serde_json::{Value, json};

use super::*;
use crate::csi::Origin;

const GI: i64 = 1 << 30;

/// A bound claim of 1Gi that asks for `asked`, with `state` and `allocated` in its status.
fn claim(asked: &str, state: &str, allocated: &str) -> Option<Arc<PersistentVolumeClaim>> {
    let mut value = json!({
        "metadata": {"name": "data", "namespace": "dev", "uid": "c"},
        "spec": {"volumeName": "pv", "resources": {"requests": {"storage": asked}}},
        "status": {"phase": "Bound", "capacity": {"storage": "1Gi"}},
    });
    if !state.is_empty() {
        value["status"]["allocatedResourceStatuses"] = json!({"storage": state});
    }
    if !allocated.is_empty() {
        value["status"]["allocatedResources"] = json!({"storage": allocated});
    }
    Some(Arc::new(serde_json::from_value(value).expect("a claim")))
}

fn volume(has: &str, changes: &Value) -> Option<Arc<PersistentVolume>> {
    let mut value = json!({"metadata": {"name": "pv"}, "spec": {
        "capacity": {"storage": has}, "claimRef": {"uid": "c"}, "accessModes": ["ReadWriteOnce"],
        "csi": {"driver": "d", "volumeHandle": "h"}}});
    for (key, part) in changes.as_object().into_iter().flatten() {
        value["spec"][key] = part.clone();
    }
    Some(Arc::new(serde_json::from_value(value).expect("a volume")))
}

fn view(claim: Option<Arc<PersistentVolumeClaim>>, has: &str) -> View {
    let mut facts = DriverFacts::new("d".to_owned());
    facts.expand = true;
    View {
        facts: Arc::new(facts),
        claim,
        volume: volume(has, &json!({})),
        ended: false,
        node_try: None,
        now: Timestamp::UNIX_EPOCH,
        progress: Progress::Begun,
    }
}

fn with_facts(view: View, expand: bool, node_expand: bool) -> View {
    let facts = DriverFacts { expand, node_expand, ..(*view.facts).clone() };
    View { facts: Arc::new(facts), ..view }
}

/// The kind of step, and the bytes that it is about.
fn short(action: &Action) -> (&'static str, i64) {
    match action {
        Action::Rest(_) => ("rest", 0),
        Action::Retry(_) => ("retry", 0),
        Action::RecordIntent { bytes, .. } => ("intent", *bytes),
        Action::Expand { request, .. } => {
            ("expand", request.capacity_range.as_ref().map_or(0, |range| range.required_bytes))
        }
        Action::SkipController { bytes, .. } => ("skip", *bytes),
        Action::SaveVolume { bytes, .. } => ("save", *bytes),
        Action::HandToNode(_) => ("node", 0),
        Action::Finish { bytes, .. } => ("finish", *bytes),
        Action::NoteFailure { infeasible: false, .. } => ("failed", 0),
        Action::NoteFailure { infeasible: true, .. } => ("infeasible", 0),
    }
}

#[test]
fn table() {
    use status::{IN_PROGRESS, INFEASIBLE, NODE_IN_PROGRESS, NODE_INFEASIBLE, NODE_PENDING};
    let error = |code| {
        Progress::Failed(CsiError {
            method: "ControllerExpandVolume",
            code,
            message: String::new(),
            origin: Origin::Driver,
        })
    };
    let asks = |progress| View { progress, ..view(claim("2Gi", IN_PROGRESS, "2Gi"), "1Gi") };
    let tried = |asked: i64, seconds_ago: i64| View {
        node_try: Some(NodeTry { asked, at: Timestamp::from_second(-seconds_ago).expect("a time") }),
        ..view(claim("2Gi", NODE_INFEASIBLE, "2Gi"), "2Gi")
    };
    let table: Vec<(u32, View, (&str, i64))> = vec![
        (1, view(claim("2Gi", "", ""), "1Gi"), ("intent", 2 * GI)),
        (2, view(claim("2Gi", IN_PROGRESS, "2Gi"), "1Gi"), ("expand", 2 * GI)),
        (3, asks(Progress::Expanded { bytes: 2 * GI, node: true }), ("save", 2 * GI)),
        (4, asks(Progress::Saved { bytes: 2 * GI, node: true }), ("node", 0)),
        (5, asks(Progress::Saved { bytes: 2 * GI, node: false }), ("finish", 2 * GI)),
        (6, asks(Progress::Finished), ("rest", 0)),
        (7, view(claim("1Gi", "", ""), "1Gi"), ("rest", 0)),
        (8, view(None, "1Gi"), ("rest", 0)),
        (9, View { volume: None, ..view(claim("2Gi", "", ""), "1Gi") }, ("rest", 0)),
        (
            10,
            View {
                volume: volume("1Gi", &json!({"claimRef": {"uid": "x"}})),
                ..view(claim("2Gi", "", ""), "1Gi")
            },
            ("rest", 0),
        ),
        (
            11,
            View {
                volume: volume("1Gi", &json!({"csi": {"driver": "x", "volumeHandle": "h"}})),
                ..view(claim("2Gi", "", ""), "1Gi")
            },
            ("rest", 0),
        ),
        (12, with_facts(view(claim("2Gi", "", ""), "1Gi"), false, false), ("rest", 0)),
        (13, with_facts(view(claim("2Gi", IN_PROGRESS, "2Gi"), "1Gi"), false, true), ("skip", 2 * GI)),
        // Failures.
        (14, asks(error(tonic::Code::DeadlineExceeded)), ("retry", 0)),
        (15, asks(error(tonic::Code::Internal)), ("failed", 0)),
        (16, asks(error(tonic::Code::OutOfRange)), ("infeasible", 0)),
        // Asked for more while the first size may still be under way: first things first.
        (17, view(claim("3Gi", IN_PROGRESS, "2Gi"), "1Gi"), ("expand", 2 * GI)),
        // The same, but the first attempt is known to have ended.
        (18, View { ended: true, ..view(claim("3Gi", IN_PROGRESS, "2Gi"), "1Gi") }, ("intent", 3 * GI)),
        // Impossible, and the user lowers the wish: the new size.
        (19, view(claim("2Gi", INFEASIBLE, "9Gi"), "1Gi"), ("intent", 2 * GI)),
        // A crash after the volume object was written.
        (20, view(claim("2Gi", IN_PROGRESS, "2Gi"), "2Gi"), ("expand", 2 * GI)),
        // The node is at it.
        (21, view(claim("2Gi", NODE_PENDING, "2Gi"), "2Gi"), ("rest", 0)),
        (22, view(claim("3Gi", NODE_IN_PROGRESS, "2Gi"), "2Gi"), ("rest", 0)),
        (23, view(claim("2Gi", NODE_INFEASIBLE, "2Gi"), "2Gi"), ("intent", 2 * GI)),
        // The node was asked again for this size just now, long ago, for another size; the clock was set back.
        (25, tried(2 * GI, 1), ("retry", 0)),
        (26, tried(2 * GI, 300), ("intent", 2 * GI)),
        (27, tried(3 * GI, 1), ("intent", 2 * GI)),
        (28, tried(2 * GI, -9), ("retry", 0)),
        (24, view(claim("8Ei", "", ""), "1Gi"), ("rest", 0)),
    ];
    for (number, view, wanted) in table {
        let action = decide(&view);
        assert_eq!(short(&action), wanted, "row {number}: {action:?}");
    }
}
