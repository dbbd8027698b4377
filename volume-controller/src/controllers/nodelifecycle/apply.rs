//! Carries out what was decided for a node and its pods.

use futures::future::join_all;
use holdfast_api::nodes::NO_EXECUTE;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{
    decide::{Action, Decision, Named, Proof},
    metrics::{RemovedLabel, ZoneLabel},
    reason::Reason,
};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        recorder::News,
        view::At,
    },
    lifecycle,
    store::{Guard, Key, Precondition, Write},
};

const COMPONENT: &str = "node-controller";

/// Does all actions for one node. What was not done because something changed is decided anew.
pub(crate) async fn apply(io: &Io, node: &Key, decision: Decision) -> Outcome {
    let news = io.pulses.news(node, decision.tells);
    news.into_iter().for_each(|(about, reason)| tell(io, about, &reason));
    // Each pod for itself: one that changed keeps no other. At once, so that the store commits them together.
    let outcomes = join_all(decision.actions.into_iter().map(|action| step(io, action))).await;
    if outcomes.contains(&Outcome::Again) {
        return Outcome::Again;
    }
    outcomes.into_iter().next().unwrap_or(Outcome::Settled)
}

async fn step(io: &Io, action: Action) -> Outcome {
    match action {
        Action::Mark { node, lease, unknown, add, remove, evicts, news } => {
            let write = io.edit(&node, |body| mark(body, &unknown, &add, &remove));
            // A lease that is renewed at this moment is a sign of life.
            let outcome = io.commit_guarded(lease.as_slice(), vec![write]).await;
            if outcome != Outcome::Again {
                if let Some(zone) = evicts {
                    io.pulses.evicts(&zone);
                    io.metrics.nodes.evictions.get_or_create(&ZoneLabel { zone }).inc();
                }
                news.into_iter().for_each(|(about, reason)| tell(io, about, &reason));
            }
            outcome
        }
        Action::Evict { pod, node, reason } => {
            let condition = ("DeletionByTaintManager", "Taint manager: deleting due to NoExecute taint");
            let write = deletion(io, &pod, condition, false);
            let guard = Guard { key: node.key, precondition: Precondition::Revision(node.revision) };
            let outcome = io.commit_if(vec![guard], vec![write]).await;
            if outcome != Outcome::Again {
                io.metrics.nodes.evicted_pods.inc();
                tell(io, pod.key, &reason);
            }
            outcome
        }
        Action::Remove { pod, proof, reason } => {
            let (guard, condition, metric) = match proof {
                Proof::Gone { node } => (
                    Guard { key: node, precondition: Precondition::Absent },
                    ("DeletionByPodGC", "PodGC: node no longer exists"),
                    "orphaned",
                ),
                Proof::OutOfService { node } => (
                    Guard { key: node.key, precondition: Precondition::Revision(node.revision) },
                    ("DeletionByPodGC", "PodGC: node is out of service"),
                    "out-of-service",
                ),
            };
            let write = deletion(io, &pod, condition, true);
            let outcome = io.commit_if(vec![guard], vec![write]).await;
            if outcome != Outcome::Again {
                // Not an Event: nothing is there any more that it could be about.
                tracing::warn!(pod = %pod.key, "{reason}");
                let label = RemovedLabel { namespace: pod.key.namespace.to_string(), reason: metric };
                io.metrics.nodes.removed_pods.get_or_create(&label).inc();
            }
            outcome
        }
    }
}

/// Sets conditions to unknown, and adds and removes taints.
fn mark(body: &mut Value, unknown: &[&str], add: &[Named], remove: &[Named]) {
    let now = lifecycle::time(Timestamp::now());
    if !unknown.is_empty() {
        edit_list(&mut body["status"]["conditions"], |list| {
            unknown.iter().for_each(|kind| forget(list, kind, &now));
        });
    }
    if add.is_empty() && remove.is_empty() {
        return;
    }
    edit_list(&mut body["spec"]["taints"], |taints| {
        taints.retain(|taint| {
            !remove.iter().any(|(key, effect)| taint["key"] == **key && taint["effect"] == **effect)
        });
        taints.extend(add.iter().map(|(key, effect)| match *effect {
            NO_EXECUTE => json!({"key": key, "effect": effect, "timeAdded": now}),
            _ => json!({"key": key, "effect": effect}),
        }));
    });
    if let Some(spec) = body["spec"].as_object_mut()
        && spec.get("taints").and_then(Value::as_array).is_some_and(Vec::is_empty)
    {
        spec.remove("taints");
    }
}

/// Sets one condition to unknown.
fn forget(conditions: &mut Vec<Value>, kind: &str, now: &str) {
    let found = conditions.iter_mut().find(|condition| condition["type"] == *kind);
    if let Some(condition) = found {
        condition["status"] = json!("Unknown");
        condition["reason"] = json!("NodeStatusUnknown");
        condition["message"] = json!("Kubelet stopped posting node status.");
        condition["lastTransitionTime"] = json!(now);
    } else {
        conditions.push(json!({
            "type": kind, "status": "Unknown", "reason": "NodeStatusNeverUpdated",
            "message": "Kubelet never posted node status.", "lastTransitionTime": now,
        }));
    }
}

/// Edits the list at a place, made where there is none.
fn edit_list(at: &mut Value, edit: impl FnOnce(&mut Vec<Value>)) {
    let mut list = match at.take() {
        Value::Array(list) => list,
        _ => Vec::new(),
    };
    edit(&mut list);
    *at = Value::Array(list);
}

/// The deletion of a pod as it was when it was decided on, with the reason among its conditions (KEP-3329): graceful, or at once
/// and as failed where nobody will end it any more. `None` when it changed since.
fn deletion(io: &Io, at: &At, (reason, message): (&str, &str), is_forced: bool) -> Option<Write> {
    let object = io.store.get(&at.key).filter(|object| object.revision == at.revision)?;
    let mut body: Value = object.decode().ok()?;
    let now = Timestamp::now();
    edit_list(&mut body["status"]["conditions"], |conditions| {
        conditions.retain(|condition| condition["type"] != "DisruptionTarget");
        conditions.push(json!({
            "type": "DisruptionTarget", "status": "True", "reason": reason, "message": message,
            "lastTransitionTime": lifecycle::time(now),
        }));
    });
    let is_over = matches!(body["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if is_forced && !is_over {
        body["status"]["phase"] = json!("Failed");
    }
    let grace = if is_forced { 0 } else { lifecycle::own_grace(&at.key.resource, &body) };
    Some(lifecycle::delete(at.key.clone(), Precondition::Revision(at.revision), body, grace, now))
}

fn tell(io: &Io, about: Key, reason: &Reason) {
    io.recorder.tell(News {
        about,
        component: COMPONENT,
        severity: reason.severity(),
        reason: reason.name(),
        message: reason.to_string(),
    });
}
