//! Copies into another file system, as a stream: `btrfs send | btrfs receive`.
//!
//! What becomes a volume is whole by itself, and writable: no later stream can be built on
//! it. What becomes a snapshot stays as it was received.

use std::{ffi::OsStr, os::fd::OwnedFd};

use parking_lot::Mutex;
use rustix::fs as rfs;
use uuid::Uuid;

use super::{
    super::{
        Give, Take,
        folders::sizes::{self, DATA, DATA_NAME},
    },
    Copies, Cut,
};
use crate::{
    command::{CommandError, Runner, Tool, pipe::End},
    error::{Error, Tried as _},
    kernel::btrfs::received::entries,
    pool::{Meter, VolumeFolder},
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
        meter: Meter<'_>,
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
        let refusal = Mutex::new(None);
        let mut allowed = |so_far: u64| match meter(so_far) {
            Ok(()) => true,
            Err(error) => {
                *refusal.lock() = Some(error);
                false
            }
        };
        let piped = runner.run_piped(&from, &into, &mut allowed, &mut told);
        // Both ends were let go of then, and neither knows why.
        if let Some(refusal) = refusal.into_inner() {
            return Err(refusal);
        }
        piped.map_err(|error| self.explain(error))?;
        step::passed("subvolume received");
        self.btrfs.adopt_received(&sizes::open(cut.into)?, DATA_NAME)?;
        let data = sizes::data(cut.into)?;
        // The counts are right after it, too.
        rfs::syncfs(&data).tried(|| format!("syncing {}", cut.into.path().display()))?;
        step::passed("received subvolume synced");
        self.expect_fitting(&data, volume)
    }

    /// By what streams know a snapshot.
    pub(in super::super) fn lineage(&self, snapshot: &VolumeFolder) -> Result<Uuid, Error> {
        self.btrfs.lineage(&sizes::open(snapshot)?, DATA_NAME)
    }

    /// Streams a snapshot, or what of it differs from another.
    pub(in super::super) fn send(
        &self,
        runner: &Runner,
        snapshot: &VolumeFolder,
        since: Option<&VolumeFolder>,
        take: Take<'_>,
    ) -> Result<(), Error> {
        let data = snapshot.child(DATA);
        let since = since.map(|since| since.child(DATA));
        let mut args: Vec<&OsStr> = vec!["send".as_ref(), "--quiet".as_ref()];
        if let Some(since) = &since {
            args.extend(["-p".as_ref(), since.as_os_str()]);
        }
        args.push(data.as_os_str());
        runner.run_into(&End { tool: Tool::BTRFS_COPY, args: &args }, take)
    }

    /// Makes a snapshot of a stream, durably. A crash leaves any part of it under the same name.
    pub(in super::super) fn receive_snapshot(
        &self,
        runner: &Runner,
        into: &VolumeFolder,
        lineage: Uuid,
        give: Give<'_>,
    ) -> Result<Option<u64>, Error> {
        self.expect_full_quotas()?;
        // What is written is counted from the first byte on.
        self.btrfs.counting_enabled()?;
        // Confined, as above. What the stream is built on is found from without.
        let path = into.path();
        let args = ["receive".as_ref(), "--quiet".as_ref(), "--chroot".as_ref(), path.as_os_str()];
        runner.run_fed(&End { tool: Tool::BTRFS_COPY, args: &args }, give).map_err(|error| match error {
            Error::Command(error) => self.explain(error),
            error => error,
        })?;
        step::passed("snapshot received");
        self.expect_received(into, lineage)?;
        let data = sizes::data(into)?;
        rfs::syncfs(&data).tried(|| format!("syncing {}", path.display()))?;
        step::passed("received snapshot synced");
        self.btrfs.used(&data)
    }

    /// Refuses what is not, and nothing but, the snapshot that was announced.
    fn expect_received(&self, into: &VolumeFolder, lineage: Uuid) -> Result<(), Error> {
        let folder = sizes::open(into)?;
        let names = entries(&folder)?;
        let is_it = names == [DATA_NAME.to_owned()]
            && self.btrfs.is_read_only_subvolume(&folder, DATA_NAME)?
            && self.btrfs.lineage(&folder, DATA_NAME)? == lineage;
        if is_it {
            return Ok(());
        }
        Err(Error::Invalid(format!(
            "what came is not the snapshot that it says it is: it holds {names:?}; send the snapshot again"
        )))
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
            CommandError::Failed { stderr, .. } if stderr.contains("with fs tree") => {
                Error::Precondition(format!(
                    "{error}; the pool at {} is reached through a mount of a folder: mount the subvolume that it lies in \
                 where the driver runs",
                    self.btrfs.path().display()
                ))
            }
            _ => error.into(),
        }
    }
}
