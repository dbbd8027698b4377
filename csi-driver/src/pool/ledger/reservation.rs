//! Promises that are taken back when they are dropped before they are kept.

use std::collections::BTreeMap;

use super::{Ledger, Promise};
use crate::{snapshot::SnapshotId, volume_id::VolumeId};

/// A promise that is not carried out yet.
#[derive(Debug)]
pub(crate) struct Reservation {
    pub(super) ledger: Ledger,
    pub(super) id: VolumeId,
    pub(super) before: Option<Promise>,
    pub(super) kept: bool,
}

impl Reservation {
    /// The volume has its bytes now.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for Reservation {
    fn drop(&mut self) {
        if !self.kept {
            self.ledger.inner.lock().set(&self.id, self.before);
        }
    }
}

/// Room for snapshots that are not cut yet.
#[derive(Debug)]
pub(crate) struct SnapshotReservation {
    pub(super) ledger: Ledger,
    pub(super) snapshots: BTreeMap<SnapshotId, u64>,
    pub(super) bytes: u64,
    pub(super) kept: bool,
}

impl SnapshotReservation {
    /// The snapshots are there.
    pub(crate) fn keep(mut self) {
        self.kept = true;
    }
}

impl Drop for SnapshotReservation {
    fn drop(&mut self) {
        let mut inner = self.ledger.inner.lock();
        inner.being_cut = inner.being_cut.saturating_sub(self.bytes);
        inner.forget();
        if !self.kept {
            for id in self.snapshots.keys() {
                inner.snapshots.remove(id);
            }
        }
    }
}
