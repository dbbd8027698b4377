//! `pods/binding`: the one way to give a pod its node.

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use super::update::{ATTEMPTS, current};
use crate::apiserver::status::{self, ApiError};
use crate::apiserver::{body, reply, size};
use crate::lifecycle;
use crate::store::{CommitError, Precondition};

pub(super) async fn bind(call: &Call) -> Result<Response, ApiError> {
    let target = &call.target;
    let is_dry_run = call.options.is_dry_run(target.kind)?;
    let binding = body::decode(&call.headers, &call.body)?.value;
    let mut attempt = 1;
    loop {
        let old = current(&call.api.store, target)?;
        let before: Value = reply::decode(&old)?;
        let pod = place(call, before.clone(), &binding, Timestamp::now())?;
        size::check(Some(&before), &pod)?;
        if !is_dry_run {
            let write = lifecycle::update(target.key(), Precondition::Revision(old.revision), pod);
            match call.api.store.commit(vec![write]).await {
                Ok(_) => {}
                Err(CommitError::Conflict { .. }) if attempt < ATTEMPTS => {
                    attempt += 1;
                    continue;
                }
                Err(error) => return Err(ApiError::from_commit(error, target.kind, &target.name)),
            }
        }
        let success = json!({
            "kind": "Status", "apiVersion": "v1", "metadata": {}, "status": "Success", "code": 201,
        });
        return reply::other(call, StatusCode::CREATED, &success);
    }
}

/// The pod on the node that the binding names.
fn place(call: &Call, mut pod: Value, binding: &Value, now: Timestamp) -> Result<Value, ApiError> {
    let (kind, name) = (call.target.kind, call.target.name.as_str());
    let node = binding["target"]["name"].as_str().unwrap_or_default();
    if node.is_empty() {
        return Err(ApiError::BadRequest("target.name: Required value: the name of a node".to_owned()));
    }
    if !matches!(binding["target"]["kind"].as_str(), None | Some("" | "Node" | "Minion")) {
        return Err(ApiError::BadRequest("target.kind: Unsupported value: must be Node".to_owned()));
    }
    let asked = binding["metadata"]["uid"].as_str().unwrap_or_default();
    if !asked.is_empty() && pod["metadata"]["uid"] != asked {
        return Err(ApiError::conflict(kind, name, status::MODIFIED));
    }
    if !pod["metadata"]["deletionTimestamp"].is_null() {
        let why = format!("pod {name} is being deleted, cannot be assigned to a host");
        return Err(ApiError::conflict(kind, name, why));
    }
    let current = pod["spec"]["nodeName"].as_str().unwrap_or_default();
    if !current.is_empty() {
        let why = format!("pod {name} is already assigned to node {current:?}");
        return Err(ApiError::conflict(kind, name, why));
    }
    pod["spec"]["nodeName"] = json!(node);
    lifecycle::count_generation(&mut pod);
    if let Some(annotations) = binding["metadata"]["annotations"].as_object() {
        for (key, value) in annotations {
            pod["metadata"]["annotations"][key.as_str()] = value.clone();
        }
    }
    let time = json!(lifecycle::time(now));
    let scheduled = json!({"type": "PodScheduled", "status": "True", "lastTransitionTime": time});
    let before = pod["status"]["conditions"].as_array().cloned().unwrap_or_default();
    let others = before.into_iter().filter(|condition| condition["type"] != "PodScheduled");
    pod["status"]["conditions"] = Value::Array(others.chain([scheduled]).collect());
    Ok(pod)
}
