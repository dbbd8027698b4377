//! The `btrfs` backend: volumes are subvolumes held to their size, snapshots are read-only
//! snapshots of them, and clones writable ones.
//!
//! Sizes need full quotas here. Simple quotas count a block for the subvolume that wrote
//! it first: a volume would pay for what only its snapshots still need, and a clone for
//! nothing of what it got.

mod stream;

use std::sync::Arc;

use super::{
    Abilities, Cut, Surroundings,
    folders::{
        Folders,
        sizes::{self, DATA_NAME, Sizes},
    },
};
use crate::{
    clock::Moment,
    command::{Runner, Tool},
    config::{BackendKind, ConfigError},
    error::Error,
    kernel::btrfs::{Counting, FileSystem},
};

/// A backend for the pool, which has to lie on btrfs.
pub(super) fn new(surroundings: Surroundings) -> Result<Folders, Error> {
    let Surroundings { path, root, fs_name, runner, .. } = surroundings;
    if fs_name != "btrfs" {
        return Err(Error::Config(ConfigError::value(
            format!("the btrfs pool at {}", path.display()),
            format!("lies on {fs_name}; give a path on btrfs, or use backend = \"directory\" or \"image\""),
        )));
    }
    let btrfs = Arc::new(FileSystem::of(root, &path, Counting::Full)?);
    Ok(Folders {
        kind: BackendKind::Btrfs,
        fs_name,
        runner,
        sizes: Sizes::Btrfs(Arc::clone(&btrfs)),
        copies: Some(Copies::of(btrfs)),
    })
}

/// Makes snapshots and clones of subvolumes.
#[derive(Debug)]
pub(super) struct Copies {
    btrfs: Arc<FileSystem>,
    /// Whether copies could be made at the start: what is declared does not change while
    /// the driver runs, for orchestrators ask once.
    declared: bool,
}

impl Copies {
    fn of(btrfs: Arc<FileSystem>) -> Self {
        let declared = match btrfs.counting() {
            Ok(counting) => counting != Some(Counting::Simple),
            // Not known: each call finds out by itself.
            Err(error) => {
                tracing::warn!(path = %btrfs.path().display(), %error, "cannot ask how the btrfs counts");
                true
            }
        };
        Self { btrfs, declared }
    }

    pub(super) fn abilities(&self) -> Abilities {
        Abilities { snapshots: self.declared, clones: self.declared, ..Abilities::default() }
    }

    /// What keeps copies from being made; one line each.
    pub(super) fn lacks(&self, runner: &Runner) -> Vec<String> {
        let mut lacks = runner.missing(&[Tool::BTRFS_COPY]);
        lacks.extend(self.expect_full_quotas().err().map(|error| error.to_string()));
        lacks
    }

    /// With simple quotas sizes would hold nothing any more after the first copy.
    fn expect_full_quotas(&self) -> Result<(), Error> {
        if self.btrfs.counting()? == Some(Counting::Simple) {
            return Err(Error::Precondition(format!(
                "the btrfs at {} counts with simple quotas, so no snapshots and clones are made: sizes would not hold \
                 for them; run `btrfs quota disable` there and restart the driver, which switches full quotas on",
                self.btrfs.path().display()
            )));
        }
        Ok(())
    }

    /// Cuts one read-only snapshot. What was written before the call is in it.
    pub(super) fn snapshot(&self, cuts: &[Cut<'_>]) -> Result<Moment, Error> {
        let [cut] = cuts else {
            return Err(Error::Unsupported(
                "pools with backend = \"btrfs\" cannot cut several volumes at one moment; cut one at a time"
                    .to_owned(),
            ));
        };
        self.expect_full_quotas()?;
        self.btrfs.snapshot(&sizes::data(cut.source)?, &sizes::open(cut.into)?, DATA_NAME, true)?;
        Ok(Moment::now())
    }

    /// Makes a writable copy, without a limit yet.
    pub(super) fn copy(&self, cut: &Cut<'_>) -> Result<(), Error> {
        self.expect_full_quotas()?;
        self.btrfs.snapshot(&sizes::data(cut.source)?, &sizes::open(cut.into)?, DATA_NAME, false)
    }
}
