//! How a pod is printed.

use jiff::Timestamp;
use serde_json::Value;

use super::super::check::{list, text};
use super::super::columns::{NONE, human};

/// Set in `status.reason` when the pod's node does not answer any more.
const NODE_LOST: &str = "NodeLost";

/// An init container that goes on beside the others.
fn is_sidecar(container: &Value) -> bool {
    container["restartPolicy"] == "Always"
}

/// The sidecar among the init containers to which a status belongs.
fn is_sidecar_status(pod: &Value, status: &Value) -> bool {
    list(&pod["spec"]["initContainers"]).iter().any(|c| c["name"] == status["name"] && is_sidecar(c))
}

fn has_condition(pod: &Value, kind: &str) -> bool {
    list(&pod["status"]["conditions"]).iter().any(|c| c["type"] == kind && c["status"] == "True")
}

/// `1/2`
pub(super) fn ready(pod: &Value) -> String {
    let sidecars = list(&pod["spec"]["initContainers"]).iter().filter(|c| is_sidecar(c)).count();
    let total = list(&pod["spec"]["containers"]).len() + sidecars;
    let running = |status: &&Value| status["ready"] == true && status["state"]["running"].is_object();
    let sidecars = list(&pod["status"]["initContainerStatuses"])
        .iter()
        .filter(|status| {
            is_sidecar_status(pod, status) && status["started"] == true && status["ready"] == true
        })
        .count();
    let ready = list(&pod["status"]["containerStatuses"]).iter().filter(running).count();
    format!("{}/{total}", ready + sidecars)
}

/// What a person wants to know first: why it waits, how it ended, that it goes.
pub(super) fn status(pod: &Value) -> String {
    let mut reason = match text(&pod["status"]["reason"]) {
        "" => text(&pod["status"]["phase"]).to_owned(),
        reason => reason.to_owned(),
    };
    let scheduled = |c: &&Value| c["type"] == "PodScheduled" && c["reason"] == "SchedulingGated";
    if list(&pod["status"]["conditions"]).iter().any(|c| scheduled(&c)) {
        reason = "SchedulingGated".to_owned();
    }
    match initializing(pod) {
        Some(why) => reason = why,
        None => reason = containers(pod, reason),
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let ended = ["Failed", "Succeeded"].contains(&text(&pod["status"]["phase"]));
        if pod["status"]["reason"] == NODE_LOST {
            reason = "Unknown".to_owned();
        } else if !ended {
            reason = "Terminating".to_owned();
        }
    }
    reason
}

/// The first init container that is not done, if there is one.
fn initializing(pod: &Value) -> Option<String> {
    let total = list(&pod["spec"]["initContainers"]).len();
    for (index, status) in list(&pod["status"]["initContainerStatuses"]).iter().enumerate() {
        let state = &status["state"];
        if state["terminated"]["exitCode"] == 0
            || (is_sidecar_status(pod, status) && status["started"] == true)
        {
            continue;
        }
        if state["terminated"].is_object() {
            return Some(format!("Init:{}", ended(&state["terminated"])));
        }
        let waiting = text(&state["waiting"]["reason"]);
        if !waiting.is_empty() && waiting != "PodInitializing" {
            return Some(format!("Init:{waiting}"));
        }
        return Some(format!("Init:{index}/{total}"));
    }
    None
}

fn ended(terminated: &Value) -> String {
    match (text(&terminated["reason"]), terminated["signal"].as_i64().unwrap_or(0)) {
        ("", 0) => format!("ExitCode:{}", terminated["exitCode"].as_i64().unwrap_or(0)),
        ("", signal) => format!("Signal:{signal}"),
        (reason, _) => reason.to_owned(),
    }
}

fn containers(pod: &Value, mut reason: String) -> String {
    let mut runs = false;
    for status in list(&pod["status"]["containerStatuses"]).iter().rev() {
        let state = &status["state"];
        let waiting = text(&state["waiting"]["reason"]);
        if !waiting.is_empty() {
            reason = waiting.to_owned();
        } else if state["terminated"].is_object() {
            reason = ended(&state["terminated"]);
        } else if status["ready"] == true && state["running"].is_object() {
            runs = true;
        }
    }
    // One container that ended does not make a pod that runs completed.
    if reason == "Completed" && runs {
        reason = if has_condition(pod, "Ready") { "Running" } else { "NotReady" }.to_owned();
    }
    reason
}

/// `3 (5m ago)`
pub(super) fn restarts(pod: &Value, now: Timestamp) -> String {
    let init = list(&pod["status"]["initContainerStatuses"]);
    let init_done = initializing(pod).is_none();
    let counted: Vec<&Value> = match init_done {
        true => init
            .iter()
            .filter(|status| is_sidecar_status(pod, status))
            .chain(list(&pod["status"]["containerStatuses"]))
            .collect(),
        false => init.iter().collect(),
    };
    let total: i64 = counted.iter().filter_map(|status| status["restartCount"].as_i64()).sum();
    let last = counted
        .iter()
        .filter_map(|status| text(&status["lastState"]["terminated"]["finishedAt"]).parse::<Timestamp>().ok())
        .max();
    match last {
        Some(last) if total > 0 => format!("{total} ({} ago)", human(now.as_second() - last.as_second())),
        _ => total.to_string(),
    }
}

/// The first address.
pub(super) fn address(pod: &Value) -> String {
    let first = list(&pod["status"]["podIPs"]).first().map_or("", |ip| text(&ip["ip"]));
    let single = text(&pod["status"]["podIP"]);
    [first, single].into_iter().find(|ip| !ip.is_empty()).unwrap_or(NONE).to_owned()
}

/// `1/2`, or nothing when there are no gates.
pub(super) fn gates(pod: &Value) -> String {
    let gates = list(&pod["spec"]["readinessGates"]);
    if gates.is_empty() {
        return NONE.to_owned();
    }
    let passed = gates.iter().filter(|gate| has_condition(pod, text(&gate["conditionType"]))).count();
    format!("{passed}/{}", gates.len())
}
