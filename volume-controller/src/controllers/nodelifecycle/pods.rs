//! What becomes of the pods of a node that is tainted, shut down or gone.

use holdfast_api::nodes::{self, NO_EXECUTE};
use k8s_openapi::api::core::v1::{Node, Pod};

use super::{
    decide::{Action, Decision, Proof},
    pulse::Heard,
    reason::Reason,
};
use crate::{
    controllers::view::{Relation, Seen, Shared, View, is_deleting, is_terminated},
    store::Key,
};

/// Those on a node that is there.
pub(super) fn of(view: &View, node: &Seen<Node>, heard: &Heard) -> Decision {
    let is_out_of_service = nodes::is_out_of_service(node);
    let mut decision = Decision::default();
    if nodes::is_ready(node) && heard.taints.is_empty() {
        return decision;
    }
    for pod in on(view, &node.key) {
        let name = format!("{}/{}", pod.key.namespace, pod.key.name);
        let node_name = node.key.name.to_string();
        if !is_deleting(&pod.metadata) {
            if !is_terminated(pod) && must_go(pod, node, heard) {
                let reason = Reason::Evicted { pod: name };
                decision.actions.push(Action::Evict { pod: pod.at(), node: node.at(), reason });
            }
        } else if is_out_of_service {
            let reason = Reason::OutOfService { pod: name, node: node_name };
            let proof = Proof::OutOfService { node: node.at() };
            decision.actions.push(Action::Remove { pod: pod.at(), proof, reason });
        } else if nodes::condition(node, "Ready") == Some("Unknown") {
            decision.tells.insert((pod.key.clone(), Reason::Stuck { node: node_name }));
        }
    }
    decision
}

/// Those on a node that is gone. Its attachments stay: that the object is gone does not say that the machine is.
pub(super) fn orphaned(view: &View, node: &Key) -> Decision {
    let removal = |pod: &Shared<Pod>| {
        let name = format!("{}/{}", pod.key.namespace, pod.key.name);
        let reason = Reason::NodeGone { pod: name, node: node.name.to_string() };
        Action::Remove { pod: pod.at(), proof: Proof::Gone { node: node.clone() }, reason }
    };
    let attachments = view.related(Relation::Attached, node).filter_map(|key| view.attachments.at(key));
    let attachments = attachments.filter(|attachment| !is_deleting(&attachment.metadata));
    let told = attachments.map(|attachment| {
        let name = attachment.key.name.to_string();
        (attachment.key.clone(), Reason::StaysAttached { attachment: name, node: node.name.to_string() })
    });
    Decision { actions: on(view, node).map(removal).collect(), tells: told.collect() }
}

/// The pods of a node, without those whose end waits for finalizers only.
fn on<'a>(view: &'a View, node: &Key) -> impl Iterator<Item = &'a Shared<Pod>> {
    let pods = view.related(Relation::Runs, node).filter_map(|key| view.pods.at(key));
    pods.filter(|pod| !(is_deleting(&pod.metadata) && pod.metadata.deletion_grace_period_seconds == Some(0)))
}

/// Whether the pod does not tolerate a taint, or not any longer.
fn must_go(pod: &Pod, node: &Node, heard: &Heard) -> bool {
    let tolerations = pod.spec.as_ref().and_then(|spec| spec.tolerations.as_deref()).unwrap_or_default();
    nodes::taints(node).iter().filter(|taint| taint.effect == NO_EXECUTE).any(|taint| {
        let found = tolerations.iter().find(|toleration| nodes::tolerates(toleration, taint));
        let Some(toleration) = found else { return true };
        // Without a time it tolerates for ever.
        let Some(seconds) = toleration.toleration_seconds else { return false };
        let had = heard.taints.get(&taint.key).copied().unwrap_or_default();
        i64::try_from(had.as_secs()).unwrap_or(i64::MAX) >= seconds
    })
}
