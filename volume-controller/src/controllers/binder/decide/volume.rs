//! The volume's side: its phase, and what becomes of it when its claim is gone.

use holdfast_api::{access, names};
use k8s_openapi::api::core::v1::{ObjectReference, PersistentVolume};

use super::{Action, Keys, Reason, bind, claim, full_name, is_completed};
use crate::controllers::view::{
    Shared, Slot, View, annotation, claim_ref, claim_ref_key, claim_ref_uid, claim_volume, is_free,
    modes_mask, volume_modes, volume_phase, waits_for_consumer,
};

pub(super) fn decide(view: &View, underway: &Keys, volume: &Shared<PersistentVolume>) -> Option<Action> {
    let Some(reference) = claim_ref(volume) else {
        return given(view, underway, volume).or_else(|| phase(volume, "Available", Reason::Free));
    };
    let claim = view.claims.at(&claim_ref_key(reference));
    let Some(claim) = claim.filter(|claim| access::refers_to(volume, claim)) else {
        return match claim_ref_uid(volume) {
            // Kept for a claim that is not there yet.
            None => phase(volume, "Available", Reason::Free),
            Some(_) => released(volume, reference),
        };
    };
    match claim_volume(claim) {
        Some(name) if *name == *volume.key.name => {
            if is_completed(claim) {
                return bind(claim, volume);
            }
            None // the claim's side binds both
        }
        Some(_) => elsewhere(volume, reference),
        // The claim's side decides; until then the volume is kept for it.
        None if matches!(volume_phase(volume), "Released" | "Failed") => None,
        None => phase(volume, "Available", Reason::Free).filter(|_| claim_ref_uid(volume).is_none()),
    }
}

/// Binds a claim that has waited for a volume like this one: to the best volume for it, which need not
/// be this one. After that this volume is looked at again, until no claim that waits could have it.
fn given(view: &View, underway: &Keys, volume: &Shared<PersistentVolume>) -> Option<Action> {
    if !is_free(volume) {
        return None;
    }
    let defer = || Some(Action::Defer { key: volume.key.clone(), reason: Reason::Contested });
    if underway.contains(&volume.key) {
        return defer();
    }
    let capacity = access::volume_capacity(volume).ok()?;
    let slot = Slot::of_volume(volume);
    let only_placed =
        view.classes.get("", access::volume_class(volume)).is_some_and(|class| waits_for_consumer(class));
    let modes = modes_mask(volume_modes(volume));
    let waiting = view.pending.satisfied_by(&slot, modes, capacity, only_placed);
    let mut is_contested = false;
    for claim in
        waiting.filter_map(|key| view.claims.at(key)).filter(|claim| claim::suits(view, claim, volume))
    {
        if underway.contains(&claim.key) {
            is_contested = true;
            continue;
        }
        match claim::decide(view, underway, claim) {
            Some(action @ Action::Bind { .. }) => return Some(action),
            Some(Action::Defer { .. }) => is_contested = true,
            // It waits for something else first.
            _ => {}
        }
    }
    if is_contested { defer() } else { None }
}

/// The claim that the volume names is bound to another volume.
fn elsewhere(volume: &Shared<PersistentVolume>, reference: &ObjectReference) -> Option<Action> {
    let claim = full_name(&claim_ref_key(reference));
    let reason = Reason::NotNeeded { claim };
    if annotation(&volume.metadata, names::PROVISIONED_BY).is_some() {
        // Failed: whoever was to delete it could not, and said so.
        if volume_phase(volume) == "Failed" {
            return None;
        }
        return phase(volume, "Released", reason);
    }
    if annotation(&volume.metadata, names::BOUND_BY_CONTROLLER).is_some() {
        return Some(Action::Free { volume: volume.at(), reason });
    }
    // A person kept it for the claim; only a person takes that back.
    phase(volume, "Available", Reason::Free).filter(|_| claim_ref_uid(volume).is_none())
}

/// The claim is gone: the volume is released, and then what its policy says happens.
fn released(volume: &Shared<PersistentVolume>, reference: &ObjectReference) -> Option<Action> {
    if volume_phase(volume) == "Failed" {
        return None;
    }
    let reason = Reason::ClaimGone { claim: full_name(&claim_ref_key(reference)) };
    if let Some(action) = phase(volume, "Released", reason) {
        return Some(action);
    }
    let policy = volume.spec.as_ref().and_then(|spec| spec.persistent_volume_reclaim_policy.as_deref());
    match policy {
        Some("Recycle") => phase(volume, "Failed", Reason::NoRecycler),
        // Who made it deletes it, and sees the phase. What nobody made is nobody's to delete:
        // provisioners leave alone what does not bear their name.
        Some("Delete") if annotation(&volume.metadata, names::PROVISIONED_BY).is_none() => {
            phase(volume, "Failed", Reason::NoDeleter)
        }
        _ => None,
    }
}

fn phase(volume: &Shared<PersistentVolume>, phase: &'static str, reason: Reason) -> Option<Action> {
    (volume_phase(volume) != phase).then(|| Action::Phase { volume: volume.at(), phase, reason })
}
