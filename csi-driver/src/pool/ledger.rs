//! How much of a pool is promised, so that it never promises more than there is.
//!
//! The file system is asked without the lock on the promises, for it may hang. What was
//! promised while it was asked is subtracted from its answer, whether the answer has it or
//! not: that can refuse too much, and then it is asked again, but never promise too much.

mod reservation;
#[cfg(test)]
mod tests;

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};
pub(crate) use reservation::{Reservation, SnapshotReservation};

use crate::{error::Error, size::Bytes, snapshot::SnapshotId, volume_id::VolumeId};

/// How long a measurement of the file system is good. Our own promises in between
/// are subtracted from it, so only what others write is seen this late.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// How often the file system is asked again before a refusal, when others were promised
/// something or gave it back while it answered.
const ASKED_AGAIN: usize = 4;

/// Asked for a fresh measurement, the file system's free bytes and those of them that
/// volumes were promised and have not written yet.
pub(crate) type Measure<'a> = &'a dyn Fn(&BTreeMap<VolumeId, Promise>) -> Result<Free, Error>;

/// What a volume was promised.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Promise {
    /// Bytes in all.
    pub(crate) bytes: u64,
    /// Whether a snapshot or another volume may have blocks in common with it: to change
    /// such a block takes new room, although the volume occupies it already.
    pub(crate) shares: bool,
}

/// A measurement of the pool's file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) free: u64,
    pub(crate) unwritten: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// The bytes promised to each volume, to those being made as well.
    volumes: BTreeMap<VolumeId, Promise>,
    /// The most bytes that each snapshot may come to occupy alone. On the disk they need
    /// no room of their own: it is their volumes that need it, to change what is shared.
    snapshots: BTreeMap<SnapshotId, u64>,
    /// What snapshots being made may still write, where they are copies.
    being_cut: u64,
    /// The bytes of deleted volumes that can be restored, by their name in the trash.
    trashed: BTreeMap<String, u64>,
    /// All bytes ever promised, whatever became of them.
    taken: u64,
    /// How often bytes came free.
    freed: u64,
    measured: Option<Measured>,
}

/// What a measurement came to.
#[derive(Debug, Clone, Copy)]
struct Measured {
    when: Instant,
    /// Bytes that can be promised; kept up with the promises since.
    left: u64,
    /// Whether it ran while something was promised or came free: there may be more.
    disturbed: bool,
}

/// The promises of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pool: String,
    limit: Option<u64>,
    /// Never held while the file system is asked.
    inner: Arc<Mutex<Inner>>,
    /// Held by the one who asks, so that many at once ask once.
    measuring: Arc<Mutex<()>>,
}

impl Ledger {
    /// A ledger of what is there. `limit` is the most bytes for all.
    pub(crate) fn new(
        pool: &str,
        limit: Option<u64>,
        volumes: BTreeMap<VolumeId, Promise>,
        snapshots: BTreeMap<SnapshotId, u64>,
    ) -> Self {
        let inner = Inner { volumes, snapshots, ..Inner::default() };
        Self { pool: pool.to_owned(), limit, inner: Arc::new(Mutex::new(inner)), measuring: Arc::default() }
    }

    /// How many bytes could still be promised.
    pub(crate) fn available(&self, measure: Measure<'_>) -> Result<u64, Error> {
        let inner = self.measured(measure)?;
        Ok(inner.available(self.limit).unwrap_or(0))
    }

    /// How many bytes are promised to volumes and snapshots.
    pub(crate) fn promised(&self) -> u64 {
        self.inner.lock().promised()
    }

    /// Whether something is promised to the volume; each that exists has a promise.
    pub(crate) fn has(&self, id: &VolumeId) -> bool {
        self.inner.lock().volumes.contains_key(id)
    }

    /// The same for a snapshot.
    pub(crate) fn has_snapshot(&self, id: &SnapshotId) -> bool {
        self.inner.lock().snapshots.contains_key(id)
    }

    /// Promises `size` bytes in all to the volume, more or fewer than before. The
    /// promise is taken back when the reservation is dropped before it is kept.
    pub(crate) fn reserve(
        &self,
        id: &VolumeId,
        size: u64,
        measure: Measure<'_>,
    ) -> Result<Reservation, Error> {
        let held = |inner: &Inner| inner.volumes.get(id).copied();
        let more = |inner: &Inner| size.saturating_sub(held(inner).map_or(0, |promise| promise.bytes));
        let mut inner = self.with_room(self.limit, more, measure)?;
        let before = held(&inner);
        inner.set(id, Some(Promise { bytes: size, ..before.unwrap_or_default() }));
        Ok(Reservation { ledger: self.clone(), id: id.clone(), before, kept: false })
    }

    /// Promises room to the snapshots of one cut, all or none; taken back as above.
    pub(crate) fn reserve_snapshots(
        &self,
        snapshots: BTreeMap<SnapshotId, u64>,
        measure: Measure<'_>,
    ) -> Result<SnapshotReservation, Error> {
        let bytes = snapshots.values().sum();
        let mut inner = self.with_room(self.limit, |_| bytes, measure)?;
        inner.being_cut += bytes;
        inner.take(bytes);
        inner.snapshots.extend(snapshots.iter().map(|(id, bytes)| (id.clone(), *bytes)));
        Ok(SnapshotReservation { ledger: self.clone(), snapshots, bytes, kept: false })
    }

    /// Promises `bytes` to a snapshot that comes from elsewhere, within the pool's limit. What is written
    /// of it needs [`Ledger::reserve_passing`] besides.
    pub(crate) fn promise_snapshot(&self, id: &SnapshotId, bytes: u64) -> Result<SnapshotReservation, Error> {
        let mut inner = self.inner.lock();
        let others = inner.snapshots.get(id).copied().unwrap_or(0);
        let promised = inner.promised().saturating_add(inner.trashed()).saturating_sub(others);
        if let Some(left) =
            self.limit.map(|limit| limit.saturating_sub(promised)).filter(|left| *left < bytes)
        {
            return Err(self.is_full(&inner, bytes, left));
        }
        inner.snapshots.insert(id.clone(), bytes);
        Ok(SnapshotReservation {
            ledger: self.clone(),
            snapshots: BTreeMap::from([(id.clone(), bytes)]),
            bytes: 0,
            kept: false,
        })
    }

    /// Room on the disk for bytes that are about to be written, until this is dropped.
    pub(crate) fn reserve_passing(
        &self,
        bytes: u64,
        measure: Measure<'_>,
    ) -> Result<SnapshotReservation, Error> {
        let mut inner = self.with_room(None, |_| bytes, measure)?;
        inner.being_cut += bytes;
        inner.take(bytes);
        Ok(SnapshotReservation { ledger: self.clone(), snapshots: BTreeMap::new(), bytes, kept: false })
    }

    /// The lock on the promises, at a moment when there is room for `more` bytes.
    fn with_room(
        &self,
        limit: Option<u64>,
        more: impl Fn(&Inner) -> u64,
        measure: Measure<'_>,
    ) -> Result<MutexGuard<'_, Inner>, Error> {
        for last in (0..=ASKED_AGAIN).map(|asked| asked == ASKED_AGAIN) {
            let mut inner = self.inner.lock();
            if more(&inner) == 0 {
                return Ok(inner);
            }
            if inner.available(limit).is_none() {
                drop(inner);
                inner = self.measured(measure)?;
            }
            let more = more(&inner);
            let available = inner.available(limit).unwrap_or(0);
            if more <= available {
                return Ok(inner);
            }
            if last || !inner.measured.is_some_and(|measured| measured.disturbed) {
                return Err(self.is_full(&inner, more, available));
            }
            inner.measured = None;
        }
        Err(Error::Lost("asking for the pool's room".to_owned()))
    }

    /// The lock on the promises, with a measurement that is good.
    fn measured(&self, measure: Measure<'_>) -> Result<MutexGuard<'_, Inner>, Error> {
        let _one = self.measuring.lock();
        let inner = self.inner.lock();
        if inner.available(self.limit).is_some() {
            return Ok(inner);
        }
        let (volumes, being_cut) = (inner.volumes.clone(), inner.being_cut);
        let (taken, freed) = (inner.taken, inner.freed);
        drop(inner);
        let Free { free, unwritten } = measure(&volumes)?;
        let mut inner = self.inner.lock();
        let since = inner.taken.saturating_sub(taken);
        let left = free.saturating_sub(unwritten).saturating_sub(being_cut).saturating_sub(since);
        let disturbed = since > 0 || inner.freed != freed;
        inner.measured = Some(Measured { when: Instant::now(), left, disturbed });
        Ok(inner)
    }

    fn is_full(&self, inner: &Inner, more: u64, available: u64) -> Error {
        let trash = match inner.trashed() {
            0 => String::new(),
            bytes => format!(", {} held in the trash: see `holdfast driver trash`", Bytes(bytes)),
        };
        Error::Exhausted(format!(
            "pool {:?} is full: {} are needed and {} are available ({} promised to {} volumes and {} snapshots{}{trash}); \
             delete some, or give the pool more room",
            self.pool,
            Bytes(more),
            Bytes(available),
            Bytes(inner.promised()),
            inner.volumes.len(),
            inner.snapshots.len(),
            self.limit
                .map(|limit| format!(", limited to {} by limits.capacity or --pool-capacity", Bytes(limit)))
                .unwrap_or_default(),
        ))
    }

    /// As [`Ledger::reserve`], for a volume that comes back from the trash and has
    /// `occupied` of its bytes already.
    pub(crate) fn reserve_back(
        &self,
        id: &VolumeId,
        entry: &str,
        promise: Promise,
        occupied: u64,
        measure: Measure<'_>,
    ) -> Result<Reservation, Error> {
        // It was counted within the limit all the time, so the limit is no reason to refuse it.
        let held = self.inner.lock().trashed.get(entry).copied().unwrap_or(0);
        let limit = self.limit.map(|limit| limit.saturating_add(held));
        let mut inner = self.with_room(limit, |_| promise.bytes.saturating_sub(occupied), measure)?;
        inner.trashed.remove(entry);
        let before = inner.volumes.get(id).copied();
        inner.set(id, Some(promise));
        Ok(Reservation { ledger: self.clone(), id: id.clone(), before, kept: false })
    }

    /// As [`Ledger::reserve`], for a volume that is moved in from elsewhere on the file system
    /// and has `occupied` of its bytes already. The pool's limit counts all of them.
    pub(crate) fn reserve_moved(
        &self,
        id: &VolumeId,
        size: u64,
        occupied: u64,
        measure: Measure<'_>,
    ) -> Result<Reservation, Error> {
        let mut inner = self.with_room(None, |_| size.saturating_sub(occupied), measure)?;
        let promised = inner.promised().saturating_add(inner.trashed());
        if let Some(left) = self.limit.map(|limit| limit.saturating_sub(promised)).filter(|left| *left < size)
        {
            return Err(self.is_full(&inner, size, left));
        }
        inner.set(id, Some(Promise { bytes: size, shares: false }));
        Ok(Reservation { ledger: self.clone(), id: id.clone(), before: None, kept: false })
    }

    /// Counts a deleted volume until it is freed. It stays within the pool's limit, so
    /// that it can come back.
    pub(crate) fn hold(&self, entry: &str, bytes: u64) {
        self.inner.lock().trashed.insert(entry.to_owned(), bytes);
    }

    /// Counts a deleted volume no more: its space is free, or it came back.
    pub(crate) fn let_go(&self, entry: &str) {
        let mut inner = self.inner.lock();
        inner.trashed.remove(entry);
        inner.forget();
    }

    /// From now on the volume has blocks in common with something else.
    pub(crate) fn note_sharing(&self, id: &VolumeId) {
        let mut inner = self.inner.lock();
        if let Some(promise) = inner.volumes.get_mut(id) {
            promise.shares = true;
            let bytes = promise.bytes;
            // All of it may need room anew.
            inner.take(bytes);
        }
        inner.forget();
    }

    /// Forgets a snapshot that was deleted.
    pub(crate) fn release_snapshot(&self, id: &SnapshotId) {
        let mut inner = self.inner.lock();
        inner.snapshots.remove(id);
        inner.forget();
    }

    /// Forgets a volume that was deleted, or counts it as `trashed` from now on.
    pub(crate) fn release(&self, id: &VolumeId, trashed: Option<&str>) {
        let mut inner = self.inner.lock();
        let promise = inner.volumes.get(id).copied();
        inner.set(id, None);
        if let (Some(entry), Some(promise)) = (trashed, promise) {
            inner.trashed.insert(entry.to_owned(), promise.bytes);
        }
    }

    /// Measures again at the next question: space was given back.
    pub(crate) fn forget_measurement(&self) {
        self.inner.lock().forget();
    }
}

impl Inner {
    /// How many bytes can be promised; `None` when that has to be measured.
    fn available(&self, limit: Option<u64>) -> Option<u64> {
        let measured = self.measured.filter(|measured| measured.when.elapsed() < MEASURED_FOR)?;
        let promised = self.promised().saturating_add(self.trashed());
        let under_limit = limit.map_or(u64::MAX, |limit| limit.saturating_sub(promised));
        Some(under_limit.min(measured.left))
    }

    /// So many bytes more are promised.
    fn take(&mut self, bytes: u64) {
        self.taken = self.taken.saturating_add(bytes);
        if let Some(measured) = &mut self.measured {
            measured.left = measured.left.saturating_sub(bytes);
        }
    }

    /// Something came free: how much, only a measurement knows.
    fn forget(&mut self) {
        self.freed += 1;
        self.measured = None;
    }

    fn promised(&self) -> u64 {
        let volumes: u64 = self.volumes.values().map(|promise| promise.bytes).sum();
        volumes.saturating_add(self.snapshots.values().sum())
    }

    fn trashed(&self) -> u64 {
        self.trashed.values().sum()
    }

    fn set(&mut self, id: &VolumeId, promise: Option<Promise>) {
        let before = match promise {
            Some(promise) => self.volumes.insert(id.clone(), promise),
            None => self.volumes.remove(id),
        };
        let bytes = |promise: Option<Promise>| promise.map_or(0, |promise| promise.bytes);
        let (before, after) = (bytes(before), bytes(promise));
        if after < before {
            self.forget();
        } else {
            self.take(after - before);
        }
    }
}
