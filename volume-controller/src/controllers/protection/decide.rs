//! When the protection of a claim or volume that is being deleted may end.

use holdfast_api::{access, names};

use super::reason::Reason;
use crate::{
    controllers::view::{
        At, CLAIMS, VOLUMES, View, claim_ref, claim_ref_key, claim_volume, has_finalizer, is_deleting,
        is_terminated, pod_node, volume_phase,
    },
    store::Key,
};

/// The one step there is.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Take the finalizer off.
    Release { object: At, finalizer: &'static str, reason: Reason },
}

/// What to do for one claim or volume.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    match &*key.resource {
        CLAIMS => claim(view, key),
        VOLUMES => volume(view, key),
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
