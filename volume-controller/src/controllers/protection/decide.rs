//! When the protection of a claim, a volume or a class of attributes that is being deleted may end.

use holdfast_api::{access, names};

use super::reason::Reason;
use crate::{
    controllers::view::{
        ATTRIBUTES_CLASSES, At, CLAIMS, Relation, VOLUMES, View, claim_ref, claim_ref_key, claim_volume,
        has_finalizer, is_deleting, is_terminated, pod_node, volume_phase,
    },
    store::Key,
};

/// The one step there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Take the finalizer off.
    Release { object: At, finalizer: &'static str, reason: Reason },
}

/// What to do for one claim, volume or class of attributes.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    match &*key.resource {
        CLAIMS => claim(view, key),
        VOLUMES => volume(view, key),
        ATTRIBUTES_CLASSES => attributes_class(view, key),
        _ => None,
    }
}

/// A claim is in use by every pod that was bound to a node and has not ended; a
/// pod without a node has nothing mounted and can never be placed on a claim that
/// is being deleted.
fn claim(view: &View, key: &Key) -> Option<Action> {
    let claim = view.claims.at(key)?;
    if !is_deleting(&claim.metadata) || !has_finalizer(&claim.metadata, names::PVC_PROTECTION) {
        return None;
    }
    let in_use = view.pods_of_claim(key).any(|pod| pod_node(pod).is_some() && !is_terminated(pod));
    (!in_use).then(|| Action::Release {
        object: claim.at(),
        finalizer: names::PVC_PROTECTION,
        reason: Reason::ClaimUnused,
    })
}

/// A volume is in use as long as it is bound, or a claim still says that it is.
fn volume(view: &View, key: &Key) -> Option<Action> {
    let volume = view.volumes.at(key)?;
    if !is_deleting(&volume.metadata) || !has_finalizer(&volume.metadata, names::PV_PROTECTION) {
        return None;
    }
    let owner = claim_ref(volume).and_then(|reference| view.claims.at(&claim_ref_key(reference)));
    // One that is only kept for a claim is not in use: the claim gets nothing from it any more.
    let is_claimed = owner.is_some_and(|claim| {
        access::refers_to(volume, claim) && claim_volume(claim) == Some(&*volume.key.name)
    });
    (volume_phase(volume) != "Bound" && !is_claimed).then(|| Action::Release {
        object: volume.at(),
        finalizer: names::PV_PROTECTION,
        reason: Reason::VolumeUnbound,
    })
}

/// A class is in use as long as a claim or volume has it, wants it, or is being given it: to
/// change it to another, the driver may need to know what it is now.
fn attributes_class(view: &View, key: &Key) -> Option<Action> {
    let class = view.attributes_classes.at(key)?;
    if !is_deleting(&class.metadata) || !has_finalizer(&class.metadata, names::VAC_PROTECTION) {
        return None;
    }
    view.related(Relation::ShapedBy, key).next().is_none().then(|| Action::Release {
        object: class.at(),
        finalizer: names::VAC_PROTECTION,
        reason: Reason::AttributesUnused,
    })
}
