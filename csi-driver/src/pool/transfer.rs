//! Snapshots that leave a pool as a stream, and come into one.
//!
//! One that is received appears as one that was cut: whole, in one rename, or not at all.

use std::{
    io::{Read, Write},
    time::{Duration, Instant},
};

use parking_lot::Mutex;

use super::{
    NEW, Pool, Progress, Watcher,
    envelope::{Base, Incoming, Label, Outgoing},
    ledger::SnapshotReservation,
    make_new,
};
use crate::{
    error::Error,
    snapshot::{Snapshot, SnapshotId},
    step,
    volume::Content,
};

/// How often the one who waits is told how far it is.
const PERIOD: Duration = Duration::from_millis(500);

impl Pool {
    /// Writes a snapshot into `output`, or what of it differs from the snapshot `since`. To be
    /// called with both held.
    pub(crate) fn send(
        &self,
        id: &SnapshotId,
        since: Option<&SnapshotId>,
        output: impl Write + Send,
        watcher: Watcher<'_>,
    ) -> Result<Snapshot, Error> {
        let folder = self.snapshot_folder(id)?;
        let base = since.map(|since| self.snapshot_folder(since)).transpose()?;
        let base_label = match (since, &base) {
            (Some(id), Some(base)) => Some(Base { id: id.clone(), lineage: self.backend.lineage(base)? }),
            _ => None,
        };
        let snapshot = folder.read_snapshot()?;
        let lineage = self.backend.lineage(&folder)?;
        let label = Label { snapshot: snapshot.clone(), lineage, since: base_label };
        let mut envelope = Outgoing::begin(output, &label)?;
        let told = now_and_then(watcher);
        self.backend.send(&folder, base.as_ref(), Box::new(|stream| envelope.fill(stream, &told)))?;
        // Only now: the stream of one that failed ends as well.
        envelope.close()?;
        Ok(snapshot)
    }

    /// The snapshot on which what comes is built, if it is.
    pub(crate) fn find_base(&self, label: &Label) -> Result<Option<SnapshotId>, Error> {
        let Some(since) = &label.since else { return Ok(None) };
        let mut unknown = None;
        for id in self.snapshot_ids()? {
            let Some(folder) = self.find_snapshot(&id)? else { continue };
            match self.backend.lineage(&folder) {
                Ok(lineage) if lineage == since.lineage => return Ok(Some(id)),
                Ok(_) => {}
                Err(error) => unknown = Some(error),
            }
        }
        // Of one that cannot be asked nobody knows that it is not the one.
        if let Some(error) = unknown {
            return Err(error);
        }
        Err(Error::NotFound(format!(
            "what comes are the changes since snapshot {}, of which pool {:?} has no copy; send that one first, or this \
             one whole (without --since)",
            since.id, self.name
        )))
    }

    /// Makes the snapshot `id` of what comes. To be called with it, and with what it is built
    /// on, held.
    pub(crate) fn receive<R: Read + Send>(
        &self,
        id: &SnapshotId,
        name: &str,
        incoming: &mut Incoming<R>,
        watcher: Watcher<'_>,
    ) -> Result<Snapshot, Error> {
        if self.find_snapshot(id)?.is_some() {
            return Err(Error::Exists(format!(
                "snapshot {id} exists already; delete it first, or give another name with --name"
            )));
        }
        self.expect_in_place()?;
        let sent = &incoming.label().snapshot;
        if sent.content != Content::Folder {
            return Err(Error::Invalid(format!(
                "what comes holds {}, and pool {:?} has folders",
                sent.content, self.name
            )));
        }
        let bounds = self.backend.bounds(sent.content);
        if !(bounds.min..=bounds.max).contains(&sent.capacity) {
            return Err(Error::Invalid(format!(
                "what comes has {} bytes, which is no size of a volume here",
                sent.capacity
            )));
        }
        let mut room = Some(self.ledger.promise_snapshot(id, sent.promised)?);
        let made = self.unpack(id, name, incoming, &mut room, watcher);
        match room {
            // Unknown counts as there.
            Some(room) if made.is_ok() || !matches!(self.find_snapshot(id), Ok(None)) => room.keep(),
            _ => self.discard_new_snapshots([id].into_iter()),
        }
        self.ledger.forget_measurement();
        made
    }

    fn unpack<R: Read + Send>(
        &self,
        id: &SnapshotId,
        name: &str,
        incoming: &mut Incoming<R>,
        room: &mut Option<SnapshotReservation>,
        watcher: Watcher<'_>,
    ) -> Result<Snapshot, Error> {
        let Label { snapshot: sent, lineage, .. } = incoming.label().clone();
        let new = format!("{NEW}{id}");
        let path = self.snapshots_path();
        self.discard_new(&self.snapshots, &path, &new)?;
        let folder = make_new(&self.snapshots, &path, &new)?;
        step::passed("folder of a received snapshot made");
        let told = now_and_then(watcher);
        let meter = self.meter(0);
        let metered = |so_far| {
            told(so_far);
            meter(so_far)
        };
        let give = Box::new(|stream| incoming.empty(stream, &metered));
        let occupied = self.backend.receive(&folder, lineage, give)?.unwrap_or(sent.promised);
        // What was compressed there is not, here, and whatever the label says.
        *room = None;
        *room = Some(self.ledger.promise_snapshot(id, occupied)?);
        let snapshot =
            Snapshot { id: id.clone(), name: name.to_owned(), promised: occupied, group: None, ..sent };
        folder.write_snapshot(&snapshot)?;
        self.show_new_snapshots(&[id])?;
        Ok(snapshot)
    }
}

/// Tells the bytes so far, of how many nobody knows, not more often than anybody reads.
fn now_and_then(watcher: Watcher<'_>) -> impl Fn(u64) + Send + Sync {
    let last = Mutex::new(Instant::now());
    move |done| {
        let mut last = last.lock();
        if last.elapsed() >= PERIOD {
            *last = Instant::now();
            watcher(Progress { done, total: 0 });
        }
    }
}
