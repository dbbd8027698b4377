//! Copies into another file system, as a stream: `btrfs send | btrfs receive`.
//!
//! Each is whole by itself. What a pool has received is a volume, and writable: no later
//! stream can be built on it.

use std::os::fd::OwnedFd;

use rustix::fs as rfs;

use super::{
    super::folders::sizes::{self, DATA, DATA_NAME},
    Copies, Cut,
};
use crate::{
    command::{CommandError, Runner, Tool, pipe::End},
    error::{Error, Tried as _},
    pool::VolumeFolder,
    size::Bytes,
    step,
    volume::Volume,
};

impl Copies {
    /// Whether a copy of this one can be a snapshot.
    pub(in super::super) fn share_with(&self, source: &VolumeFolder) -> Result<bool, Error> {
        self.btrfs.has(&sizes::open(source)?)
    }

    /// Makes a writable copy of a snapshot that lies elsewhere, durably and without a limit
    /// yet. A crash leaves any part of it under the same name.
    pub(in super::super) fn receive(
        &self,
        runner: &Runner,
        cut: &Cut<'_>,
        volume: &Volume,
    ) -> Result<(), Error> {
        self.expect_full_quotas()?;
        if volume.enforced {
            // What is written is counted from the first byte on.
            self.btrfs.counting_enabled()?;
        }
        let data = cut.source.child(DATA);
        let from =
            End { tool: Tool::BTRFS_COPY, args: &["send".as_ref(), "--quiet".as_ref(), data.as_os_str()] };
        // Confined to the new folder: what names the stream may hold, people decided. A
        // receiver that outlives this process never gets at a folder that is made after.
        let into = End {
            tool: Tool::BTRFS_COPY,
            args: &["receive".as_ref(), "--quiet".as_ref(), "--chroot".as_ref(), cut.into.path().as_os_str()],
        };
        let mut told = |sent: u64| {
            tracing::info!(source = %cut.source.path().display(), sent = %Bytes(sent), at_most = %Bytes(volume.capacity),
                "copying to another btrfs");
        };
        runner.run_piped(&from, &into, &mut told).map_err(|error| self.explain(error))?;
        step::passed("subvolume received");
        self.btrfs.adopt_received(&sizes::open(cut.into)?, DATA_NAME)?;
        let data = sizes::data(cut.into)?;
        // The counts are right after it, too.
        rfs::syncfs(&data).tried(|| format!("syncing {}", cut.into.path().display()))?;
        step::passed("received subvolume synced");
        self.expect_fitting(&data, volume)
    }

    /// Refuses data that is larger than the volume may be: what was compressed is not, here.
    fn expect_fitting(&self, data: &OwnedFd, volume: &Volume) -> Result<(), Error> {
        let used = self.btrfs.used(data)?.unwrap_or(0);
        if volume.enforced && used > volume.capacity {
            return Err(Error::OutOfRange(format!(
                "what volume {} is made from takes {} in this pool, for it is not as compressed here, and {} were asked \
                 for; ask for more",
                volume.id,
                Bytes(used),
                Bytes(volume.capacity)
            )));
        }
        Ok(())
    }

    /// The error with its reason, where the file system has no room left.
    fn explain(&self, error: CommandError) -> Error {
        match &error {
            CommandError::Failed { stderr, .. }
                if ["No space left on device", "Disk quota exceeded"]
                    .iter()
                    .any(|full| stderr.contains(full)) =>
            {
                Error::Exhausted(format!(
                    "{error}; the btrfs at {} is full: make room there and try again",
                    self.btrfs.path().display()
                ))
            }
            _ => error.into(),
        }
    }
}
