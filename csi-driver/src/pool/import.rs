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
    /// To be copied in all.
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
            // Nothing was moved, so nothing but our own file is in it.
            remove_tree(&self.volumes, &name)?;
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
        if let Err(error) = self.complete_import(&folder, &name, volume) {
            // Back to where it was; where that fails too, the next start ends the import.
            let undone = original
                .place
                .move_from(&folder.fd, self.backend.data_name())
                .and_then(|()| remove_tree(&self.volumes, &name));
            if let Err(undo) = undone {
                tracing::error!(volume = %volume.id, error = %undo, "what was imported is in the pool, at {name}");
            }
            return Err(error);
        }
        Ok(())
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
        match rfs::statat(&folder.fd, self.backend.data_name(), AtFlags::SYMLINK_NOFOLLOW) {
            Ok(_) => {
                let volume = folder.read_volume()?;
                tracing::info!(volume = %volume.id, "ending an import that was interrupted");
                self.complete_import(&folder, name, &volume)
            }
            Err(Errno::NOENT) => remove_tree(&self.volumes, name),
            Err(error) => Err(error).tried(|| format!("looking at {}", folder.path().display())),
        }
    }
}
