//! The claim's side.

use holdfast_api::{access, affinity, names, selector::Selector};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::StorageClass,
};

use super::{Action, Keys, Reason, bind, is_completed, misfit};
use crate::controllers::view::{
    Relation, Seen, Shared, Slot, View, annotation, claim_modes, claim_phase, claim_ref, claim_volume,
    is_deleting, modes_mask, volume_phase, waits_for_consumer,
};

pub(super) fn decide(view: &View, underway: &Keys, claim: &Shared<PersistentVolumeClaim>) -> Option<Action> {
    match claim_volume(claim) {
        Some(name) if is_completed(claim) => bound(view, claim, name),
        // A claim that is going gets no volume any more.
        _ if is_deleting(&claim.metadata) => None,
        Some(name) => named(view, claim, name),
        None => unbound(view, underway, claim),
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
fn unbound(view: &View, underway: &Keys, claim: &Shared<PersistentVolumeClaim>) -> Option<Action> {
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
            None => static_match(view, underway, claim).or_else(|| wait(Reason::NothingFits)),
        };
    };
    let class = view.classes.get("", class_name);
    if class.is_some_and(|class| waits_for_consumer(class))
        && annotation(&claim.metadata, names::SELECTED_NODE).is_none()
    {
        return wait(match view.pods_of_claim(&claim.key).next() {
            Some(pod) => Reason::WaitsForPod { pod: pod.key.name.to_string() },
            None => Reason::WaitsForConsumer,
        });
    }
    if let Some(found) = static_match(view, underway, claim) {
        return Some(found);
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

/// Binds the best free volume that nobody else is about to take; `None` when there is none.
fn static_match(view: &View, underway: &Keys, claim: &Seen<PersistentVolumeClaim>) -> Option<Action> {
    let selector = match selector(claim) {
        Ok(selector) => selector,
        Err(why) => {
            return Some(Action::Wait { claim: claim.key.clone(), reason: Reason::BadSelector { why } });
        }
    };
    let mut is_contested = false;
    let node = annotation(&claim.metadata, names::SELECTED_NODE);
    let best = candidates(view, claim, &selector, node).find(|volume| {
        let is_taken = underway.contains(&volume.key);
        is_contested |= is_taken;
        !is_taken
    });
    match best {
        Some(volume) => bind(claim, volume),
        None => is_contested.then(|| Action::Defer { key: claim.key.clone(), reason: Reason::Contested }),
    }
}

/// Free volumes that fit, the best first.
fn candidates<'a>(
    view: &'a View,
    claim: &'a PersistentVolumeClaim,
    selector: &'a Selector,
    node: Option<&'a str>,
) -> impl Iterator<Item = &'a Shared<PersistentVolume>> {
    // A request that cannot be read is satisfied by nothing.
    let asked = access::claim_request(claim).unwrap_or(i64::MAX);
    let names = view.free.candidates(&Slot::of_claim(claim), modes_mask(claim_modes(claim)), asked);
    names.filter_map(|name| view.volumes.get("", name)).filter(move |volume| {
        selector.matches_map(volume.metadata.labels.as_ref())
            && node.is_none_or(|node| is_usable_on(view, node, volume))
    })
}

/// Whether a free volume that the claim could have is usable on a node: the scheduler's question.
pub(crate) fn has_candidate_on(view: &View, claim: &PersistentVolumeClaim, node: &str) -> bool {
    selector(claim).is_ok_and(|selector| candidates(view, claim, &selector, Some(node)).next().is_some())
}

/// Whether this very volume, which is free, is one that the claim could be given: what
/// [`Slot`], modes and size do not say.
pub(super) fn suits(view: &View, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    selector(claim).is_ok_and(|selector| selector.matches_map(volume.metadata.labels.as_ref()))
        && on_selected_node(view, claim, volume)
}

fn selector(claim: &PersistentVolumeClaim) -> Result<Selector, String> {
    let selector = claim.spec.as_ref().and_then(|spec| spec.selector.as_ref()).map(Selector::try_from);
    Ok(selector.transpose().map_err(|error| error.to_string())?.unwrap_or_default())
}

/// Where the scheduler has chosen a node, only what can be used there fits.
fn on_selected_node(view: &View, claim: &PersistentVolumeClaim, volume: &PersistentVolume) -> bool {
    annotation(&claim.metadata, names::SELECTED_NODE).is_none_or(|node| is_usable_on(view, node, volume))
}

fn is_usable_on(view: &View, node: &str, volume: &PersistentVolume) -> bool {
    static NONE: affinity::Labels = affinity::Labels::new();
    view.nodes.get("", node).is_some_and(|found| {
        affinity::volume_fits_node(volume, node, found.metadata.labels.as_ref().unwrap_or(&NONE))
    })
}

/// The class that claims get which name none: the newest of those marked, then the first by name.
fn default_class(view: &View) -> Option<&Shared<StorageClass>> {
    let is_default = |class: &&Shared<StorageClass>| {
        [names::DEFAULT_CLASS, names::DEFAULT_CLASS_BETA]
            .iter()
            .any(|name| annotation(&class.metadata, name) == Some("true"))
    };
    view.classes.iter().filter(is_default).max_by(|a, b| {
        let created =
            |class: &Shared<StorageClass>| class.metadata.creation_timestamp.as_ref().map(|time| time.0);
        created(a).cmp(&created(b)).then_with(|| b.key.name.cmp(&a.key.name))
    })
}
