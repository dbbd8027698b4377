//! Folders that were made elsewhere: whether they can be a volume as they are, and a copy
//! of them.

use std::{
    ffi::OsStr,
    sync::atomic::{AtomicBool, Ordering},
    time::Duration,
};

use rustix::fs::{self as rfs, FileType};

use super::{Folders, census::Census, sizes};
use crate::{
    command::Tool,
    error::{Error, Tried as _},
    pool::{Appraisal, Import, Original, Progress, VolumeFolder, Watcher},
    size::Bytes,
    step,
    volume::{Content, Volume},
};

/// How often a copy says how far it is.
const PERIOD: Duration = Duration::from_millis(500);

impl Folders {
    pub(super) fn appraise_folder(&self, original: &Original, import: &Import) -> Result<Appraisal, Error> {
        let path = original.place.path().display();
        let invalid = |why: &str| Err(Error::Invalid(format!("{path} {why}")));
        if original.seen.kind != FileType::Directory {
            return invalid("is a file, and this pool has folders; use a pool with backend = \"image\"");
        }
        if import.raw_block {
            return invalid("is a folder; --raw-block is for image files");
        }
        if let Some(wanted) = import.fs_type.as_deref()
            && wanted != self.fs_name
        {
            return invalid(&format!("would lie on {}, not on {wanted}; leave --fs-type out", self.fs_name));
        }
        let census = Census::take(original)?;
        let occupied = census.bytes;
        if import.size.is_none() {
            return invalid(&format!(
                "holds {}; say with --size how large the volume is to be",
                Bytes(occupied)
            ));
        }
        if import.copy {
            census.expect_whole(original)?;
        } else {
            self.sizes.expect_adoptable(original, import.enforce_size, census.bytes)?;
        }
        Ok(Appraisal { content: Content::Folder, least: occupied, occupied })
    }

    /// Holds a folder that was moved in to the volume's size.
    pub(super) fn adopt_folder(&self, folder: &VolumeFolder, volume: &Volume) -> Result<(), Error> {
        if volume.enforced {
            self.sizes.limit(folder, volume.capacity)?;
            step::passed("imported folder held to its size");
        }
        self.sizes.commit(folder)
    }

    /// Copies the folder with everything that it has, durably: owners, modes, times, links,
    /// holes, attributes; blocks are shared where that is possible and they count. Whoever writes into it
    /// meanwhile is found out.
    pub(super) fn copy_folder(
        &self,
        original: &Original,
        folder: &VolumeFolder,
        volume: &Volume,
        watcher: Watcher<'_>,
    ) -> Result<(), Error> {
        self.sizes.make(folder, volume.enforced.then_some(volume.capacity))?;
        let data = folder.child(sizes::DATA);
        let reflink = if volume.enforced && self.sizes.leaves_shared_out()? {
            "--reflink=never"
        } else {
            "--reflink=auto"
        };
        let args: [&OsStr; 6] = [
            "--archive".as_ref(),
            reflink.as_ref(),
            "--one-file-system".as_ref(),
            "--no-target-directory".as_ref(),
            original.place.path().as_os_str(),
            data.as_os_str(),
        ];
        // Written out first: a page that is dirty already takes more bytes without a new ctime.
        rfs::syncfs(original.open()?).tried(|| "syncing what is copied".to_owned())?;
        let before = Census::take(original)?;
        before.expect_whole(original)?;
        let total = before.bytes;
        let ended = AtomicBool::new(false);
        let copied = std::thread::scope(|scope| {
            let telling = scope.spawn(|| {
                while !ended.load(Ordering::Relaxed) {
                    std::thread::park_timeout(PERIOD);
                    if let Ok(data) = sizes::data(folder)
                        && let Ok(Some(done)) = self.sizes.used(&data)
                    {
                        watcher(Progress { done: done.min(total), total });
                    }
                }
            });
            let copied = self.runner.run(Tool::CP, &args);
            ended.store(true, Ordering::Relaxed);
            telling.thread().unpark();
            copied
        });
        copied?;
        Census::take(original)?.expect_as_before(&before, original)?;
        rfs::syncfs(sizes::data(folder)?).tried(|| format!("syncing {}", data.display()))?;
        step::passed("folder copied");
        Ok(())
    }
}
