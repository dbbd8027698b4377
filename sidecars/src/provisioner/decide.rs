//! What to do next for one claim. Pure: the loop asks, applies, and asks again.
//!
//! The order that makes a crash harmless:
//! 1. the intent (a finalizer on the claim) is saved, against the very version that was read;
//! 2. CreateVolume, under a name made of the claim's UID, the same call until it answers;
//! 3. the volume object is saved, or, when the claim is not wanted any more, DeleteVolume;
//! 4. the intent is taken away.
//!
//! The intent is also taken away when nothing exists for certain: every call since it was
//! recorded was refused ([`super::memory`]). So as long as something may exist outside that
//! no volume object tells of, and only so long, the claim cannot go away and says so. (Without step 1 a claim deleted during CreateVolume leaves
//! a volume that nobody knows: kubernetes-csi/external-provisioner#486.)

use std::sync::Arc;

use holdfast_api::{access::claim_class, names};
use holdfast_proto::csi::Volume;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};
use kube::ResourceExt;

use super::{
    cloning::is_kept,
    memory::{Memory, is_clear},
    plan::{self, Plan, Settings},
    reason::Reason,
    source::{Source, Wanted, wanted},
    topology::NodePlace,
};
use crate::csi::{CsiError, DriverFacts};

/// The finalizer that says: a volume may exist for this claim that no volume object tells of.
pub(crate) const INTENT: &str = "holdfast.dev/provisioning";

/// What is known of the volume object that belongs to the claim.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum VolumeObject {
    /// The cache has none, which may only mean that the cache is behind.
    NotSeen,
    /// The API says that there is none.
    Absent,
    There(Arc<PersistentVolume>),
}

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
    Begun,
    Created { made: Box<Volume>, plan: Box<Plan> },
    CreateFailed(CsiError),
    Saved { volume: String },
    Deleted,
    DeleteFailed(CsiError),
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub facts: Arc<DriverFacts>,
    pub settings: Arc<Settings>,
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    /// `claim` comes from the API itself and not from the cache.
    pub live: bool,
    pub class: Option<Arc<StorageClass>>,
    pub volume: VolumeObject,
    pub places: Vec<NodePlace>,
    pub source: Source,
    pub memory: Option<Memory>,
    pub progress: Progress,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Nothing until something changes.
    Rest(Reason),
    /// Nothing now; the same again after the backoff.
    Retry(Reason),
    /// Read the claim from the API.
    ReadClaim(Reason),
    /// Read the volume object from the API.
    ReadVolume(Reason),
    /// Read what the volume is to be filled with from the API: a cache may still show another of the name.
    ReadSource(Reason),
    /// Keep the claim that the volume is filled from until it is.
    ProtectSource(Reason),
    /// Put the intent on the claim, if it is still the version that was read.
    RecordIntent(Reason),
    /// CreateVolume.
    Create(Box<Plan>, Reason),
    /// Save the volume object.
    Save(Box<PersistentVolume>, Reason),
    /// DeleteVolume of what was just created.
    Delete { id: String, plan: Box<Plan>, reason: Reason },
    /// Take the intent off the claim.
    DropIntent(Reason),
    /// Take the intent and the scheduler's choice off the claim, so that it chooses again.
    Reschedule(Reason),
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::ReadClaim(reason)
            | Self::ReadVolume(reason)
            | Self::ReadSource(reason)
            | Self::ProtectSource(reason)
            | Self::RecordIntent(reason)
            | Self::Create(_, reason)
            | Self::Save(_, reason)
            | Self::Delete { reason, .. }
            | Self::DropIntent(reason)
            | Self::Reschedule(reason) => reason,
        }
    }
}

/// Whether the claim asks this driver for a volume.
pub(crate) fn is_ours(claim: &PersistentVolumeClaim, driver: &str) -> bool {
    let annotations = claim.annotations();
    let asked = annotations
        .get(names::STORAGE_PROVISIONER)
        .or_else(|| annotations.get(names::STORAGE_PROVISIONER_BETA));
    asked.is_some_and(|asked| asked == driver)
}

/// The volume that the claim is bound to, or bound for.
fn bound_to(claim: &PersistentVolumeClaim) -> Option<&str> {
    claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).filter(|name| !name.is_empty())
}

pub(crate) fn has_intent(claim: &PersistentVolumeClaim) -> bool {
    claim.finalizers().iter().any(|finalizer| finalizer == INTENT)
}

/// See the module's documentation.
pub(crate) fn decide(view: &View) -> Action {
    let Some(claim) = &view.claim else { return Action::Rest(Reason::ClaimGone) };
    if !is_ours(claim, &view.facts.name) {
        return Action::Rest(Reason::NotOurs);
    }
    // Steps of this look that must be brought to their end first.
    if let Progress::Saved { volume } = &view.progress {
        return match has_intent(claim) {
            true => Action::DropIntent(Reason::Provisioned { volume: volume.clone() }),
            false => Action::Rest(Reason::AlreadyProvisioned),
        };
    }
    if view.settings.leaves_to_others(claim, view.memory.is_some()) {
        return Action::Rest(Reason::NotOurs);
    }
    let own_volume = view.settings.volume_name(claim);
    let unwanted =
        claim.metadata.deletion_timestamp.is_some() || bound_to(claim).is_some_and(|name| name != own_volume);
    if unwanted {
        return abandon(view, claim);
    }
    if view.memory == Some(Memory::Finished) && matches!(view.progress, Progress::Begun) {
        return Action::Rest(Reason::AlreadyProvisioned);
    }
    if bound_to(claim).is_some() {
        return if has_intent(claim) {
            Action::DropIntent(Reason::AlreadyProvisioned)
        } else {
            Action::Rest(Reason::AlreadyProvisioned)
        };
    }
    if let VolumeObject::There(volume) = &view.volume {
        return match_volume(claim, volume);
    }
    provision(view, claim)
}

/// The volume object is there already: made by an earlier look that a crash cut short, or
/// the cache is behind.
fn match_volume(claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> Action {
    let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|r| r.uid.as_ref());
    if owner != claim.metadata.uid.as_ref() {
        return Action::Retry(Reason::NameTaken { volume: volume.name_any() });
    }
    if has_intent(claim) {
        Action::DropIntent(Reason::AlreadyProvisioned)
    } else {
        Action::Rest(Reason::AlreadyProvisioned)
    }
}

fn provision(view: &View, claim: &PersistentVolumeClaim) -> Action {
    match &view.progress {
        Progress::Begun => {}
        Progress::Saved { .. } => return Action::Rest(Reason::AlreadyProvisioned),
        Progress::Created { made, plan } => return keep(made, plan),
        Progress::CreateFailed(error) => return after_failure(view, claim, error),
        Progress::Deleted => return Action::Retry(Reason::Undone),
        Progress::DeleteFailed(error) => return Action::Retry(Reason::DeleteFailed(error.clone())),
    }
    // What may have been begun is asked for again, word for word, whatever changed since:
    // CreateVolume under the same name with other arguments would be an error of ours.
    if let Some(Memory::Unanswered(plan)) = &view.memory {
        return match (view.live, has_intent(claim)) {
            (false, _) => Action::ReadClaim(Reason::AskingAgain),
            (true, false) => Action::RecordIntent(Reason::AskingAgain),
            (true, true) => Action::Create(plan.clone(), Reason::AskingAgain),
        };
    }
    let plan = match new_plan(view, claim) {
        Ok(plan) => plan,
        Err(action) => return *action,
    };
    if !has_intent(claim) {
        return Action::RecordIntent(Reason::Provisioning { claim: full_name(claim) });
    }
    // The intent may be all that a stale cache still shows of a claim long finished.
    if !view.live {
        return Action::ReadClaim(Reason::AskingAgain);
    }
    if let Source::Claim { claim: Some(source), .. } = &view.source
        && !is_kept(source)
    {
        return Action::ProtectSource(Reason::ReadingSource);
    }
    Action::Create(Box::new(plan), Reason::Creating)
}

/// A plan, or why there is none.
fn new_plan(view: &View, claim: &PersistentVolumeClaim) -> Result<Plan, Box<Action>> {
    let name = claim_class(claim).unwrap_or_default();
    let rest = |reason| Box::new(Action::Rest(reason));
    let Some(class) = &view.class else {
        return Err(rest(Reason::NoClass { class: name.to_owned() }));
    };
    if class.provisioner != view.facts.name {
        return Err(rest(Reason::NotOurs));
    }
    let waits = class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer");
    let deleting = claim.metadata.deletion_timestamp.is_some();
    if waits && !deleting && !claim.annotations().contains_key(names::SELECTED_NODE) {
        return Err(rest(Reason::WaitsForConsumer));
    }
    match wanted(claim) {
        Wanted::Populator { kind, name } => {
            return Err(rest(Reason::Populator { source: format!("{kind}/{name}") }));
        }
        Wanted::Snapshot(_) | Wanted::Claim(_) if view.source == Source::NotAsked => {
            return Err(Box::new(Action::ReadSource(Reason::ReadingSource)));
        }
        _ => {}
    }
    plan::plan(&view.facts, &view.settings, claim, class, &view.places, &view.source)
        .map_err(|error| Box::new(Action::Retry(Reason::CannotPlan { class: name.to_owned(), error })))
}

/// The driver made a volume: save it, unless it is not what was asked for.
fn keep(made: &Volume, plan: &Plan) -> Action {
    if made.capacity_bytes != 0 && made.capacity_bytes < plan.bytes {
        return Action::Delete {
            id: made.volume_id.clone(),
            plan: Box::new(plan.clone()),
            reason: Reason::TooSmall { got: made.capacity_bytes, wanted: plan.bytes },
        };
    }
    Action::Save(Box::new(plan.volume_object(made)), Reason::Saving)
}

fn after_failure(view: &View, claim: &PersistentVolumeClaim, error: &CsiError) -> Action {
    let class = claim_class(claim).unwrap_or_default().to_owned();
    if has_intent(claim) && is_clear(view.memory.as_ref()) {
        return take_back(view, claim, class, error);
    }
    Action::Retry(match has_intent(claim) && error.is_final() {
        true => Reason::InDoubt { volume: view.settings.volume_name(claim), error: error.clone() },
        false => Reason::CreateFailed { class, error: error.clone() },
    })
}

/// Nothing exists for certain: the claim need not say otherwise until the next attempt. If it
/// did, a restart in between would turn it into doubt.
fn take_back(view: &View, claim: &PersistentVolumeClaim, class: String, error: &CsiError) -> Action {
    // An earlier life may have saved the volume and taken its intent away just before this
    // life's first look at a cache that had neither.
    if view.volume == VolumeObject::NotSeen {
        return Action::ReadVolume(Reason::NothingBegun);
    }
    let full = error.code == tonic::Code::ResourceExhausted && error.is_final();
    match claim.annotations().get(names::SELECTED_NODE) {
        // No room there. Elsewhere there may be: only the scheduler can choose again.
        Some(node) if full && view.facts.topology => {
            Action::Reschedule(Reason::NoRoom { class, node: node.clone(), error: error.clone() })
        }
        _ => Action::DropIntent(Reason::NothingBegun),
    }
}

/// The claim is being deleted, or took another volume: whatever may exist outside without
/// a volume object has to go before the intent does.
fn abandon(view: &View, claim: &PersistentVolumeClaim) -> Action {
    if !has_intent(claim) {
        return Action::Rest(Reason::NothingBegun);
    }
    // First of all, so that nothing is ever deleted that a volume object tells of.
    match &view.volume {
        // From here on the volume object leads: it is released and reclaimed like any other.
        VolumeObject::There(volume) => return match_volume(claim, volume),
        VolumeObject::NotSeen => return Action::ReadVolume(Reason::Abandoning { claim: full_name(claim) }),
        VolumeObject::Absent => {}
    }
    match &view.progress {
        Progress::Begun | Progress::Saved { .. } => {}
        Progress::Created { made, plan } => {
            return Action::Delete {
                id: made.volume_id.clone(),
                plan: plan.clone(),
                reason: Reason::Abandoning { claim: full_name(claim) },
            };
        }
        Progress::Deleted => return Action::DropIntent(Reason::Abandoned),
        Progress::DeleteFailed(error) => return Action::Retry(Reason::DeleteFailed(error.clone())),
        Progress::CreateFailed(_) if is_clear(view.memory.as_ref()) => {
            return Action::DropIntent(Reason::NothingBegun);
        }
        Progress::CreateFailed(error) if error.is_final() => {
            return Action::Retry(Reason::InDoubt {
                volume: view.settings.volume_name(claim),
                error: error.clone(),
            });
        }
        Progress::CreateFailed(error) => {
            let class = claim_class(claim).unwrap_or_default().to_owned();
            return Action::Retry(Reason::CreateFailed { class, error: error.clone() });
        }
    }
    let plan = match &view.memory {
        Some(Memory::Nothing) => return Action::DropIntent(Reason::NothingBegun),
        Some(Memory::Unanswered(plan)) => plan.clone(),
        // Finished, and yet neither a volume object nor a claim without intent: begun anew by nobody.
        Some(Memory::Finished) => return Action::DropIntent(Reason::AlreadyProvisioned),
        None => match new_plan(view, claim) {
            Ok(plan) => Box::new(plan),
            Err(why) if matches!(*why, Action::ReadSource(_)) => return *why,
            Err(why) => return Action::Retry(Reason::CannotAbandon { why: why.reason().to_string() }),
        },
    };
    if view.live {
        // CSI has no "find by name": the same call again gives the id, and then it can be deleted.
        Action::Create(plan, Reason::Abandoning { claim: full_name(claim) })
    } else {
        Action::ReadClaim(Reason::Abandoning { claim: full_name(claim) })
    }
}

fn full_name(claim: &PersistentVolumeClaim) -> String {
    format!("{}/{}", claim.namespace().unwrap_or_default(), claim.name_any())
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
