//! Free volumes and waiting claims, ordered so that finding the best partner
//! does not look at all of them.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holdfast_api::{access, names};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use super::{
    Shared, annotation, claim_modes, claim_ref, claim_volume, is_deleting, volume_modes, volume_phase,
};
use crate::store::Key;

/// What must be equal on both sides.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Slot {
    class: String,
    volume_mode: String,
    pub(crate) attributes_class: String,
}

impl Slot {
    pub(crate) fn of_volume(volume: &PersistentVolume) -> Self {
        let attributes = volume.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        Self {
            class: access::volume_class(volume).to_owned(),
            volume_mode: access::volume_mode(volume).to_owned(),
            attributes_class: attributes.unwrap_or_default().to_owned(),
        }
    }

    pub(crate) fn of_claim(claim: &PersistentVolumeClaim) -> Self {
        let attributes = claim.spec.as_ref().and_then(|spec| spec.volume_attributes_class_name.as_deref());
        Self {
            class: access::claim_class(claim).unwrap_or_default().to_owned(),
            volume_mode: access::claim_mode(claim).to_owned(),
            attributes_class: attributes.unwrap_or_default().to_owned(),
        }
    }
}

/// A set of access modes, one bit each. A mode nobody knows has a bit of its
/// own, so that it is never satisfied by accident.
pub(crate) fn modes_mask(modes: &[String]) -> u8 {
    modes.iter().fold(0, |mask, mode| {
        let known = access::ACCESS_MODES.iter().position(|(long, _)| long == mode);
        mask | 1 << known.unwrap_or(access::ACCESS_MODES.len())
    })
}

/// Names by size.
type Sizes = BTreeSet<(i64, Arc<str>)>;

/// Volumes without a `claimRef`, by slot, then by access modes, then by size and name.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct FreeVolumes {
    slots: BTreeMap<Slot, BTreeMap<u8, Sizes>>,
}

impl FreeVolumes {
    pub(super) fn turn(&mut self, volume: &Shared<PersistentVolume>, present: bool) {
        if !is_free(volume) {
            return;
        }
        // A volume whose size cannot be read is no candidate: it could be too small.
        let Ok(capacity) = access::volume_capacity(volume) else { return };
        let slot = Slot::of_volume(volume);
        let mask = modes_mask(volume_modes(volume));
        let entry = (capacity, Arc::clone(&volume.key.name));
        if present {
            self.slots.entry(slot).or_default().entry(mask).or_default().insert(entry);
            return;
        }
        let Some(by_modes) = self.slots.get_mut(&slot) else { return };
        if let Some(sizes) = by_modes.get_mut(&mask) {
            sizes.remove(&entry);
            if sizes.is_empty() {
                by_modes.remove(&mask);
            }
        }
        if by_modes.is_empty() {
            self.slots.remove(&slot);
        }
    }

    /// The names of free volumes that are large enough and have the access
    /// modes, those with the fewest modes too many first, then the smallest.
    pub(crate) fn candidates<'a>(
        &'a self,
        slot: &Slot,
        asked: u8,
        bytes: i64,
    ) -> impl Iterator<Item = &'a Arc<str>> + use<'a> {
        let mut fitting: Vec<_> =
            self.slots.get(slot).into_iter().flatten().filter(|&(&mask, _)| mask & asked == asked).collect();
        fitting.sort_by_key(|&(&mask, _)| (mask.count_ones(), mask));
        let from = (bytes, Arc::from(""));
        fitting.into_iter().flat_map(move |(_, sizes)| sizes.range(from.clone()..).map(|(_, name)| name))
    }
}

/// Whether a volume may be given to any claim that it suits. A released or
/// failed one becomes free only through its phase `Available`.
pub(crate) fn is_free(volume: &PersistentVolume) -> bool {
    claim_ref(volume).is_none()
        && !is_deleting(&volume.metadata)
        && matches!(volume_phase(volume), "Pending" | "Available")
}

/// What a claim's wishes have in common with others': whether a node was chosen for it,
/// and its access modes.
type Wishes = (bool, u8);

/// Claims that name no volume, by slot, then by wishes, then by the bytes they ask for.
#[derive(Debug, Default, PartialEq, Eq)]
pub(crate) struct PendingClaims {
    slots: BTreeMap<Slot, BTreeMap<Wishes, BTreeSet<(i64, Key)>>>,
}

impl PendingClaims {
    pub(super) fn turn(&mut self, claim: &Shared<PersistentVolumeClaim>, present: bool) {
        if claim_volume(claim).is_some() || is_deleting(&claim.metadata) {
            return;
        }
        let Ok(request) = access::claim_request(claim) else { return };
        let slot = Slot::of_claim(claim);
        let is_placed = annotation(&claim.metadata, names::SELECTED_NODE).is_some();
        let wishes = (is_placed, modes_mask(claim_modes(claim)));
        let entry = (request, claim.key.clone());
        if present {
            self.slots.entry(slot).or_default().entry(wishes).or_default().insert(entry);
            return;
        }
        let Some(by_wishes) = self.slots.get_mut(&slot) else { return };
        if let Some(claims) = by_wishes.get_mut(&wishes) {
            claims.remove(&entry);
            if claims.is_empty() {
                by_wishes.remove(&wishes);
            }
        }
        if by_wishes.is_empty() {
            self.slots.remove(&slot);
        }
    }

    /// The claims that a volume with these modes and so many bytes would satisfy, the
    /// largest request first among those with the same modes; with `only_placed` those
    /// only for which a node was chosen.
    pub(crate) fn satisfied_by<'a>(
        &'a self,
        slot: &Slot,
        offered: u8,
        bytes: i64,
        only_placed: bool,
    ) -> impl Iterator<Item = &'a Key> + use<'a> {
        let fitting =
            self.slots.get(slot).into_iter().flatten().rev().filter(move |((is_placed, asked), _)| {
                offered & asked == *asked && (*is_placed || !only_placed)
            });
        // Greater than every claim of this size.
        let end = (bytes.saturating_add(1), Key::new("", "", ""));
        fitting.flat_map(move |(_, claims)| claims.range(..end.clone()).rev().map(|(_, key)| key))
    }
}
