//! Whether a pod with its volumes can be on one node.

use holdfast_api::{affinity, names, nodes};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::StorageClass,
};

use super::reason::Refusal;
use crate::controllers::{
    binder::has_candidate_on,
    view::{Seen, Shared, View},
};

/// A claim that waits for a node, and its class.
pub(crate) type Waiting<'a> = (&'a Shared<PersistentVolumeClaim>, &'a Shared<StorageClass>);

/// What is known of a pod's volumes.
#[derive(Default)]
pub(crate) struct Volumes<'a> {
    /// Those that are there.
    pub(crate) bound: Vec<&'a Shared<PersistentVolume>>,
    /// The claims that get theirs on the node, with their classes.
    pub(crate) waiting: Vec<Waiting<'a>>,
    /// Whether another pod has a claim that is for one pod only.
    pub(crate) taken: bool,
}

/// Why the pod cannot be on the node; `None` when it can.
pub(crate) fn refusal(view: &View, pod: &Pod, volumes: &Volumes<'_>, node: &Seen<Node>) -> Option<Refusal> {
    if volumes.taken {
        return Some(Refusal::OtherPodHasClaim);
    }
    let spec = node.spec.as_ref();
    if spec.and_then(|spec| spec.unschedulable) == Some(true) {
        return Some(Refusal::Unschedulable);
    }
    if !nodes::is_ready(node) {
        return Some(Refusal::NotReady);
    }
    let pod_spec = pod.spec.as_ref();
    let tolerations = pod_spec.and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    if let Some(taint) = nodes::taints(node).iter().find(|taint| {
        taint.effect != "PreferNoSchedule"
            && !tolerations.iter().any(|toleration| nodes::tolerates(toleration, taint))
    }) {
        return Some(Refusal::Taint(format!(
            "{}: {}",
            taint.key,
            taint.value.as_deref().unwrap_or_default()
        )));
    }
    let labels = node.metadata.labels.clone().unwrap_or_default();
    let name = &*node.key.name;
    let selector = pod_spec.and_then(|spec| spec.node_selector.as_ref());
    let required = pod_spec
        .and_then(|spec| spec.affinity.as_ref())
        .and_then(|affinity| affinity.node_affinity.as_ref())
        .and_then(|affinity| affinity.required_during_scheduling_ignored_during_execution.as_ref());
    if selector.is_some_and(|wanted| wanted.iter().any(|(key, value)| labels.get(key) != Some(value)))
        || required.is_some_and(|selector| !affinity::matches(selector, name, &labels))
    {
        return Some(Refusal::Affinity);
    }
    if volumes.bound.iter().any(|volume| !affinity::volume_fits_node(volume, name, &labels)) {
        return Some(Refusal::VolumeAffinity);
    }
    volumes.waiting.iter().find_map(|&waiting| {
        // One that is there already need not be made.
        if has_candidate_on(view, waiting.0, name) {
            None
        } else {
            class_refusal(view, waiting.1, name, &labels)
        }
    })
}

/// Whether a chosen node has nothing for a claim any more that only finds its volume among
/// those made by hand.
pub(crate) fn is_in_vain(view: &View, (claim, class): Waiting<'_>, node: &str) -> bool {
    class.provisioner == names::NO_PROVISIONER && !has_candidate_on(view, claim, node)
}

/// Why a volume of the class cannot be made on the node.
fn class_refusal(
    view: &View,
    class: &StorageClass,
    node: &str,
    labels: &affinity::Labels,
) -> Option<Refusal> {
    if class.provisioner == names::NO_PROVISIONER {
        return Some(Refusal::NoCandidate);
    }
    let allowed = class.allowed_topologies.as_deref().unwrap_or_default();
    let is_allowed = allowed.is_empty()
        || allowed.iter().any(|term| {
            let expressions = term.match_label_expressions.as_deref().unwrap_or_default();
            expressions.iter().all(|e| labels.get(&e.key).is_some_and(|value| e.values.contains(value)))
        });
    if !is_allowed {
        return Some(Refusal::Topology);
    }
    // Only a provisioner that is a CSI driver known here must be on the node.
    let is_driver = view.drivers.get("", &class.provisioner).is_some();
    let registered = view
        .csi_nodes
        .get("", node)
        .is_some_and(|csi_node| csi_node.spec.drivers.iter().any(|driver| driver.name == class.provisioner));
    (is_driver && !registered).then(|| Refusal::NoDriver(class.provisioner.clone()))
}
