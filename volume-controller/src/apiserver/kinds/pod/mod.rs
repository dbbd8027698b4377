//! Pod: what uses volumes.

mod cells;
mod defaults;
mod qos;
mod rules;
mod update;

use k8s_openapi::api::core::v1::Pod;
use serde_json::{Value, json};

use super::columns::{AGE, NAME, NONE, cell_or, column};
use super::defaults::set;
use super::fields::field;
use super::kind::{Column, Field, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Pod",
    plural: "pods",
    singular: "pod",
    short_names: &["po"],
    categories: &["all"],
    scope: Scope::Namespaced,
    model: Model::of::<Pod>(),
    has_status: true,
    is_graceful: true,
    returns_deleted: true,
    columns: COLUMNS,
    fields: FIELDS,
    default: defaults::default,
    prepare_create,
    validate: rules::validate,
    validate_update: update::validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Ready", "", |pod, _| cells::ready(pod).into()).described("How many containers are ready."),
    column("Status", "", |pod, _| cells::status(pod).into())
        .described("What state the pod is in, in one word."),
    column("Restarts", "", |pod, now| cells::restarts(pod, now).into())
        .described("How often containers were restarted, and when last."),
    AGE,
    column("IP", "", |pod, _| cells::address(pod).into()).described("The address of the pod.").wide(),
    column("Node", "", |pod, _| cell_or(&pod["spec"]["nodeName"], NONE))
        .described("The node of the pod.")
        .wide(),
    column("Nominated Node", "", |pod, _| cell_or(&pod["status"]["nominatedNodeName"], NONE))
        .described("The node that is being made free for the pod.")
        .wide(),
    column("Readiness Gates", "", |pod, _| cells::gates(pod).into())
        .described("How many of the readiness gates are passed.")
        .wide(),
];

const FIELDS: &[Field] = &[
    field!("spec.nodeName"),
    field!("spec.restartPolicy"),
    field!("spec.schedulerName"),
    field!("spec.serviceAccountName"),
    field!("spec.hostNetwork", "false"),
    field!("status.phase"),
    field!("status.podIP"),
    field!("status.nominatedNodeName"),
];

fn prepare_create(pod: &mut Value) {
    let class = qos::class(pod);
    set(pod, &["status"], json!({"phase": "Pending", "qosClass": class}));
}

/// The lists of containers a pod can have.
const CONTAINERS: [&str; 3] = ["initContainers", "containers", "ephemeralContainers"];

#[cfg(test)]
mod tests;
