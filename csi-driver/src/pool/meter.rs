//! Room for a stream, of which nobody knows how much it will be: what is compressed where it was
//! sent is not, here. It takes nothing that others were promised.

use parking_lot::Mutex;
use rustix::fs as rfs;

use super::{Pool, ledger::SnapshotReservation};
use crate::error::{Error, Tried as _};

/// So much is reserved ahead.
const STEP: u64 = 16 << 20;

/// Asked before so many bytes in all have come; refuses when there is no room for them.
pub(crate) type Meter<'a> = &'a (dyn Fn(u64) -> Result<(), Error> + Send + Sync);

struct Covered {
    bytes: u64,
    room: Option<SnapshotReservation>,
}

impl Pool {
    /// A meter for a stream of which `promised` bytes have their room already.
    pub(crate) fn meter(&self, promised: u64) -> impl Fn(u64) -> Result<(), Error> + Send + Sync {
        let covered = Mutex::new(Covered { bytes: promised, room: None });
        move |so_far| {
            let mut covered = covered.lock();
            if so_far <= covered.bytes {
                return Ok(());
            }
            // What was written is missing from what is free as soon as it is on the disk.
            rfs::syncfs(self.root()).tried(|| format!("syncing {}", self.path.display()))?;
            covered.room = None;
            self.ledger.forget_measurement();
            covered.room = Some(self.ledger.reserve_passing(STEP, &|sizes| self.measure(sizes))?);
            covered.bytes = so_far.saturating_add(STEP);
            Ok(())
        }
    }
}
