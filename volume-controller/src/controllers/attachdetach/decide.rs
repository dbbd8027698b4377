//! Which volumes must be attached to a node, and which need not be any more.
//!
//! Wanted is what a pod bound to the node uses, as long as the pod's object is
//! there and has not ended. An attachment goes only when nobody wants it *and* the node
//! has let go of the volume ([`super::release`]), so nothing is detached that is still mounted.

use std::collections::{BTreeMap, BTreeSet};

use holdfast_api::attachment::{Machine, attachment_name, unique_volume_name};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, Pod},
    storage::v1::VolumeAttachment,
};

use super::{
    reason::Reason,
    release::{self, Fate},
};
use crate::{
    controllers::view::{
        ATTACHMENTS, At, Relation, Seen, Shared, View, claim_key, claim_phase, claim_ref, claim_ref_key,
        claim_volume, csi_source, is_deleting, is_terminated, pod_claims, pod_node, volume_modes,
    },
    store::Key,
};

/// One step for one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Create the attachment, for the machine that the node is now (its boot and its id).
    Attach {
        name: String,
        driver: String,
        volume: String,
        node: String,
        machine: Option<(String, String)>,
        reason: Reason,
    },
    /// Begin the deletion of the attachment; the attacher detaches. There is always a [`Action::Report`]
    /// with it: both are one transaction, which rests on the node's list of volumes in use
    /// as it was decided on.
    Detach { attachment: At, reason: Reason },
    /// Tell why a pod waits, or an attachment stays.
    Tell { about: Key, reason: Reason },
    /// Bring `status.volumesAttached` up to date, and tell the pods whose volumes are new in it.
    Report { node: At, attached: Vec<String>, news: Vec<(Key, Reason)>, reason: Reason },
}

/// A volume that pods on the node use.
struct Wanted<'a> {
    volume: &'a Shared<PersistentVolume>,
    driver: &'a str,
    pods: Vec<&'a Shared<Pod>>,
}

impl Wanted<'_> {
    fn tell(&self, reason: &Reason) -> impl Iterator<Item = Action> {
        self.pods.iter().map(|pod| Action::Tell { about: pod.key.clone(), reason: reason.clone() })
    }
}

/// What to do for one node.
pub(crate) fn decide(view: &View, node_key: &Key) -> Vec<Action> {
    let Some(node) = view.nodes.at(node_key) else { return Vec::new() };
    let node_name = &*node_key.name;
    let wanted = wanted(view, node_key);
    let mut actions = Vec::new();
    for (name, wanted) in &wanted {
        let volume = wanted.volume.key.name.to_string();
        if let Some(attachment) = view.attachments.get("", name) {
            // Also one that is going: its successor comes when it is gone.
            let failed = failure(attachment).map(|message| Reason::Failed { volume, message });
            if let Some(reason) = release::of_another_machine(node, attachment).or(failed) {
                actions.extend(wanted.tell(&reason));
            }
            continue;
        }
        match elsewhere(view, wanted, node_key) {
            Some(reason) => actions.extend(wanted.tell(&reason)),
            None => actions.push(Action::Attach {
                name: name.clone(),
                driver: wanted.driver.to_owned(),
                machine: Machine::of_node(node).map(|m| (m.boot.to_owned(), m.id.to_owned())),
                reason: Reason::Wanted { volume: volume.clone(), node: node_name.to_owned() },
                volume,
                node: node_name.to_owned(),
            }),
        }
    }
    let mut leaving = BTreeSet::new();
    for attachment in view.related(Relation::Attached, node_key).filter_map(|key| view.attachments.at(key)) {
        if wanted.contains_key(&*attachment.key.name) {
            continue;
        }
        match release::fate(view, node, attachment) {
            Fate::Stays => {}
            Fate::Goes(reason) => {
                leaving.insert(attachment.key.clone());
                actions.push(Action::Detach { attachment: attachment.at(), reason });
            }
            Fate::Lost(reason) => actions.push(Action::Tell { about: attachment.key.clone(), reason }),
        }
    }
    actions.extend(report(view, node, &wanted, &leaving));
    actions
}

/// What the pods of a node want attached, by the attachment's name.
fn wanted<'a>(view: &'a View, node: &Key) -> BTreeMap<String, Wanted<'a>> {
    let mut wanted: BTreeMap<String, Wanted<'a>> = BTreeMap::new();
    let pods = view.related(Relation::Runs, node).filter_map(|key| view.pods.at(key));
    for pod in pods.filter(|pod| !is_terminated(pod)) {
        for (claim, _) in pod_claims(pod) {
            let Some((volume, driver, handle)) = attachable(view, &claim_key(&pod.key.namespace, &claim))
            else {
                continue;
            };
            let entry = wanted.entry(attachment_name(driver, handle, &node.name));
            entry.or_insert_with(|| Wanted { volume, driver, pods: Vec::new() }).pods.push(pod);
        }
    }
    wanted
}

/// The bound volume of a claim, when its driver wants volumes attached.
fn attachable<'a>(view: &'a View, claim: &Key) -> Option<(&'a Shared<PersistentVolume>, &'a str, &'a str)> {
    let claim = view.claims.at(claim).filter(|claim| claim_phase(claim) == "Bound")?;
    let volume = view.volumes.get("", claim_volume(claim)?)?;
    if !holdfast_api::access::refers_to(volume, claim) {
        return None;
    }
    let source = csi_source(volume)?;
    // A driver that did not say otherwise wants it: the default of `attachRequired`.
    let required = view.drivers.get("", &source.driver).and_then(|driver| driver.spec.attach_required);
    required.unwrap_or(true).then_some((volume, &source.driver, &source.volume_handle))
}

/// What the driver last said of an attachment that it could not make.
fn failure(attachment: &VolumeAttachment) -> Option<String> {
    let status = attachment.status.as_ref().filter(|status| !status.attached)?;
    Some(status.attach_error.as_ref()?.message.clone().unwrap_or_default())
}

/// Why the volume must not come to this node now. Another node may use it even
/// when its attachment was forced away: then the node itself has the last word.
fn elsewhere(view: &View, wanted: &Wanted<'_>, node: &Key) -> Option<Reason> {
    let several = ["ReadOnlyMany", "ReadWriteMany"];
    if volume_modes(wanted.volume).iter().any(|mode| several.contains(&mode.as_str())) {
        return None;
    }
    let source = csi_source(wanted.volume)?;
    let unique = unique_volume_name(&source.driver, &source.volume_handle);
    let attached = view
        .related(Relation::AttachedAs, &wanted.volume.key)
        .filter_map(|key| view.attachments.at(key))
        .find(|attachment| *attachment.spec.node_name != *node.name);
    let uses = |other: &&Shared<Node>| other.key != *node && release::uses(other, &unique);
    let other = attached
        .map(|attachment| attachment.spec.node_name.as_str())
        .or_else(|| view.nodes.iter().find(uses).map(|other| &*other.key.name))?;
    let holder = release::holder(view, other, attached.map(|attachment| &*attachment.key.name));
    let claim = claim_ref(wanted.volume).map(claim_ref_key)?;
    let pods = view
        .pods_of_claim(&claim)
        .filter(|pod| pod_node(pod) == Some(other) && !is_terminated(pod))
        .map(|pod| pod.key.name.to_string())
        .collect();
    let volume = wanted.volume.key.name.to_string();
    Some(Reason::MultiAttach { volume, other: other.to_owned(), pods, holder })
}

/// The step that brings `status.volumesAttached` up to date, if it is behind or about to be.
fn report(
    view: &View,
    node: &Seen<Node>,
    wanted: &BTreeMap<String, Wanted<'_>>,
    leaving: &BTreeSet<Key>,
) -> Option<Action> {
    let mut attached = Vec::new();
    let mut fresh = Vec::new();
    let listed =
        node.status.as_ref().and_then(|status| status.volumes_attached.as_deref()).unwrap_or_default();
    for attachment in view.related(Relation::Attached, &node.key).filter_map(|key| view.attachments.at(key)) {
        // What is about to be detached is not to be relied on any more.
        let is_leaving = is_deleting(&attachment.metadata)
            || leaving.contains(&attachment.key)
            || release::of_another_machine(node, attachment).is_some();
        if is_leaving || !attachment.status.as_ref().is_some_and(|status| status.attached) {
            continue;
        }
        let volume = attachment.spec.source.persistent_volume_name.as_deref();
        let Some(source) = volume.and_then(|name| view.volumes.get("", name)).and_then(|v| csi_source(v))
        else {
            continue;
        };
        let name = unique_volume_name(&source.driver, &source.volume_handle);
        if !listed.iter().any(|old| old.name == name)
            && let Some(wanted) = wanted.get(&*attachment.key.name)
        {
            let reason = Reason::Attached { volume: wanted.volume.key.name.to_string() };
            fresh.extend(wanted.pods.iter().map(|pod| (pod.key.clone(), reason.clone())));
        }
        attached.push(name);
    }
    attached.sort();
    attached.dedup();
    let same =
        listed.len() == attached.len() && attached.iter().all(|name| listed.iter().any(|l| l.name == *name));
    (!same || !leaving.is_empty()).then(|| Action::Report {
        node: node.at(),
        attached,
        news: fresh,
        reason: Reason::StatusBehind,
    })
}

/// The key of an attachment.
pub(crate) fn attachment_key(name: &str) -> Key {
    Key::new(ATTACHMENTS, "", name)
}
