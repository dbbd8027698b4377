//! How much of a pool is promised, so that it never promises more than there is.
//!
//! The file system is asked without the lock on the promises, for it may hang. What was
//! promised while it was asked is subtracted from its answer, whether the answer has it or
//! not: that can refuse too much, and then it is asked again, but never promise too much.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::{Mutex, MutexGuard};

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
        inner.forget();
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
    fn room_for_snapshots_being_cut_is_taken_at_once() {
        let ledger = holding(None, &[]);
        let stale = |_: &BTreeMap<VolumeId, Promise>| Ok(Free { free: 10 * GIB, unwritten: 0 });
        let cut = |name| BTreeMap::from([(SnapshotId::derive("p", name), 6 * GIB)]);
        let _first = ledger.reserve_snapshots(cut("s"), &stale).unwrap();
        assert!(ledger.reserve_snapshots(cut("t"), &stale).is_err());
    }

    /// A disk of so many bytes on which nothing is written, and which is slow to answer.
    fn slow_disk(bytes: u64) -> impl Fn(&BTreeMap<VolumeId, Promise>) -> Result<Free, Error> + Copy {
        move |sizes| {
            (0..100).for_each(|_| std::thread::yield_now());
            Ok(Free { free: bytes, unwritten: sizes.values().map(|promise| promise.bytes).sum() })
        }
    }

    #[test]
    fn many_at_once_are_never_promised_more_than_there_is() {
        let disk = slow_disk(20 * GIB);
        let ledger = holding(None, &[]);
        std::thread::scope(|scope| {
            for client in 0..8 {
                let ledger = &ledger;
                scope.spawn(move || {
                    for round in 0..20 {
                        let id = id(&format!("{client}-{round}"));
                        match ledger.reserve(&id, GIB, &disk) {
                            Ok(promise) if round % 3 == 0 => drop(promise),
                            Ok(promise) => promise.keep(),
                            Err(Error::Exhausted(_)) => {}
                            Err(error) => panic!("{error}"),
                        }
                        let promised = ledger.inner.lock().promised();
                        assert!(promised <= 20 * GIB, "{} are promised", Bytes(promised));
                        if round % 4 == 0 {
                            ledger.release(&id, None);
                        }
                        ledger.note_sharing(&id);
                    }
                });
            }
        });
        let promised = ledger.inner.lock().promised();
        assert!(promised > 15 * GIB, "the pool stays empty: {}", Bytes(promised));
    }

    #[test]
    fn what_comes_to_be_shared_while_the_disk_answers_counts() {
        let ledger = holding(None, &[("a", 4 * GIB)]);
        let answer = |sizes: &BTreeMap<VolumeId, Promise>| {
            // All of it is written, and to change what is shared takes room anew.
            let unwritten =
                sizes.values().filter(|promise| promise.shares).map(|promise| promise.bytes).sum();
            if unwritten == 0 {
                ledger.note_sharing(&id("a"));
            }
            Ok(Free { free: 5 * GIB, unwritten })
        };
        assert!(ledger.reserve(&id("b"), 3 * GIB, &answer).is_err());
        assert!(ledger.reserve(&id("b"), GIB, &answer).is_ok());
    }

    #[test]
    fn a_disk_that_hangs_holds_only_those_who_ask_it() {
        let ledger = holding(Some(10 * GIB), &[("a", GIB)]);
        let (release, hung) = std::sync::mpsc::channel::<()>();
        let (asked, begun) = std::sync::mpsc::channel::<()>();
        std::thread::scope(|scope| {
            let measuring = scope.spawn({
                let ledger = &ledger;
                move || {
                    let hanging = |sizes: &BTreeMap<VolumeId, Promise>| {
                        asked.send(()).unwrap();
                        let _ = hung.recv();
                        free(100 * GIB)(sizes)
                    };
                    ledger.reserve(&id("b"), GIB, &hanging).map(Reservation::keep)
                }
            });
            begun.recv().unwrap();
            ledger.release(&id("a"), Some("a.1-1"));
            ledger.hold("old", GIB);
            ledger.let_go("old");
            ledger.note_sharing(&id("a"));
            assert_eq!(ledger.inner.lock().trashed(), GIB);
            release.send(()).unwrap();
            measuring.join().unwrap().unwrap();
        });
        assert_eq!(ledger.inner.lock().promised(), GIB);
    }

    #[test]
    fn an_error_is_no_room_and_no_absence() {
        let ledger = holding(None, &[]);
        let failing = |_: &BTreeMap<VolumeId, Promise>| Err(Error::Lost("disk".to_owned()));
        assert!(ledger.reserve(&id("a"), 1, &failing).is_err());
        assert_eq!(ledger.available(&free(GIB)).unwrap(), GIB);
    }
}
