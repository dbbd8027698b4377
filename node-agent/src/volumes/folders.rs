//! Removing folders and links that a volume leaves. Only `rmdir` and `unlink` of empty things:
//! never recursively, never through a mount. What is not empty is left and told.

use std::{
    fs, io,
    os::unix::fs::symlink,
    path::{Path, PathBuf},
};

use super::{journal, mountinfo::Mounts, view::Plugin};
use crate::{error::Error, layout::Layout};

/// A driver that says "done" while its mount is still there is not believed.
pub(crate) fn refuse_if_mounted(path: &Path, after: &str) -> Result<(), Error> {
    if Mounts::read()?.is_mounted(path) {
        return Err(Error::Refused(format!("{} is still mounted after {after}", path.display())));
    }
    Ok(())
}

/// Removes an empty folder or an empty file; answers what was not empty and so is left.
pub(crate) fn remove_empty(path: &Path) -> Result<Vec<PathBuf>, Error> {
    let meta = match fs::symlink_metadata(path) {
        Ok(meta) => meta,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("look at", path)(error)),
    };
    let removed = if meta.is_dir() {
        fs::remove_dir(path)
    } else if meta.is_file() && meta.len() > 0 {
        return Ok(vec![path.to_owned()]);
    } else {
        fs::remove_file(path)
    };
    match removed {
        Ok(()) => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) if error.kind() == io::ErrorKind::DirectoryNotEmpty => Ok(vec![path.to_owned()]),
        Err(error) => Err(Error::io("remove", path)(error)),
    }
}

/// Removes folders that others may still use: those that are not empty simply stay.
pub(crate) fn tidy(folders: &[&Path]) -> Result<(), Error> {
    for folder in folders {
        match fs::remove_dir(folder) {
            Ok(()) => {}
            Err(error)
                if matches!(error.kind(), io::ErrorKind::NotFound | io::ErrorKind::DirectoryNotEmpty) => {}
            Err(error) => return Err(Error::io("remove the folder", *folder)(error)),
        }
    }
    Ok(())
}

/// Removes what is empty of a pod's folder, from inside out.
pub(crate) fn tidy_pod(layout: &Layout, pod: &str, plugin: Plugin) -> Result<(), Error> {
    let folder = layout.pod(pod);
    for kind in ["volumes", "volumeDevices"] {
        let kind = folder.join(kind);
        tidy(&[&kind.join(plugin.folder()), &kind])?;
    }
    tidy(&[&folder])
}

/// Makes a symbolic link, in the place of an older one.
pub(crate) fn link(to: &Path, at: &Path) -> Result<(), Error> {
    if let Some(parent) = at.parent() {
        journal::make_folder(parent)?;
    }
    unlink(at)?;
    symlink(to, at).map_err(Error::io("make the link", at))
}

/// Removes a symbolic link; anything else in its place is an error.
pub(crate) fn unlink(at: &Path) -> Result<(), Error> {
    match fs::symlink_metadata(at) {
        Ok(meta) if meta.file_type().is_symlink() => {
            fs::remove_file(at).map_err(Error::io("remove the link", at))
        }
        Ok(_) => Err(Error::Refused(format!("{} is not the link that it should be", at.display()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(()),
        Err(error) => Err(Error::io("look at", at)(error)),
    }
}
