//! How much of a pool is promised, so that it never promises more than there is.

use std::{
    collections::BTreeMap,
    sync::Arc,
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use crate::{error::Error, size::Bytes, volume_id::VolumeId};

/// How long a measurement of the file system is good. Our own promises in between
/// are subtracted from it, so only what others write is seen this late.
const MEASURED_FOR: Duration = Duration::from_secs(1);

/// Asked for a fresh measurement, the file system's free bytes and those of them that
/// volumes were promised and have not written yet.
pub(crate) type Measure<'a> = &'a dyn Fn(&BTreeMap<VolumeId, u64>) -> Result<Free, Error>;

/// A measurement of the pool's file system, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Free {
    pub(crate) free: u64,
    pub(crate) unwritten: u64,
}

#[derive(Debug, Default)]
struct Inner {
    /// The bytes promised to each volume, to those being made as well.
    sizes: BTreeMap<VolumeId, u64>,
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
    /// A ledger of the volumes that are there. `limit` is the most bytes for all.
    pub(crate) fn new(pool: &str, limit: Option<u64>, sizes: BTreeMap<VolumeId, u64>) -> Self {
        let inner = Inner { sizes, measured: None };
        Self { pool: pool.to_owned(), limit, inner: Arc::new(Mutex::new(inner)) }
    }

    /// How many bytes could still be promised.
    pub(crate) fn available(&self, measure: Measure<'_>) -> Result<u64, Error> {
        self.inner.lock().available(self.limit, measure)
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
        let before = inner.sizes.get(id).copied();
        let more = size.saturating_sub(before.unwrap_or(0));
        if more > 0 {
            let available = inner.available(self.limit, measure)?;
            if more > available {
                let promised: u64 = inner.sizes.values().sum();
                return Err(Error::Exhausted(format!(
                    "pool {:?} is full: {} are needed and {} are available ({} promised to {} volumes{}); \
                     delete volumes, or give the pool more room",
                    self.pool,
                    Bytes(more),
                    Bytes(available),
                    Bytes(promised),
                    inner.sizes.len(),
                    self.limit.map(|limit| format!(", limits.capacity {}", Bytes(limit))).unwrap_or_default(),
                )));
            }
        }
        inner.set(id, Some(size));
        Ok(Reservation { ledger: self.clone(), id: id.clone(), before, kept: false })
    }

    /// Forgets a volume that was deleted.
    pub(crate) fn release(&self, id: &VolumeId) {
        self.inner.lock().set(id, None);
    }

    /// Measures again at the next question: space was given back.
    pub(crate) fn forget_measurement(&self) {
        self.inner.lock().measured = None;
    }
}

impl Inner {
    fn available(&mut self, limit: Option<u64>, measure: Measure<'_>) -> Result<u64, Error> {
        let promised: u64 = self.sizes.values().sum();
        let under_limit = limit.map_or(u64::MAX, |limit| limit.saturating_sub(promised));
        let on_disk = match self.measured {
            Some((when, left)) if when.elapsed() < MEASURED_FOR => left,
            _ => {
                let Free { free, unwritten } = measure(&self.sizes)?;
                let left = free.saturating_sub(unwritten);
                self.measured = Some((Instant::now(), left));
                left
            }
        };
        Ok(under_limit.min(on_disk))
    }

    fn set(&mut self, id: &VolumeId, size: Option<u64>) {
        let before = match size {
            Some(size) => self.sizes.insert(id.clone(), size),
            None => self.sizes.remove(id),
        };
        let (before, after) = (before.unwrap_or(0), size.unwrap_or(0));
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
    before: Option<u64>,
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

#[cfg(test)]
mod tests {
    use super::*;
    use crate::size::GIB;

    fn free(free: u64) -> impl Fn(&BTreeMap<VolumeId, u64>) -> Result<Free, Error> {
        move |sizes| Ok(Free { free, unwritten: sizes.values().sum() })
    }

    fn id(name: &str) -> VolumeId {
        VolumeId::derive("p", name)
    }

    #[test]
    fn never_more_than_the_limit_or_the_disk() {
        let ledger = Ledger::new("p", Some(10 * GIB), BTreeMap::from([(id("old"), 4 * GIB)]));
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 6 * GIB);
        ledger.reserve(&id("a"), 4 * GIB, &free(100 * GIB)).unwrap().keep();
        let error = ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).unwrap_err();
        assert!(matches!(&error, Error::Exhausted(text) if text.contains("2Gi") && text.contains("3Gi")), "{error}");
        ledger.release(&id("old"));
        assert!(ledger.reserve(&id("b"), 3 * GIB, &free(100 * GIB)).is_ok());

        let small = Ledger::new("p", None, BTreeMap::from([(id("old"), 4 * GIB)]));
        assert_eq!(small.available(&free(5 * GIB)).unwrap(), GIB);
        assert!(small.reserve(&id("a"), 2 * GIB, &free(5 * GIB)).is_err());
    }

    #[test]
    fn a_dropped_reservation_takes_nothing() {
        let ledger = Ledger::new("p", Some(10 * GIB), BTreeMap::from([(id("a"), GIB)]));
        drop(ledger.reserve(&id("a"), 9 * GIB, &free(100 * GIB)).unwrap());
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
        drop(ledger.reserve(&id("b"), 9 * GIB, &free(100 * GIB)).unwrap());
        assert_eq!(ledger.available(&free(100 * GIB)).unwrap(), 9 * GIB);
    }

    #[test]
    fn promises_between_two_measurements_count() {
        let ledger = Ledger::new("p", None, BTreeMap::new());
        let stale = |_: &BTreeMap<VolumeId, u64>| Ok(Free { free: 10 * GIB, unwritten: 0 });
        ledger.reserve(&id("a"), 6 * GIB, &stale).unwrap().keep();
        assert!(ledger.reserve(&id("b"), 6 * GIB, &stale).is_err());
    }

    #[test]
    fn an_error_is_no_room_and_no_absence() {
        let ledger = Ledger::new("p", None, BTreeMap::new());
        let failing = |_: &BTreeMap<VolumeId, u64>| Err(Error::Lost("disk".to_owned()));
        assert!(ledger.reserve(&id("a"), 1, &failing).is_err());
        assert_eq!(ledger.available(&free(GIB)).unwrap(), GIB);
    }
}
