//! The journal of one staging or publication: a small file next to the folder that it stands
//! for, in kubelet's form (a JSON object of strings), with a few fields of our own.
//!
//! It is on disk before the driver is asked, and removed after the driver has undone its work.
//! A crash at any point in between leaves a journal that says what may exist.

use std::{
    ffi::OsString,
    fs::{self, File},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::Path,
};

use serde::{Deserialize, Serialize};

use super::view::{PodKey, State, VolumeId};
use crate::error::Error;

/// What a journal says. Missing fields are empty: kubelet's own journals can be read.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "camelCase", default)]
pub(crate) struct Journal {
    /// The PersistentVolume's name.
    #[serde(rename = "specVolID")]
    pub(crate) spec_vol_id: String,
    pub(crate) volume_handle: String,
    pub(crate) driver_name: String,
    pub(crate) node_name: String,
    /// The VolumeAttachment's name.
    #[serde(rename = "attachmentID")]
    pub(crate) attachment_id: String,
    pub(crate) volume_lifecycle_mode: String,

    /// `Block` or `Filesystem` (also when empty).
    pub(crate) volume_mode: String,
    /// The file system that was asked for; empty: the driver's choice.
    pub(crate) fs_type: String,
    pub(crate) read_only: String,
    /// `done`, or anything else: the effect may exist in part.
    pub(crate) state: String,
    /// The boot in which `state` was written. Mounts do not outlive it.
    #[serde(rename = "bootID")]
    pub(crate) boot_id: String,
    /// `true` when the driver left a mount at the path, which must then still be there.
    pub(crate) mounted: String,
    pub(crate) pod_namespace: String,
    pub(crate) pod_name: String,
    #[serde(rename = "podUID")]
    pub(crate) pod_uid: String,
}

const DONE: &str = "done";
const BEGUN: &str = "begun";
const TRUE: &str = "true";

impl Journal {
    /// The entry before an effect.
    pub(crate) fn begun(mut self) -> Self {
        self.state = BEGUN.to_owned();
        self.mounted.clear();
        self
    }

    /// The entry after an effect is complete.
    pub(crate) fn done(mut self, boot_id: &str, mounted: bool) -> Self {
        self.state = DONE.to_owned();
        self.boot_id = boot_id.to_owned();
        self.mounted = if mounted { TRUE.to_owned() } else { String::new() };
        self
    }

    pub(crate) fn set_block(&mut self, block: bool) {
        self.volume_mode = if block { "Block" } else { "Filesystem" }.to_owned();
    }

    pub(crate) fn volume(&self) -> VolumeId {
        VolumeId { driver: self.driver_name.clone(), handle: self.volume_handle.clone() }
    }

    pub(crate) fn owner(&self) -> PodKey {
        PodKey {
            namespace: self.pod_namespace.clone(),
            name: self.pod_name.clone(),
            uid: self.pod_uid.clone(),
        }
    }

    /// Whether the effect is still complete, given whether the path is a mount point now.
    pub(crate) fn state_now(&self, boot_id: &str, is_mounted: bool) -> State {
        let same_boot = !boot_id.is_empty() && self.boot_id == boot_id;
        if self.state == DONE && same_boot && (is_mounted || self.mounted != TRUE) {
            State::Done
        } else {
            State::Uncertain
        }
    }

    /// Reads a journal; `None` when there is no such file.
    ///
    /// # Errors
    /// When it is there but cannot be read, or names no volume: what it stands for is unknown.
    pub(crate) fn read(path: &Path) -> Result<Option<Self>, Error> {
        let text = match fs::read(path) {
            Ok(text) => text,
            Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(None),
            Err(error) => return Err(Error::io("read", path)(error)),
        };
        let broken = |reason: String| Error::Journal { path: path.to_owned(), reason };
        let journal: Self = serde_json::from_slice(&text).map_err(|e| broken(e.to_string()))?;
        if journal.driver_name.is_empty()
            || journal.volume_handle.is_empty()
            || journal.spec_vol_id.is_empty()
        {
            return Err(broken("it names no driver, volume handle or volume".to_owned()));
        }
        Ok(Some(journal))
    }

    /// Writes the journal so that after a crash there is the former one or this one, never half
    /// of one, and makes its folder if need be.
    pub(crate) fn write(&self, path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        make_folder(folder)?;
        let mut name = OsString::from(".");
        name.push(path.file_name().unwrap_or_default());
        name.push(".new");
        let draft = folder.join(name);
        let text = serde_json::to_vec(self).map_err(|e| Error::Io {
            what: "write",
            path: path.to_owned(),
            source: e.into(),
        })?;
        let failed = |source| Error::Io { what: "write", path: path.to_owned(), source };
        let mut file = File::options()
            .write(true)
            .create(true)
            .truncate(true)
            .mode(0o600)
            .open(&draft)
            .map_err(failed)?;
        file.write_all(&text).and_then(|()| file.sync_all()).map_err(failed)?;
        fs::rename(&draft, path).map_err(failed)?;
        sync_folder(folder)
    }

    /// Removes a journal, and the draft that a crash may have left.
    pub(crate) fn remove(path: &Path) -> Result<(), Error> {
        let folder = path.parent().unwrap_or(Path::new("/"));
        let mut draft = OsString::from(".");
        draft.push(path.file_name().unwrap_or_default());
        draft.push(".new");
        for file in [folder.join(draft), path.to_owned()] {
            match fs::remove_file(&file) {
                Ok(()) => {}
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(Error::io("remove", &file)(error)),
            }
        }
        match sync_folder(folder) {
            Err(Error::Io { source, .. }) if source.kind() == io::ErrorKind::NotFound => Ok(()),
            other => other,
        }
    }
}

/// Makes a folder and its parents, on disk: a journal in a folder that a power cut takes away
/// would be worth nothing.
pub(crate) fn make_folder(folder: &Path) -> Result<(), Error> {
    let mut missing = Vec::new();
    let mut at = folder;
    while !at.exists() {
        missing.push(at);
        let Some(parent) = at.parent() else { break };
        at = parent;
    }
    for new in missing.into_iter().rev() {
        match fs::create_dir(new) {
            Ok(()) => {}
            Err(error) if error.kind() == io::ErrorKind::AlreadyExists => {}
            Err(error) => return Err(Error::io("create the folder", new)(error)),
        }
        if let Some(parent) = new.parent() {
            sync_folder(parent)?;
        }
    }
    Ok(())
}

fn sync_folder(folder: &Path) -> Result<(), Error> {
    File::open(folder).and_then(|f| f.sync_all()).map_err(Error::io("write to disk the folder", folder))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn journal() -> Journal {
        Journal {
            spec_vol_id: "pv".into(),
            volume_handle: "h".into(),
            driver_name: "d".into(),
            volume_lifecycle_mode: "Persistent".into(),
            ..Journal::default()
        }
    }

    #[test]
    fn what_a_journal_says_after_each_crash() {
        let done_mounted = journal().done("b1", true);
        let done_plain = journal().done("b1", false);
        for (n, journal, boot, is_mounted, expected) in [
            (1, journal().begun(), "b1", false, State::Uncertain),
            (2, journal().begun(), "b1", true, State::Uncertain),
            (3, done_mounted.clone(), "b1", true, State::Done),
            (4, done_mounted.clone(), "b1", false, State::Uncertain), // unmounted by hand
            (5, done_mounted.clone(), "b2", false, State::Uncertain), // rebooted
            (6, done_mounted.clone(), "", true, State::Uncertain),    // the boot is not known
            (7, done_plain.clone(), "b1", false, State::Done),        // the driver does not mount there
            (8, done_plain, "b2", false, State::Uncertain),
            (9, done_mounted.begun(), "b1", true, State::Uncertain), // being undone
        ] {
            assert_eq!(journal.state_now(boot, is_mounted), expected, "case {n}");
        }
    }

    #[test]
    fn written_read_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("a/b/vol_data.json");
        assert_eq!(Journal::read(&path).unwrap(), None);
        journal().begun().write(&path).unwrap();
        journal().done("b", true).write(&path).unwrap();
        assert_eq!(Journal::read(&path).unwrap(), Some(journal().done("b", true)));
        let values: std::collections::BTreeMap<String, String> =
            serde_json::from_slice(&fs::read(&path).unwrap()).unwrap();
        assert_eq!(values["specVolID"], "pv", "kubelet reads a map of strings");
        Journal::remove(&path).unwrap();
        Journal::remove(&path).unwrap();
        assert_eq!(fs::read_dir(path.parent().unwrap()).unwrap().count(), 0);
    }

    #[test]
    fn kubelets_own_journal_can_be_read() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vol_data.json");
        fs::write(
            &path,
            r#"{"attachmentID":"csi-1","driverName":"d","nodeName":"n","specVolID":"pv","volumeHandle":"h","volumeLifecycleMode":"Persistent"}"#,
        )
        .unwrap();
        let read = Journal::read(&path).unwrap().unwrap();
        assert_eq!(read.state_now("b", true), State::Uncertain);
        assert_eq!(read.volume(), VolumeId { driver: "d".into(), handle: "h".into() });
    }

    #[test]
    fn a_broken_journal_is_not_an_absent_one() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("vol_data.json");
        for text in ["", "{", "[]", "{}", r#"{"driverName":"d"}"#] {
            fs::write(&path, text).unwrap();
            assert!(Journal::read(&path).is_err(), "{text:?}");
        }
    }
}
