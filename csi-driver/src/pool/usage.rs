//! Whether a volume is in use on this node, and whether what is in use is its data: somebody may
//! have deleted, moved or replaced that while it was.

use std::path::PathBuf;

use rustix::fs::OFlags;

use super::{Pool, VolumeFolder};
use crate::{backend::Stands, error::Error, kernel::place::Place};

impl Pool {
    /// Whether the kernel uses something in the volume's folder, or what is mounted where the
    /// journal says that the driver mounted the volume: then it must not be deleted.
    pub(crate) fn is_in_use(&self, folder: &VolumeFolder) -> Result<bool, Error> {
        Ok(self.backend.is_in_use(folder)? || self.recorded_on_other_data(folder)?.is_some())
    }

    /// Refuses to use or to copy the data of a volume that has none any more, or of which other data
    /// is in use: what is written there would be missing, and two would write.
    pub(crate) fn expect_own_data(&self, folder: &VolumeFolder) -> Result<(), Error> {
        let user = match self.backend.user_of_other_data(folder)? {
            None => self.recorded_on_other_data(folder)?,
            user => user,
        };
        let Some(user) = user else { return self.missing_data(folder).map_or(Ok(()), Err) };
        Err(Error::Precondition(format!(
            "the data of {} was replaced while {} uses what was there before: what is written now is not in it; \
             unstage it first (stop its pods), or put the data back",
            folder.path().display(),
            user.display()
        )))
    }

    /// Why something failed: where the data is not there any more, that, for what comes of it says
    /// something else (a file that was not found, a volume that is not mounted).
    pub(crate) fn explained(&self, folder: &VolumeFolder, error: Error) -> Error {
        self.missing_data(folder).unwrap_or(error)
    }

    /// The error of data that is not there. Only the file system's word for it counts.
    fn missing_data(&self, folder: &VolumeFolder) -> Option<Error> {
        let name = self.backend.data_name();
        let is_missing = matches!(folder.try_open_child(name, OFlags::PATH), Ok(None));
        is_missing.then(|| Error::DataMissing { path: folder.child(name) })
    }

    /// A path of the journal at which other data of the volume is mounted than its folder has, or
    /// what does not answer.
    fn recorded_on_other_data(&self, folder: &VolumeFolder) -> Result<Option<PathBuf>, Error> {
        let journal = folder.read_journal()?;
        for path in journal.staging.iter().map(|staging| &staging.path).chain(journal.targets.keys()) {
            if let Some(place) = Place::open("path", path)?
                && let Some(seen) = place.mounted_even_dead()?
                && matches!(self.backend.stands(folder, &seen)?, Stands::OnOther | Stands::Astray)
            {
                return Ok(Some(path.into()));
            }
        }
        Ok(None)
    }
}
