//! A volume's data held still for a copy that takes its time: a snapshot without a name.

use std::collections::BTreeMap;

use super::{Pool, VolumeFolder, Wish, ledger::SnapshotReservation};
use crate::{error::Error, snapshot::SnapshotId, volume_id::VolumeId};

/// The snapshot, for as long as this lives. It keeps the name `.new-…`, so that the next
/// start removes what a crash leaves of it.
#[derive(Debug)]
pub(crate) struct Still<'a> {
    pool: &'a Pool,
    id: SnapshotId,
    folder: VolumeFolder,
    _room: SnapshotReservation,
}

impl Pool {
    /// Holds still what is in the volume `source` now, to fill the new volume `target` with
    /// it. The volume itself may go on, and go.
    pub(crate) fn hold_still(&self, source: &VolumeFolder, target: &VolumeId) -> Result<Still<'_>, Error> {
        self.expect_in_place()?;
        let volume = source.read_volume()?;
        // No snapshot that anybody asks for has this character in its name.
        let id = SnapshotId::derive(&self.name, &format!("\0{target}"));
        let source_id = volume.id.clone();
        let bytes = self.backend.snapshot_bytes(source).map_err(|error| self.explained(source, error))?;
        let promised = BTreeMap::from([(id.clone(), bytes)]);
        let room = self.ledger.reserve_snapshots(promised.clone(), &|sizes| self.measure(sizes))?;
        let wish = Wish { id: id.clone(), name: format!("for {target}"), source, volume };
        let mut folders = match self.make_new_snapshots(&[wish], &promised, None) {
            Ok(made) => made,
            Err(error) => {
                self.discard_new_snapshots([&id].into_iter());
                return Err(error);
            }
        };
        // To change what it shares with the snapshot takes the volume new room.
        self.ledger.note_sharing(&source_id);
        match folders.pop() {
            Some((folder, _)) => Ok(Still { pool: self, id, folder, _room: room }),
            None => Err(Error::Lost(format!("what holds {source_id} still is not there"))),
        }
    }
}

impl Still<'_> {
    /// Where the data is, as in a snapshot.
    pub(crate) fn folder(&self) -> &VolumeFolder {
        &self.folder
    }
}

impl Drop for Still<'_> {
    fn drop(&mut self) {
        self.pool.discard_new_snapshots([&self.id].into_iter());
    }
}
