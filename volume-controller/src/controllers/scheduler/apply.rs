//! Binds pods to nodes and names nodes on claims.

use holdfast_api::names;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::{decide::Action, reason::Reason};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
    },
    lifecycle,
    store::Key,
};

const COMPONENT: &str = "default-scheduler";

/// Does one action for one pod, in one transaction.
pub(crate) async fn apply(io: &Io, pod: &Key, action: Action) -> Outcome {
    let reason = action.reason().clone();
    let outcome = match action {
        Action::Wait { pod, .. } => match io.edit(&pod, |body| condition(body, Err(&reason))) {
            // The condition says it already.
            Some(write) if is_same(io, &pod.key, write.body.as_ref()) => Outcome::Settled,
            write => io.commit(vec![write]).await,
        },
        Action::Choose { claims, node, .. } => {
            let writes = claims.iter().map(|claim| {
                io.edit(claim, |body| body["metadata"]["annotations"][names::SELECTED_NODE] = json!(node))
            });
            io.commit(writes.collect()).await
        }
        Action::Forget { claim, .. } => {
            let write = io.edit(&claim, |body| {
                if let Some(annotations) = body["metadata"]["annotations"].as_object_mut() {
                    annotations.remove(names::SELECTED_NODE);
                }
            });
            io.commit(vec![write]).await
        }
        Action::Bind { pod, node, claims, .. } => {
            let write = io.edit(&pod, |body| {
                body["spec"]["nodeName"] = json!(node);
                condition(body, Ok(()));
            });
            // A claim whose deletion began meanwhile is not in use by anybody yet, and
            // its protection may end at any moment: the pod must not come to it then.
            io.commit_guarded(&claims, vec![write]).await
        }
    };
    if outcome == Outcome::Again {
        return outcome;
    }
    let severity = if reason.name() == "FailedScheduling" { Severity::Warning } else { Severity::Normal };
    if outcome == Outcome::Wrote || severity == Severity::Warning {
        let message = reason.to_string();
        io.recorder.tell(News {
            about: pod.clone(),
            component: COMPONENT,
            severity,
            reason: reason.name(),
            message,
        });
    }
    outcome
}

fn is_same(io: &Io, key: &Key, body: Option<&Value>) -> bool {
    let current = io.store.get(key).and_then(|object| object.decode::<Value>().ok());
    current.as_ref() == body
}

/// Sets the pod's condition `PodScheduled`; one that says the same already stays as it is.
fn condition(body: &mut Value, result: Result<(), &Reason>) {
    let now = lifecycle::time(Timestamp::now());
    let mut condition = json!({"type": "PodScheduled", "status": "True"});
    if let Err(reason) = result {
        condition = json!({
            "type": "PodScheduled", "status": "False", "reason": "Unschedulable", "message": reason.to_string(),
        });
    }
    let conditions = &mut body["status"]["conditions"];
    if conditions.is_null() {
        *conditions = json!([]);
    }
    let Some(list) = conditions.as_array_mut() else { return };
    let old = list.iter().position(|entry| entry["type"] == "PodScheduled");
    let same = |old: &Value| {
        ["status", "reason", "message"].iter().all(|field| old.get(field) == condition.get(field))
    };
    match old {
        Some(at) if same(&list[at]) => {}
        Some(at) => {
            condition["lastTransitionTime"] = if list[at]["status"] == condition["status"] {
                list[at]["lastTransitionTime"].clone()
            } else {
                json!(now)
            };
            list[at] = condition;
        }
        None => {
            condition["lastTransitionTime"] = json!(now);
            list.push(condition);
        }
    }
}
