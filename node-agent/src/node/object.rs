//! What a Node object should say. Pure.

use std::collections::BTreeMap;

use holdfast_api::names::HOSTNAME_LABEL;
use k8s_openapi::{
    api::core::v1::{Node, NodeSpec},
    apimachinery::pkg::apis::meta::v1::Time,
};
use kube::api::ObjectMeta;
use serde_json::{Value, json};

use super::facts::Facts;

const PODS: &str = "110";

fn labels(facts: &Facts) -> BTreeMap<String, String> {
    [
        (HOSTNAME_LABEL, facts.name.as_str()),
        ("kubernetes.io/os", "linux"),
        ("kubernetes.io/arch", &facts.architecture),
    ]
    .into_iter()
    .map(|(key, value)| (key.to_owned(), value.to_owned()))
    .collect()
}

/// A Node object as the agent makes it.
pub(crate) fn fresh(facts: &Facts) -> Node {
    Node {
        metadata: ObjectMeta {
            name: Some(facts.name.clone()),
            labels: Some(labels(facts)),
            ..ObjectMeta::default()
        },
        spec: Some(NodeSpec::default()),
        status: None,
    }
}

/// A merge patch with the labels that are missing. A label that somebody set to another value is
/// theirs, as kubelet leaves it.
pub(crate) fn missing_labels(facts: &Facts, present: &BTreeMap<String, String>) -> Option<Value> {
    let mut missing = labels(facts);
    missing.retain(|key, _| !present.contains_key(key));
    (!missing.is_empty()).then(|| json!({"metadata": {"labels": missing}}))
}

/// The status as a strategic merge patch: it touches no field that others write, above all not
/// `volumesInUse` (the volume loop's) and `volumesAttached` (the attach-detach controller's).
pub(crate) fn status_patch(facts: &Facts, node: &Node, now: &Time) -> Value {
    let conditions = node.status.as_ref().and_then(|s| s.conditions.as_deref()).unwrap_or_default();
    let since = conditions
        .iter()
        .find(|c| c.type_ == "Ready" && c.status == "True")
        .and_then(|c| c.last_transition_time.clone())
        .unwrap_or_else(|| now.clone());
    let mut addresses: Vec<Value> =
        facts.addresses.iter().map(|a| json!({"type": "InternalIP", "address": a})).collect();
    addresses.push(json!({"type": "Hostname", "address": facts.host_name}));
    let resources = json!({
        "cpu": facts.cpus.to_string(),
        "memory": format!("{}Ki", facts.memory / 1024),
        "pods": PODS,
    });
    json!({
        "metadata": {"uid": node.metadata.uid},
        "status": {
            "addresses": addresses,
            "allocatable": resources,
            "capacity": resources,
            "conditions": [{
                "type": "Ready",
                "status": "True",
                "reason": "NodeAgentReady",
                "message": "the node agent serves the volumes of this node; no containers run here",
                "lastHeartbeatTime": now,
                "lastTransitionTime": since,
            }],
            "nodeInfo": {
                "architecture": facts.architecture,
                "bootID": facts.boot_id,
                "containerRuntimeVersion": "",
                "kernelVersion": facts.kernel,
                "kubeProxyVersion": "",
                "kubeletVersion": concat!("holdfast-v", env!("CARGO_PKG_VERSION")),
                "machineID": facts.machine_id,
                "operatingSystem": "linux",
                "osImage": facts.os_image,
                "systemUUID": facts.system_uuid,
            },
        }
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn facts() -> Facts {
        Facts {
            name: "n1".into(),
            architecture: "amd64".into(),
            addresses: vec!["10.0.0.1".into()],
            ..Facts::default()
        }
    }

    #[test]
    fn only_missing_labels_are_added() {
        let mut present = labels(&facts());
        assert_eq!(missing_labels(&facts(), &present), None);
        present.insert(HOSTNAME_LABEL.to_owned(), "mine".to_owned());
        present.remove("kubernetes.io/os");
        assert_eq!(
            missing_labels(&facts(), &present),
            Some(json!({"metadata": {"labels": {"kubernetes.io/os": "linux"}}}))
        );
    }

    #[test]
    fn a_heartbeat_keeps_the_transition_time() {
        let now = Time("2026-01-02T00:00:00Z".parse().unwrap());
        let node: Node = serde_json::from_value(json!({
            "metadata": {"name": "n1", "uid": "u"},
            "status": {"conditions": [
                {"type": "Ready", "status": "True", "lastTransitionTime": "2026-01-01T00:00:00Z"}
            ]}
        }))
        .unwrap();
        let patch = status_patch(&facts(), &node, &now);
        let ready = &patch["status"]["conditions"][0];
        assert_eq!(ready["lastTransitionTime"], "2026-01-01T00:00:00Z");
        assert_eq!(ready["lastHeartbeatTime"], "2026-01-02T00:00:00Z");
        assert_eq!(patch["metadata"]["uid"], "u");
        assert!(patch["status"].get("volumesInUse").is_none());
    }
}
