//! How volumes and pools are (CSI v1.12, VolumeCondition): what the pool shows of a
//! volume's data, and what the kernel noted of what is mounted.
//!
//! Only signs count. What cannot be found out is said as such and never as healthy.

mod pools;

use std::path::Path;

use holdfast_proto::csi::VolumeCondition;
use rustix::mount::MountAttrFlags;

pub(crate) use pools::watch;

use crate::{
    error::{Error, one_line},
    kernel::{
        damage, flags, loopdev,
        mountinfo::{self, Mount},
        place::Place,
    },
    pool::{Pool, VolumeFolder},
    volume::{Content, NodeJournal, Staging, Target, Volume},
};

/// How often a volume is looked at that changes all the time.
const LOOKS: usize = 4;

/// The condition of which these are the signs.
pub(crate) fn condition(ailments: &[String]) -> VolumeCondition {
    let message = if ailments.is_empty() { "healthy".to_owned() } else { one_line(&ailments.join("; ")) };
    VolumeCondition { abnormal: !ailments.is_empty(), message }
}

/// What several volumes are looked at with, read once for all of them.
#[derive(Debug)]
pub(crate) struct Examination {
    mounts: Result<Vec<Mount>, Error>,
    /// The last pool that was looked at, with what is wrong with it.
    pool: Option<(String, Vec<String>)>,
}

impl Examination {
    pub(crate) fn begin() -> Self {
        Self { mounts: mountinfo::all(), pool: None }
    }

    /// What is wrong with the volume and its pool; one line each. The volume is not held: what looks wrong may be
    /// somebody's work on it, so only what is still so with the same journal counts.
    pub(crate) fn of(&mut self, pool: &Pool, folder: &VolumeFolder, volume: &Volume) -> Vec<String> {
        let mut ailments = Vec::new();
        let mut before: Option<(Option<NodeJournal>, Vec<String>)> = None;
        for _ in 0..LOOKS {
            let seen = self.look(pool, folder, volume);
            if seen.1.is_empty() || folder.is_elsewhere() {
                break;
            }
            if before.as_ref() == Some(&seen) {
                ailments = seen.1;
                break;
            }
            before = Some(seen);
            // What was mounted when it began may not be, or not any more.
            self.mounts = mountinfo::all();
        }
        ailments.extend_from_slice(self.of_pool(pool));
        ailments
    }

    /// The journal, where it can be read, and what is wrong with the volume.
    fn look(
        &self,
        pool: &Pool,
        folder: &VolumeFolder,
        volume: &Volume,
    ) -> (Option<NodeJournal>, Vec<String>) {
        let _looking = loopdev::looking();
        let mut ailments = pool.backend.ailments(folder, volume);
        let read = folder.read_journal().and_then(|journal| {
            let found = self.of_use(pool, folder, volume, &journal)?;
            Ok((journal, found))
        });
        match read {
            Ok((journal, found)) => {
                ailments.extend(found);
                (Some(journal), ailments)
            }
            Err(error) => {
                ailments.push(format!("cannot tell how it is: {error}"));
                (None, ailments)
            }
        }
    }

    /// What is wrong with the pool alone.
    pub(crate) fn of_pool(&mut self, pool: &Pool) -> &[String] {
        if self.pool.as_ref().is_none_or(|(name, _)| *name != pool.name) {
            self.pool = Some((pool.name.clone(), pools::ailments(pool)));
        }
        self.pool.as_ref().map_or(&[], |(_, ailments)| ailments)
    }

    fn of_use(
        &self,
        pool: &Pool,
        folder: &VolumeFolder,
        volume: &Volume,
        journal: &NodeJournal,
    ) -> Result<Vec<String>, Error> {
        let Some(staging) = &journal.staging else { return Ok(Vec::new()) };
        // A record of a staging alone may be of one that is being made, or that a crash ended;
        // a target is recorded only after the volume was seen to be staged.
        let was_staged = !journal.targets.is_empty();
        if volume.content == Content::Block {
            if let Err(Error::Precondition(replaced)) = pool.expect_own_data(folder) {
                return Ok(vec![replaced]);
            }
            let lost = was_staged && !pool.backend.is_in_use(folder)?;
            let said = "it is published and its loop device is gone; unpublish, unstage and stage it again";
            return Ok(lost.then(|| said.to_owned()).into_iter().collect());
        }
        let mounts = self.mounts.as_deref().map_err(|error| Error::Lost(error.to_string()))?;
        // The last one is on top.
        let Some(mount) = mounts.iter().rfind(|mount| mount.mount_point == Path::new(&staging.path)) else {
            let said = format!(
                "it is published and no longer mounted at {}; unpublish, unstage and stage it again",
                staging.path
            );
            return Ok(was_staged.then_some(said).into_iter().collect());
        };
        let mut ailments = match volume.content {
            Content::Filesystem(_) => damage::of(mount)?,
            // The pool's own file system is looked at with the pool.
            _ => Vec::new(),
        };
        let place = Place::open("staging_target_path", &staging.path)?;
        match place.map(|place| place.mounted()) {
            // After a shutdown, as xfs does it when it cannot write its log, everything fails.
            Some(Err(error)) => ailments.push(format!("its file system answers with errors: {error}")),
            Some(Ok(Some(seen))) if !pool.backend.shows_data(folder, &seen)? => ailments.push(format!(
                "its data was replaced: what is mounted at {} is not what its folder has now, and is not copied and \
                 goes when it is unstaged; copy it, or put it back",
                staging.path
            )),
            _ => {}
        }
        Ok(ailments)
    }
}

/// What is wrong with the volume at one path where it is published or staged, and not
/// elsewhere: it can be read-only there although nobody asked for that.
pub(crate) fn of_path(
    journal: &NodeJournal,
    content: Content,
    path: &str,
    mount_id: u64,
) -> Result<Vec<String>, Error> {
    let asked = |flags: &[String]| {
        flags::check(content, flags)
            .is_ok_and(|options| options.attributes.contains(MountAttrFlags::MOUNT_ATTR_RDONLY))
    };
    let staged = journal.staging.as_ref().is_some_and(|Staging { flags, .. }| asked(flags));
    let read_only_by_request = match (journal.targets.get(path), &journal.staging) {
        (Some(Target { mode, readonly, flags }), _) => {
            *readonly || mode.is_read_only() || asked(flags) || staged
        }
        (None, Some(staging)) if staging.path == path => staged,
        // Nobody recorded what was asked for.
        _ => return Ok(Vec::new()),
    };
    let mount = mountinfo::by_id(mount_id)?;
    let is_read_only = mount.is_some_and(|mount| mount.options.split(',').any(|option| option == "ro"));
    Ok((is_read_only && !read_only_by_request)
        .then(|| format!("it was mounted read-only at {path} by someone else"))
        .into_iter()
        .collect())
}
