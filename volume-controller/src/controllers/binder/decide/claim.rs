//! The claim's side.

use holdfast_api::{access, affinity, names, selector::Selector};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use super::{Action, Reason, bind, is_completed, misfit};
use crate::controllers::view::{
    Relation, Seen, Shared, Slot, View, annotation, claim_modes, claim_phase, claim_ref, claim_volume, is_deleting,
    modes_mask, volume_phase,
};

pub(super) fn decide(view: &View, claim: &Shared<PersistentVolumeClaim>) -> Option<Action> {
    match claim_volume(claim) {
        Some(name) if is_completed(claim) => bound(view, claim, name),
        // A claim that is going gets no volume any more.
        _ if is_deleting(&claim.metadata) => None,
        Some(name) => named(view, claim, name),
        None => unbound(view, claim),
    }
}

/// The claim was bound once.
fn bound(view: &View, claim: &Shared<PersistentVolumeClaim>, name: &str) -> Option<Action> {
    let lose = |reason| (claim_phase(claim) != "Lost").then(|| Action::Lose { claim: claim.at(), reason });
    let Some(volume) = view.volumes.get("", name) else {
        return lose(Reason::VolumeGone { volume: name.to_owned() });
    };
    if claim_ref(volume).is_none() || access::refers_to(volume, claim) {
        return bind(claim, volume);
    }
    lose(Reason::VolumeOfAnother { volume: name.to_owned() })
}

/// Somebody wrote the volume's name into the claim.
fn named(view: &View, claim: &Shared<PersistentVolumeClaim>, name: &str) -> Option<Action> {
    let wait = |reason| Some(Action::Wait { claim: claim.key.clone(), reason });
    let Some(volume) = view.volumes.get("", name) else {
        return wait(Reason::WaitsForVolume { volume: name.to_owned() });
    };
    if access::refers_to(volume, claim) {
        return bind(claim, volume);
    }
    if claim_ref(volume).is_some() || matches!(volume_phase(volume), "Released" | "Failed") {
        return wait(Reason::TakenVolume { volume: name.to_owned() });
    }
    match misfit(claim, volume) {
        Some(why) => wait(Reason::Misfit { volume: name.to_owned(), why }),
        None => bind(claim, volume),
    }
}

/// The claim has no volume.
fn unbound(view: &View, claim: &Shared<PersistentVolumeClaim>) -> Option<Action> {
    let wait = |reason| Some(Action::Wait { claim: claim.key.clone(), reason });
    if let Some(volume) = reserved(view, claim) {
        return bind(claim, volume);
    }
    let Some(class_name) = access::claim_class(claim) else {
        // No class was chosen, not even the empty one: a default class may have come since.
        return match default_class(view) {
            Some(class) => {
                let class = class.key.name.to_string();
                let reason = Reason::DefaultClass { class: class.clone() };
                Some(Action::Classify { claim: claim.at(), class, reason })
            }
            None => static_match(view, claim).unwrap_or_else(|| wait(Reason::NothingFits)),
        };
    };
    let class = view.classes.get("", class_name);
    if class.is_some_and(|class| waits(class)) && annotation(&claim.metadata, names::SELECTED_NODE).is_none() {
        let pods: Vec<_> = view.pods_of_claim(&claim.key).map(|pod| pod.key.name.to_string()).collect();
        return wait(match pods.into_iter().next() {
            Some(pod) => Reason::WaitsForPod { pod },
            None => Reason::WaitsForConsumer,
        });
    }
    if let Some(found) = static_match(view, claim) {
        return found;
    }
    match class {
        None if class_name.is_empty() => wait(Reason::NothingFits),
        None => wait(Reason::NoClass { class: class_name.to_owned() }),
        Some(class) if class.provisioner == names::NO_PROVISIONER => {
            wait(Reason::NoProvisioner { class: class_name.to_owned() })
        }
        Some(class) => {
            let provisioner = class.provisioner.clone();
            let reason = Reason::Provisioning { provisioner: provisioner.clone() };
            if annotation(&claim.metadata, names::STORAGE_PROVISIONER) == Some(&provisioner) {
                return wait(reason);
            }
            Some(Action::Ask { claim: claim.at(), provisioner, reason })
        }
    }
}

/// A volume that is kept for this claim: by a person, without a UID, or made for it by a provisioner.
fn reserved<'a>(view: &'a View, claim: &Seen<PersistentVolumeClaim>) -> Option<&'a Shared<PersistentVolume>> {
    let kept = view.related(Relation::ReservedIn, &claim.key).filter_map(|key| view.volumes.at(key));
    let asked = access::claim_request(claim).ok()?;
    kept.filter(|volume| {
        access::refers_to(volume, claim)
            && !is_deleting(&volume.metadata)
            && !matches!(volume_phase(volume), "Released" | "Failed")
            && access::volume_mode(volume) == access::claim_mode(claim)
            && access::volume_capacity(volume).is_ok_and(|offered| offered >= asked)
            && on_selected_node(view, claim, volume)
    })
    .min_by_key(|volume| (access::volume_capacity(volume).unwrap_or(i64::MAX), &volume.key.name))
}

/// The best free volume. The outer `None` means that there is none.
fn static_match(view: &View, claim: &Seen<PersistentVolumeClaim>) -> Option<Option<Action>> {
    let wait = |reason| Some(Some(Action::Wait { claim: claim.key.clone(), reason }));
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Selector::try_from);
    let selector = match selector.transpose() {
        Ok(selector) => selector.unwrap_or_default(),
        Err(error) => return wait(Reason::BadSelector { why: error.to_string() }),
    };
    let asked = access::claim_request(claim).ok()?;
    let mask = modes_mask(claim_modes(claim));
    view.free
        .candidates(&Slot::of_claim(claim), mask, asked)
        .filter_map(|name| view.volumes.get("", name))
        .find(|volume| {
            selector.matches_map(volume.metadata.labels.as_ref()) && on_selected_node(view, claim, volume)
        })
        .map(|volume| bind(claim, volume))
}

/// Whether this very volume is one that the claim could be given.
pub(super) fn suits(view: &View, claim: &Seen<PersistentVolumeClaim>, volume: &Seen<PersistentVolume>) -> bool {
    static_match(view, claim).flatten().is_some_and(
        |action| matches!(action, Action::Bind { volume: chosen, .. } if chosen.key == volume.key),
    )
}

/// Where the scheduler has chosen a node, only what can be used there fits.
fn on_selected_node(view: &View, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    let Some(name) = annotation(&claim.metadata, names::SELECTED_NODE) else { return true };
    view.nodes.get("", name).is_some_and(|node| {
        affinity::volume_fits_node(volume, name, &node.metadata.labels.clone().unwrap_or_default())
    })
}

fn waits(class: &StorageClass) -> bool {
    class.volume_binding_mode.as_deref() == Some("WaitForFirstConsumer")
}

/// The class that claims get which name none: the newest of those marked, then the first by name.
fn default_class(view: &View) -> Option<&Shared<StorageClass>> {
    let is_default = |class: &&Shared<StorageClass>| {
        [names::DEFAULT_CLASS, names::DEFAULT_CLASS_BETA]
            .iter()
            .any(|name| annotation(&class.metadata, name) == Some("true"))
    };
    view.classes.iter().filter(is_default).max_by(|a, b| {
        let created = |class: &Shared<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        created(a).cmp(&created(b)).then_with(|| b.key.name.cmp(&a.key.name))
    })
}
