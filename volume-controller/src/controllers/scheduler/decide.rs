//! On which node a pod is to be, as far as its volumes and the usual constraints
//! on nodes say. There is no accounting of processors and memory: what runs on a
//! node is not this scheduler's business, where its volumes are is.

use std::collections::BTreeMap;

use holdfast_api::{access, names};
use k8s_openapi::api::core::v1::{Node, PersistentVolume, PersistentVolumeClaim, Pod};

use super::{
    fit::{self, Volumes, Waiting},
    reason::{Reason, Refusal},
};
use crate::{
    controllers::view::{
        At, Relation, Seen, Shared, View, annotation, claim_key, claim_phase, claim_volume, is_deleting,
        is_owned_by, is_terminated, pod_claims, pod_node, waits_for_consumer,
    },
    store::Key,
};

/// The scheduler's own name in `spec.schedulerName`.
const NAME: &str = "default-scheduler";

/// One step for one pod.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Say why the pod waits.
    Wait { pod: At, reason: Reason },
    /// Name the node on all claims that wait for one, in one transaction.
    Choose { claims: Vec<At>, node: String, reason: Reason },
    /// Take the name of a node off a claim that cannot get its volume there.
    Forget { claim: At, reason: Reason },
    /// Bind the pod to the node, if its claims are still as they were looked at.
    Bind { pod: At, node: String, claims: Vec<At>, reason: Reason },
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Wait { reason, .. }
            | Self::Choose { reason, .. }
            | Self::Forget { reason, .. }
            | Self::Bind { reason, .. } => reason,
        }
    }
}

/// Whether the pod waits for this scheduler.
pub(crate) fn is_ours(pod: &Pod) -> bool {
    let spec = pod.spec.as_ref();
    let scheduler = spec.and_then(|spec| spec.scheduler_name.as_deref()).unwrap_or(NAME);
    let is_gated =
        spec.is_some_and(|spec| spec.scheduling_gates.as_ref().is_some_and(|gates| !gates.is_empty()));
    pod_node(pod).is_none()
        && !is_deleting(&pod.metadata)
        && !is_terminated(pod)
        && (scheduler.is_empty() || scheduler == NAME)
        && !is_gated
}

/// What to do for one pod.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    let pod = view.pods.at(key).filter(|pod| is_ours(pod))?;
    let wait = |reason| Some(Action::Wait { pod: pod.at(), reason });
    let mut volumes = Volumes::default();
    let mut looked_at = Vec::new();
    for (name, is_ephemeral) in pod_claims(pod) {
        let Some(claim) = view.claims.at(&claim_key(&key.namespace, &name)) else {
            let missing = if is_ephemeral {
                Reason::EphemeralMissing { claim: name }
            } else {
                Reason::ClaimMissing { claim: name }
            };
            return wait(missing);
        };
        if is_deleting(&claim.metadata) {
            return wait(Reason::ClaimDeleting { claim: name });
        }
        if is_ephemeral && !is_owned_by(claim, &pod.uid) {
            return wait(Reason::EphemeralMissing { claim: name });
        }
        looked_at.push(claim.at());
        if is_taken(view, pod, claim) {
            volumes.taken = true;
        }
        match bound(view, claim) {
            Bound::Yes(volume) => volumes.bound.push(volume),
            Bound::Lost(volume) => return wait(Reason::ClaimLost { claim: name, volume }),
            Bound::No => match view.classes.get("", access::claim_class(claim).unwrap_or_default()) {
                Some(class) if waits_for_consumer(class) && claim_volume(claim).is_none() => {
                    // A pod may name a claim twice.
                    if !volumes.waiting.iter().any(|(known, _)| known.key == claim.key) {
                        volumes.waiting.push((claim, class));
                    }
                }
                _ => return wait(Reason::UnboundImmediate),
            },
        }
    }
    if let Some(action) = under_way(view, pod, &volumes.waiting) {
        return Some(action);
    }
    let node = match best_node(view, pod, &volumes) {
        Ok(node) => node.key.name.to_string(),
        Err(reason) => return wait(reason),
    };
    let waiting = volumes.waiting;
    if waiting.is_empty() {
        let reason = Reason::Assigned { pod: format!("{}/{}", key.namespace, key.name), node: node.clone() };
        return Some(Action::Bind { pod: pod.at(), node, claims: looked_at, reason });
    }
    let claims = waiting.iter().map(|(claim, _)| claim.key.name.to_string()).collect();
    let reason = Reason::Chosen { claims, node: node.clone() };
    Some(Action::Choose { claims: waiting.iter().map(|(claim, _)| claim.at()).collect(), node, reason })
}

/// A node was chosen before: wait for the volumes that are made there, give the same node to
/// the claims that have none yet, or choose again when it is gone.
fn under_way(view: &View, pod: &Seen<Pod>, waiting: &[Waiting<'_>]) -> Option<Action> {
    let chosen =
        |claim: &PersistentVolumeClaim| annotation(&claim.metadata, names::SELECTED_NODE).map(str::to_owned);
    for &(claim, class) in waiting {
        let Some(node) = chosen(claim) else { continue };
        let name = claim.key.name.to_string();
        let reason = if view.nodes.get("", &node).is_none() {
            Reason::NodeGone { claim: name, node }
        } else if fit::is_in_vain(view, (claim, class), &node) {
            Reason::NothingThere { claim: name, node }
        } else {
            continue;
        };
        return Some(Action::Forget { claim: claim.at(), reason });
    }
    let node = waiting.iter().find_map(|(claim, _)| chosen(claim))?;
    let open: Vec<&Shared<PersistentVolumeClaim>> =
        waiting.iter().map(|(claim, _)| *claim).filter(|claim| chosen(claim).is_none()).collect();
    if open.is_empty() {
        let claims = waiting.iter().map(|(claim, _)| claim.key.name.to_string()).collect();
        return Some(Action::Wait { pod: pod.at(), reason: Reason::Provisioning { claims, node } });
    }
    let names = open.iter().map(|claim| claim.key.name.to_string()).collect();
    let claims = open.iter().map(|claim| claim.at()).collect();
    Some(Action::Choose { claims, node: node.clone(), reason: Reason::Chosen { claims: names, node } })
}

enum Bound<'a> {
    Yes(&'a Shared<PersistentVolume>),
    Lost(String),
    No,
}

/// Whether claim and volume both say that they belong together.
fn bound<'a>(view: &'a View, claim: &PersistentVolumeClaim) -> Bound<'a> {
    let Some(name) = claim_volume(claim) else { return Bound::No };
    match (claim_phase(claim), view.volumes.get("", name)) {
        ("Bound", Some(volume)) if access::refers_to(volume, claim) => Bound::Yes(volume),
        ("Bound" | "Lost", _) => Bound::Lost(name.to_owned()),
        _ => Bound::No,
    }
}

/// Whether another pod has the claim, and the claim is for one pod only.
fn is_taken(view: &View, pod: &Seen<Pod>, claim: &Seen<PersistentVolumeClaim>) -> bool {
    let modes = claim.spec.as_ref().and_then(|spec| spec.access_modes.as_deref()).unwrap_or_default();
    modes.iter().any(|mode| mode == "ReadWriteOncePod")
        && view
            .pods_of_claim(&claim.key)
            .any(|other| other.key != pod.key && pod_node(other).is_some() && !is_terminated(other))
}

/// The node with the fewest pods among those that fit; or all the refusals.
fn best_node<'a>(view: &'a View, pod: &Pod, volumes: &Volumes<'_>) -> Result<&'a Shared<Node>, Reason> {
    let mut refusals: BTreeMap<Refusal, usize> = BTreeMap::new();
    let mut best: Option<(usize, &Shared<Node>)> = None;
    let mut nodes = 0;
    for node in view.nodes.iter() {
        nodes += 1;
        match fit::refusal(view, pod, volumes, node) {
            Some(refusal) => *refusals.entry(refusal).or_default() += 1,
            None => {
                let load = view.related(Relation::Runs, &node.key).count();
                if best.is_none_or(|(least, _)| load < least) {
                    best = Some((load, node));
                }
            }
        }
    }
    let none = || Reason::NoNode { nodes, refusals: refusals.into_iter().collect() };
    best.map(|(_, node)| node).ok_or_else(none)
}
