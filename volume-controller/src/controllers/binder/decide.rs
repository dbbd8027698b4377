//! What the binder does for one claim or one volume.
//!
//! What must hold: a volume belongs to the claim whose UID its `claimRef` bears, and to
//! no other; a claim that was bound never changes its volume. Both sides of a binding are
//! written in one transaction, so there is no half of one to repair.

use std::collections::BTreeSet;

use holdfast_api::{access, names};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::reason::Reason;
use crate::{
    controllers::view::{
        At, CLAIMS, Seen, Slot, View, annotation, claim_modes, claim_phase, claim_ref_uid, claim_volume,
        is_deleting, volume_modes, volume_phase,
    },
    store::Key,
};

pub(super) mod claim;
pub(super) mod volume;

/// Objects that transactions under way are about to change.
pub(crate) type Keys = BTreeSet<Key>;

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Bind both sides, in one transaction.
    Bind { claim: At, volume: At, reason: Reason },
    /// Give the claim a class.
    Classify { claim: At, class: String, reason: Reason },
    /// Ask a provisioner for a volume.
    Ask { claim: At, provisioner: String, reason: Reason },
    /// Say that the claim's volume is lost.
    Lose { claim: At, reason: Reason },
    /// Say why the claim waits.
    Wait { claim: Key, reason: Reason },
    /// Look again in a moment: another transaction is about to take what would fit, and may yet fail.
    Defer { key: Key, reason: Reason },
    /// Bring the volume's phase up to date.
    Phase { volume: At, phase: &'static str, reason: Reason },
    /// Undo the binder's own reservation of a volume: the claim has another.
    Free { volume: At, reason: Reason },
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Bind { reason, .. }
            | Self::Classify { reason, .. }
            | Self::Ask { reason, .. }
            | Self::Lose { reason, .. }
            | Self::Wait { reason, .. }
            | Self::Defer { reason, .. }
            | Self::Phase { reason, .. }
            | Self::Free { reason, .. } => reason,
        }
    }

    /// Which object people will ask about.
    pub(crate) fn about(&self) -> &Key {
        match self {
            Self::Bind { claim, .. }
            | Self::Classify { claim, .. }
            | Self::Ask { claim, .. }
            | Self::Lose { claim, .. } => &claim.key,
            Self::Wait { claim: key, .. } | Self::Defer { key, .. } => key,
            Self::Phase { volume, .. } | Self::Free { volume, .. } => &volume.key,
        }
    }
}

/// What to do for one claim or volume; at most one step, after which the view is looked at again.
/// What is `underway` is left to the transaction that is about to change it.
pub(crate) fn decide(view: &View, underway: &Keys, key: &Key) -> Option<Action> {
    if *key.resource == *CLAIMS {
        view.claims.at(key).and_then(|claim| claim::decide(view, underway, claim))
    } else {
        view.volumes.at(key).and_then(|volume| volume::decide(view, underway, volume))
    }
}

/// The step that binds the two, if anything of it is still missing.
fn bind(claim: &Seen<PersistentVolumeClaim>, volume: &Seen<PersistentVolume>) -> Option<Action> {
    let reference = claim_ref_uid(volume);
    let complete = claim_phase(claim) == "Bound"
        && claim_volume(claim) == Some(&volume.key.name)
        && is_completed(claim)
        && volume_phase(volume) == "Bound"
        && reference == Some(&claim.uid)
        && (claim.status.as_ref().is_some_and(|status| status.capacity.is_some())
            || volume.spec.as_ref().is_none_or(|spec| spec.capacity.is_none()));
    let reason = Reason::Bound { claim: full_name(&claim.key), volume: volume.key.name.to_string() };
    (!complete).then(|| Action::Bind { claim: claim.at(), volume: volume.at(), reason })
}

/// Whether binding was finished once: from then on the claim can only lose its volume.
fn is_completed(claim: &PersistentVolumeClaim) -> bool {
    annotation(&claim.metadata, names::BIND_COMPLETED).is_some()
}

fn full_name(key: &Key) -> String {
    format!("{}/{}", key.namespace, key.name)
}

/// Why a volume cannot satisfy a claim that asks for this very volume; `None` when it can.
fn misfit(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Option<&'static str> {
    if access::volume_mode(volume) != access::claim_mode(claim) {
        return Some("incompatible volumeMode");
    }
    if access::volume_class(volume) != access::claim_class(claim).unwrap_or_default() {
        return Some("storageClassName does not match");
    }
    if !access::modes_satisfy(volume_modes(volume), claim_modes(claim)) {
        return Some("incompatible accessMode");
    }
    if Slot::of_volume(volume).attributes_class != Slot::of_claim(claim).attributes_class {
        return Some("volumeAttributesClassName does not match");
    }
    // A size that cannot be read could be too small.
    match (access::claim_request(claim), access::volume_capacity(volume)) {
        (Ok(asked), Ok(offered)) if offered >= asked => None,
        _ => Some("requested PV is too small"),
    }
    .or_else(|| is_deleting(&volume.metadata).then_some("the volume is being deleted"))
}
