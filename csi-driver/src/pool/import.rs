//! Making a volume of what is there already: an image file or a folder.
//!
//! It is moved, or copied and left where it is. A move is one rename, the last thing that
//! can fail, into
//!
//! ```text
//! <pool>/volumes/.import-<id>/   volume.json, and from the rename on the data
//! ```
//!
//! which then becomes the volume. Killed before the rename, the data is where it was and
//! the next start removes the rest; killed after it, the next start ends the import. A
//! copy is made as any new volume is.

use std::path::PathBuf;

use rustix::{
    fs::{self as rfs, AtFlags, FileType, RenameFlags},
    io::Errno,
};
use serde::{Deserialize, Serialize};

use super::{Pool, VolumeFolder, make_new, names};
use crate::{
    error::{Error, Tried as _},
    kernel::{
        place::{Place, Seen},
        removal::remove_tree,
        users,
    },
    size::{self, Bounds, Bytes, Wanted},
    step,
    volume::{Content, Format, Identity, Volume},
    volume_id::VolumeId,
};

/// What the folder of a volume being imported begins with; no id does.
const IMPORT: &str = ".import-";

/// What is to become a volume, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Import {
    /// The image file or the folder: an absolute path without symbolic links.
    pub path: PathBuf,
    /// The name that CreateVolume would be called with.
    pub name: String,
    /// The volume's size in bytes. Without it, that of the image file.
    pub size: Option<u64>,
    /// The file system that has to be found in the image file.
    pub fs_type: Option<String>,
    /// Whether the image file becomes a raw block device, whatever is in it.
    pub raw_block: bool,
    /// Whether the original stays and is copied.
    pub copy: bool,
    /// Whether the size is enforced, as the class's parameter `enforceSize`.
    pub enforce_size: bool,
}

/// How far a copy is, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
pub struct Progress {
    /// Copied so far.
    pub done: u64,
    /// To be copied in all; 0 where nobody knows.
    pub total: u64,
}

/// Told now and then how far a copy is.
pub(crate) type Watcher<'a> = &'a (dyn Fn(Progress) + Send + Sync);

/// What is to be imported, as it was found.
#[derive(Debug)]
pub(crate) struct Original {
    pub(crate) place: Place,
    pub(crate) seen: Seen,
}

/// What a volume made of an [`Original`] is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Appraisal {
    pub(crate) content: Content,
    /// The least size it needs, in bytes.
    pub(crate) least: u64,
    /// How many bytes it occupies where it is.
    pub(crate) occupied: u64,
}

impl Original {
    fn find(import: &Import) -> Result<Self, Error> {
        let path = import.path.to_str().ok_or_else(|| {
            Error::Invalid(format!("{} is not UTF-8; rename it first", import.path.display()))
        })?;
        let gone = || Error::NotFound(format!("{path} does not exist"));
        let place = Place::open("path", path)?.ok_or_else(gone)?;
        let seen = place.look()?.ok_or_else(gone)?;
        match seen.kind {
            FileType::Symlink => {
                Err(Error::Invalid(format!("{path} is a symbolic link; name the file or folder it leads to")))
            }
            FileType::RegularFile | FileType::Directory => Ok(Self { place, seen }),
            _ => Err(Error::Invalid(format!("{path} is neither a file nor a folder"))),
        }
    }

    /// Opens the file or the folder itself, to read it.
    pub(crate) fn open(&self) -> Result<std::os::fd::OwnedFd, Error> {
        self.place.open_plain()
    }

    fn stands_elsewhere(&self) -> Result<bool, Error> {
        Ok(self.place.look()?.is_none_or(|seen| !seen.same_file(&self.seen)))
    }
}

impl Pool {
    /// Makes a volume of what `import` names. To be called with the volume's guard held.
    pub(crate) fn import(
        &self,
        id: &VolumeId,
        import: &Import,
        watcher: Watcher<'_>,
    ) -> Result<Volume, Error> {
        if self.find(id)?.is_some() {
            return Err(Error::Exists(format!(
                "volume {id} exists already; give another name, or see whether it is this one imported before"
            )));
        }
        self.expect_in_place()?;
        let original = Original::find(import)?;
        self.expect_outside(&original)?;
        users::expect_none(&original.place, &original.seen)?;
        if import.enforce_size {
            self.backend.can_enforce()?;
        }
        let appraisal = self.backend.appraise(&original, import)?;
        let volume = self.describe(id, import, &original, appraisal)?;
        self.backend.check(&volume)?;
        if import.copy {
            let promise = self.ledger.reserve(id, volume.capacity, &|sizes| self.measure(sizes))?;
            let made = self
                .make_volume(&volume, &|folder| self.backend.copy_in(&original, folder, &volume, watcher));
            if made.is_ok() || self.may_exist(id) {
                promise.keep();
            }
            made?;
        } else {
            let occupied = appraisal.occupied;
            let measure = |sizes: &_| self.measure(sizes);
            let promise = self.ledger.reserve_moved(id, volume.capacity, occupied, &measure)?;
            let moved = self.move_in(&original, &volume);
            if moved.is_ok() || self.may_exist(id) {
                promise.keep();
            }
            moved?;
        }
        self.ledger.forget_measurement();
        Ok(volume)
    }

    fn describe(
        &self,
        id: &VolumeId,
        import: &Import,
        original: &Original,
        appraisal: Appraisal,
    ) -> Result<Volume, Error> {
        let bounds = self.backend.bounds(appraisal.content);
        let bounds =
            Bounds { max: bounds.max.min(self.limits.max_volume_size.unwrap_or(u64::MAX)), ..bounds };
        let required = import.size.unwrap_or(appraisal.least);
        if required < appraisal.least {
            return Err(Error::OutOfRange(format!(
                "{} is less than what {} needs, {} ({} bytes)",
                Bytes(required),
                original.place.path().display(),
                Bytes(appraisal.least),
                appraisal.least
            )));
        }
        let is_block = appraisal.content == Content::Block;
        Ok(Volume {
            id: id.clone(),
            name: import.name.clone(),
            capacity: size::choose(Wanted { required: Some(required), limit: None }, bounds)?,
            content: appraisal.content,
            enforced: import.enforce_size,
            // Never made anew: there is data in it.
            format: if is_block { Format::Never } else { Format::Done },
            origin: None,
            identity: Identity::Own,
            mutable: Default::default(),
            attachments: Default::default(),
        })
    }

    /// Nothing of a pool becomes a volume of it, and no folder that holds one.
    fn expect_outside(&self, original: &Original) -> Result<(), Error> {
        let path = original.place.path();
        let is_pool =
            |folder: &std::path::Path| folder.join("pool.json").exists() && folder.join("volumes").exists();
        match path.ancestors().find(|folder| is_pool(folder)) {
            Some(pool) => {
                Err(Error::Invalid(format!("{} is in the pool at {}", path.display(), pool.display())))
            }
            None if self.meets(path) => {
                Err(Error::Invalid(format!("{} holds the pool at {}", path.display(), self.path.display())))
            }
            None => Ok(()),
        }
    }

    fn move_in(&self, original: &Original, volume: &Volume) -> Result<(), Error> {
        let name = format!("{IMPORT}{}", volume.id);
        let path = self.volumes_path();
        self.finish_import(&name)?;
        if self.find(&volume.id)?.is_some() {
            return Err(Error::Exists(format!("volume {} exists already", volume.id)));
        }
        let folder = make_new(&self.volumes, &path, &name)?;
        let prepared = (|| {
            folder.write_volume(volume)?;
            // What is in memory only would be lost with the machine after the move as before it.
            rfs::syncfs(original.open()?).tried(|| "syncing what is imported".to_owned())?;
            rfs::fsync(&self.volumes).tried(|| format!("syncing {}", path.display()))?;
            step::passed("import prepared");
            if original.stands_elsewhere()? {
                return Err(Error::Precondition(format!(
                    "{} was replaced meanwhile",
                    original.place.path().display()
                )));
            }
            original.place.move_to(&folder.fd, self.backend.data_name())
        })();
        if let Err(error) = prepared {
            // It may have been moved, and what failed came after.
            self.take_back(original, &folder, &name);
            return Err(match error {
                Error::Io { source, .. } if source.raw_os_error() == Some(libc::EXDEV) => {
                    Error::Precondition(format!(
                        "{} is not on the pool's file system, or of another project there, so it cannot be moved: \
                         use --copy",
                        original.place.path().display()
                    ))
                }
                error => error,
            });
        }
        step::passed("original moved into the pool");
        let done = self.complete_import(&folder, &name, volume);
        // A volume that appeared, durably or not, is one. Unknown counts as there.
        if done.is_err() && !self.may_exist(&volume.id) {
            self.take_back(original, &folder, &name);
        }
        done
    }

    /// Moves what is being imported back to where it was, if it was moved. What cannot be moved back
    /// stays where it is, and the next start ends the import; nothing is removed before it is
    /// certain that the data is not in it.
    fn take_back(&self, original: &Original, folder: &VolumeFolder, name: &str) {
        let undone = (|| {
            if self.holds_data(folder)? {
                original.place.move_from(&folder.fd, self.backend.data_name())?;
            }
            remove_tree(&self.volumes, name)
        })();
        if let Err(error) = undone {
            let path = self.volumes_path().join(name);
            tracing::error!(path = %path.display(), %error, "what was being imported may be in the pool");
        }
    }

    /// Whether the data of a volume is in its folder; an error where nobody can tell.
    fn holds_data(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        match rfs::statat(&folder.fd, self.backend.data_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => Ok(true),
            Err(Errno::NOENT) => Ok(false),
            Err(error) => Err(error).tried(|| format!("looking at {}", folder.path().display())),
        }
    }

    /// From data that was moved to a volume. Can be repeated.
    fn complete_import(&self, folder: &VolumeFolder, name: &str, volume: &Volume) -> Result<(), Error> {
        folder.sync()?;
        self.backend.adopt(folder, volume)?;
        let id = volume.id.as_str();
        rfs::renameat_with(&self.volumes, name, &self.volumes, id, RenameFlags::NOREPLACE)
            .tried(|| format!("renaming {name} to {id}"))?;
        step::passed("imported volume renamed into place");
        rfs::fsync(&self.volumes).tried(|| format!("syncing {}", self.volumes_path().display()))
    }

    /// Ends the imports that a crash left, or takes them back where nothing was moved yet.
    pub(super) fn finish_imports(&self) -> Result<(), Error> {
        for name in names(&self.volumes, &self.volumes_path())? {
            if name.starts_with(IMPORT)
                && let Err(error) = self.finish_import(&name)
            {
                // Somebody's data may be in it: it stays, and keeps nobody from the others.
                tracing::error!(pool = %self.name, entry = %name, %error, "an import cannot be ended");
            }
        }
        Ok(())
    }

    fn finish_import(&self, name: &str) -> Result<(), Error> {
        let Some(folder) = VolumeFolder::open(&self.volumes, &self.volumes_path(), name)? else {
            return Ok(());
        };
        if !self.holds_data(&folder)? {
            return remove_tree(&self.volumes, name);
        }
        let volume = folder.read_volume()?;
        tracing::info!(volume = %volume.id, "ending an import that was interrupted");
        self.complete_import(&folder, name, &volume)
    }
}

#[cfg(test)]
mod tests {
    use std::fs;

    use super::*;
    use crate::pool::tests::open;

    /// An error of the sync that follows the move must not cost the data.
    #[tokio::test]
    async fn what_was_moved_goes_back() {
        let scratch = tempfile::tempdir().unwrap();
        let pool = open(scratch.path());
        let path = scratch.path().join("disk.raw");
        fs::write(&path, "the only copy").unwrap();
        let place = Place::open("path", path.to_str().unwrap()).unwrap().unwrap();
        let seen = place.look().unwrap().unwrap();
        let original = Original { place, seen };
        let begin = |name: &str| make_new(&pool.volumes, &pool.volumes_path(), name).unwrap();
        let import = pool.volumes_path().join(".import-p.v");

        let folder = begin(".import-p.v");
        original.place.move_to(&folder.fd, pool.backend.data_name()).unwrap();
        assert!(!path.exists());
        pool.take_back(&original, &folder, ".import-p.v");
        assert_eq!(fs::read_to_string(&path).unwrap(), "the only copy");
        assert!(!import.exists());

        // Where its place is taken meanwhile, it stays in the pool.
        let folder = begin(".import-p.v");
        original.place.move_to(&folder.fd, pool.backend.data_name()).unwrap();
        fs::write(&path, "another").unwrap();
        pool.take_back(&original, &folder, ".import-p.v");
        assert_eq!(fs::read_to_string(import.join("disk.img")).unwrap(), "the only copy");
        assert_eq!(fs::read_to_string(&path).unwrap(), "another");
    }
}
