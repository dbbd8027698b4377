//! Node.

use k8s_openapi::api::core::v1::Node;
use serde_json::Value;

use super::check::{Checks, entries, list, text};
use super::columns::{AGE, NAME, NONE, UNKNOWN, cell_or, cell_text, column};
use super::defaults::{each, fill_text, nothing};
use super::fields::field;
use super::kind::{Cause, Column, Field, Kind, Model, Scope};
use super::names::qualified_problem;

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Node",
    plural: "nodes",
    singular: "node",
    short_names: &["no"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<Node>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: FIELDS,
    default,
    prepare_create: nothing,
    validate,
    validate_update,
};

const FIELDS: &[Field] = &[field!("spec.unschedulable", "false")];

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "", |node, _| status(node).into()).described("The status of the node"),
    column("Roles", "", |node, _| roles(node).into()).described("The roles of the node"),
    AGE,
    column("Version", "", |node, _| cell_text(&node["status"]["nodeInfo"]["kubeletVersion"]))
        .described("The version of what runs the node."),
    column("Internal-IP", "", |node, _| address(node, "InternalIP").into())
        .described("The address inside the cluster.")
        .wide(),
    column("External-IP", "", |node, _| address(node, "ExternalIP").into())
        .described("The address from outside.")
        .wide(),
    column("OS-Image", "", |node, _| cell_or(&node["status"]["nodeInfo"]["osImage"], UNKNOWN))
        .described("The operating system.")
        .wide(),
    column("Kernel-Version", "", |node, _| cell_or(&node["status"]["nodeInfo"]["kernelVersion"], UNKNOWN))
        .described("The kernel.")
        .wide(),
    column("Container-Runtime", "", |node, _| {
        cell_or(&node["status"]["nodeInfo"]["containerRuntimeVersion"], UNKNOWN)
    })
    .described("The container runtime.")
    .wide(),
];

fn status(node: &Value) -> String {
    let ready = list(&node["status"]["conditions"]).iter().find(|condition| condition["type"] == "Ready");
    let ready = match ready.map(|condition| text(&condition["status"])) {
        Some("True") => "Ready",
        Some(_) => "NotReady",
        None => "Unknown",
    };
    let cordoned = if node["spec"]["unschedulable"] == true { ",SchedulingDisabled" } else { "" };
    format!("{ready}{cordoned}")
}

fn roles(node: &Value) -> String {
    let mut roles: Vec<&str> = entries(&node["metadata"]["labels"])
        .filter_map(|(key, value)| match key.strip_prefix("node-role.kubernetes.io/") {
            Some("") | None if key == "kubernetes.io/role" => Some(text(value)),
            Some("") | None => None,
            role => role,
        })
        .filter(|role| !role.is_empty())
        .collect();
    roles.sort_unstable();
    roles.dedup();
    if roles.is_empty() { NONE.to_owned() } else { roles.join(",") }
}

fn address(node: &Value, kind: &str) -> String {
    let found = list(&node["status"]["addresses"]).iter().find(|address| address["type"] == kind);
    found.map_or(NONE, |address| text(&address["address"])).to_owned()
}

fn default(node: &mut Value) {
    for taint in each(node, "/spec/taints") {
        fill_text(taint, &["effect"], "NoSchedule");
    }
}

fn validate(node: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let taints = list(&node["spec"]["taints"]);
    for (index, taint) in taints.iter().enumerate() {
        let field = format!("spec.taints[{index}]");
        if let Some(problem) = qualified_problem(text(&taint["key"])) {
            checks.invalid(format!("{field}.key"), &taint["key"], problem);
        }
        checks.one_of(
            format!("{field}.effect"),
            &taint["effect"],
            &["NoSchedule", "PreferNoSchedule", "NoExecute"],
        );
        if taints[..index]
            .iter()
            .any(|other| other["key"] == taint["key"] && other["effect"] == taint["effect"])
        {
            checks.duplicate(field, taint);
        }
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let (id, before) = (&new["spec"]["providerID"], &old["spec"]["providerID"]);
    if !text(before).is_empty() && id != before {
        checks
            .forbidden("spec.providerID", "node updates may not change providerID except from \"\" to valid");
    }
    let (ranges, given) = (&new["spec"]["podCIDRs"], &old["spec"]["podCIDRs"]);
    if !list(given).is_empty() && ranges != given {
        checks.forbidden("spec.podCIDRs", "node updates may not change podCIDR except from \"\" to valid");
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        let node = |taints: Value| {
            let mut node = json!({"metadata": {"name": "n"}, "spec": {"taints": taints}});
            default(&mut node);
            node
        };
        assert_eq!(validate(&node(json!([{"key": "a", "effect": "NoSchedule"}]))), []);
        assert_eq!(
            lines(&validate(&node(json!([{"key": "a", "effect": "Never"}])))),
            [
                r#"spec.taints[0].effect: NotSupported: "Never": supported values: "NoSchedule", "PreferNoSchedule", "NoExecute""#
            ]
        );
        let twice = json!([{"key": "a", "effect": "NoSchedule"}, {"key": "a", "effect": "NoSchedule"}]);
        assert_eq!(validate(&node(twice))[0].field, "spec.taints[1]");
        let with_id = |id: &str| json!({"spec": {"providerID": id}});
        assert_eq!(validate_update(&with_id("a"), &with_id("")), []);
        assert_eq!(validate_update(&with_id("b"), &with_id("a"))[0].field, "spec.providerID");
    }

    #[test]
    fn cells() {
        let node = json!({
            "metadata": {"labels": {"node-role.kubernetes.io/storage": "", "kubernetes.io/role": "db", "a": "b"}},
            "spec": {"unschedulable": true},
            "status": {"conditions": [{"type": "Ready", "status": "True"}], "addresses": [{"type": "InternalIP", "address": "10.0.0.1"}]},
        });
        assert_eq!(status(&node), "Ready,SchedulingDisabled");
        assert_eq!(status(&json!({})), "Unknown");
        assert_eq!(roles(&node), "db,storage");
        assert_eq!(address(&node, "InternalIP"), "10.0.0.1");
        assert_eq!(address(&node, "ExternalIP"), "<none>");
        assert_eq!((FIELDS[0].value)(&node), "true");
        assert_eq!((FIELDS[0].value)(&json!({})), "false");
    }
}
