//! How much of a pool is promised, so that it never promises more than there is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{error::Error, size::Bytes, snapshot::SnapshotId, volume_id::VolumeId};

/// How long a measurement of the file system is good. Our own promises in between
/// are subtracted from it, so only what others write is seen this late.
const MEASURED_FOR: Duration = Duration::from_secs(1);

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
    measured: Option<(Instant, u64)>,
}

/// The promises of one pool.
#[derive(Debug, Clone)]
pub(crate) struct Ledger {
    pool: String,
    limit: Option<u64>,
    inner: Arc<Mutex<Inner>>,
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
        Self { pool: pool.to_owned(), limit, inner: Arc::new(Mutex::new(inner)) }
    }

    /// How many bytes could still be promised.
    pub(crate) fn available(&self, measure: Measure<'_>) -> Result<u64, Error> {
        self.inner.lock().available(self.limit, measure)
    }

    /// How many bytes are promised to volumes and snapshots.
    pub(crate) fn promised(&self) -> u64 {
        self.inner.lock().promised()
    }

    /// Promises `size` bytes in all to the volume, more or fewer than before. The
    /// promise is taken back when the reservation is dropped before it is kept.
    pub(crate) fn reserve(
        &self,
        id: &VolumeId,
        size: u64,
        measure: Measure<'_>,
    ) -> Result<Reservation, Error> {
        let mut inner = self.inner.lock();
        let before = inner.volumes.get(id).copied();
        let more = size.saturating_sub(before.map_or(0, |promise| promise.bytes));
        self.expect_room(&mut inner, more, measure)?;
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
        let mut inner = self.inner.lock();
        self.expect_room(&mut inner, bytes, measure)?;
        inner.being_cut += bytes;
        inner.snapshots.extend(snapshots.iter().map(|(id, bytes)| (id.clone(), *bytes)));
        Ok(SnapshotReservation { ledger: self.clone(), snapshots, bytes, kept: false })
    }

    fn expect_room(&self, inner: &mut Inner, more: u64, measure: Measure<'_>) -> Result<(), Error> {
        if more == 0 {
            return Ok(());
        }
        let available = inner.available(self.limit, measure)?;
        if more <= available {
            return Ok(());
        }
        let trash = match inner.trashed() {
            0 => String::new(),
            bytes => format!(", {} held in the trash: see `holdfast driver trash`", Bytes(bytes)),
        };
        Err(Error::Exhausted(format!(
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
        )))
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
        let mut inner = self.inner.lock();
        // It was counted within the limit all the time, so the limit is no reason to refuse it.
        let held = inner.trashed.remove(entry);
        if let Err(error) = self.expect_room(&mut inner, promise.bytes.saturating_sub(occupied), measure) {
            inner.trashed.extend(held.map(|held| (entry.to_owned(), held)));
            return Err(error);
        }
        let before = inner.volumes.get(id).copied();
        inner.set(id, Some(promise));
        Ok(Reservation { ledger: self.clone(), id: id.clone(), before, kept: false })
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
        inner.measured = None;
    }

    /// From now on the volume has blocks in common with something else.
    pub(crate) fn note_sharing(&self, id: &VolumeId) {
        let mut inner = self.inner.lock();
        if let Some(promise) = inner.volumes.get_mut(id) {
            promise.shares = true;
        }
        inner.measured = None;
    }

    /// Forgets a snapshot that was deleted.
    pub(crate) fn release_snapshot(&self, id: &SnapshotId) {
        let mut inner = self.inner.lock();
        inner.snapshots.remove(id);
        inner.measured = None;
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
        self.inner.lock().measured = None;
    }
}

impl Inner {
    fn available(&mut self, limit: Option<u64>, measure: Measure<'_>) -> Result<u64, Error> {
        let promised = self.promised().saturating_add(self.trashed());
        let under_limit = limit.map_or(u64::MAX, |limit| limit.saturating_sub(promised));
        let on_disk = match self.measured {
            Some((when, left)) if when.elapsed() < MEASURED_FOR => left,
            _ => {
                let Free { free, unwritten } = measure(&self.volumes)?;
                let left = free.saturating_sub(unwritten).saturating_sub(self.being_cut);
                self.measured = Some((Instant::now(), left));
                left
            }
        };
        Ok(under_limit.min(on_disk))
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
        match &mut self.measured {
            Some((_, left)) if after >= before => *left = left.saturating_sub(after - before),
            // Less is promised: how much came free, only a measurement knows.
            measured => *measured = None,
        }
    }
}

/// A promise that is not carried out yet.
#[derive(Debug)]
pub(crate) struct Reservation {
    ledger: Ledger,
    id: VolumeId,
    before: Option<Promise>,
    kept: bool,
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
    ledger: Ledger,
    snapshots: BTreeMap<SnapshotId, u64>,
    bytes: u64,
    kept: bool,
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
        inner.measured = None;
        if !self.kept {
            for id in self.snapshots.keys() {
                inner.snapshots.remove(id);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::GIB;

    fn free(free: u64) -> impl Fn(&BTreeMap<VolumeId, Promise>) -> Result<Free, Error> {
        move |sizes| Ok(Free { free, unwritten: sizes.values().map(|promise| promise.bytes).sum() })
    }

    fn holding(limit: Option<u64>, volumes: &[(&str, u64)]) -> Ledger {
        let promise = |bytes| Promise { bytes, shares: false };
        let volumes = volumes.iter().map(|(name, bytes)| (id(name), promise(*bytes))).collect();
        Ledger::new("p", limit, volumes, BTreeMap::new())
    }

    #[test]
    fn snapshots_count_until_they_are_gone() {
        let ledger = holding(Some(10 * GIB), &[("a", 4 * GIB)]);
        let cut = SnapshotId::derive("p", "s");
        let bytes = BTreeMap::from([(cut.clone(), 5 * GIB)]);
        drop(ledger.reserve_snapshots(bytes.clone(), &free(100 * GIB)).unwrap());
        ledger.reserve_snapshots(bytes.clone(), &free(100 * GIB)).unwrap().keep();
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), GIB);
        let more = BTreeMap::from([(SnapshotId::derive("p", "t"), 2 * GIB)]);
        assert!(matches!(ledger.reserve_snapshots(more, &free(100 * GIB)), Err(Error::Exhausted(_))));
        ledger.release_snapshot(&cut);
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 6 * GIB);
    }

    fn id(name: &str) -> VolumeId {
        VolumeId::derive("p", name)
    }

    #[test]
    fn never_more_than_the_limit_or_the_disk() {
        let ledger = holding(Some(10 * GIB), &[("old", 4 * GIB)]);
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 6 * GIB);
        ledger.reserve(&id("a"), 4 * GIB, &free(100 * GIB)).unwrap().keep();
        let error = ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).unwrap_err();
        assert!(
            matches!(&error, Error::Exhausted(text) if text.contains("2Gi") && text.contains("3Gi")),
            "{error}"
        );
        ledger.release(&id("old"), None);
        assert!(ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).is_ok());

        let small = holding(None, &[("old", 4 * GIB)]);
        assert_eq!(small.available(&free(5 * GIB)).unwrap(), GIB);
        assert!(small.reserve(&id("a"), 2 * GIB, &free(5 * GIB)).is_err());
    }

    #[test]
    fn a_dropped_reservation_takes_nothing() {
        let ledger = holding(Some(10 * GIB), &[("a", GIB)]);
        drop(ledger.reserve(&id("a"), 9 * GIB, &free(100 * GIB)).unwrap());
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
        drop(ledger.reserve(&id("b"), 9 * GIB, &free(100 * GIB)).unwrap());
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
    }

    #[test]
    fn promises_between_two_measurements_count() {
        let ledger = holding(None, &[]);
        let stale = |_: &BTreeMap<VolumeId, Promise>| Ok(Free { free: 10 * GIB, unwritten: 0 });
        ledger.reserve(&id("a"), 6 * GIB, &stale).unwrap().keep();
        assert!(ledger.reserve(&id("b"), 6 * GIB, &stale).is_err());
    }

    #[test]
    fn an_error_is_no_room_and_no_absence() {
        let ledger = holding(None, &[]);
        let failing = |_: &BTreeMap<VolumeId, Promise>| Err(Error::Lost("disk".to_owned()));
        assert!(ledger.reserve(&id("a"), 1, &failing).is_err());
        assert_eq!(ledger.available(&free(GIB)).unwrap(), GIB);
    }
}
