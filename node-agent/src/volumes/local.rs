//! Volumes without a driver: bind mounts of folders and files of this node, links to its block
//! devices, and scratch space. All calls may block and run on threads that may.

use std::{
    fs::{self, File},
    io,
    os::unix::fs::{DirBuilderExt, FileTypeExt, OpenOptionsExt, PermissionsExt},
    path::{Path, PathBuf},
};

use rustix::mount::{MountFlags, UnmountFlags, mount, mount_bind, mount_remount, unmount as umount};

use super::{
    folders, journal,
    mountinfo::Mounts,
    scratch,
    view::{LocalSource, LocalVolume, Plugin, PublicationId},
};
use crate::{error::Error, layout::Layout};

/// More mounts than this on one place are not ours.
const STACKED: usize = 16;

/// Mounts a volume for a pod. Whatever an earlier attempt left is checked and completed.
pub(crate) fn mount_local(layout: &Layout, volume: &LocalVolume, pod: &str) -> Result<(), Error> {
    let target = layout.pod_volume(pod, volume.plugin.folder(), &volume.name);
    match &volume.source {
        LocalSource::Path { path, check } => {
            let source = Path::new(path);
            if volume.block {
                is_block_device(source)?;
                return folders::link(source, &layout.pod_device(pod, volume.plugin.folder(), &volume.name));
            }
            prepare(source, check)?;
            bind(source, &target, volume.read_only)
        }
        LocalSource::Scratch => {
            journal::make_folder(&target)?;
            // As kubelet: any user of the pod may write.
            fs::set_permissions(&target, fs::Permissions::from_mode(0o777))
                .map_err(Error::io("open up", &target))
        }
        LocalSource::Memory { limit } => {
            journal::make_folder(&target)?;
            if Mounts::read()?.is_mounted(&target) {
                return Ok(());
            }
            let options = limit.map_or_else(|| "mode=0777".to_owned(), |l| format!("mode=0777,size={l}"));
            let options = std::ffi::CString::new(options).unwrap_or_default();
            mount("tmpfs", &target, "tmpfs", MountFlags::NOSUID | MountFlags::NODEV, options.as_c_str())
                .map_err(|e| Error::io("mount a tmpfs at", &target)(e.into()))
        }
    }
}

/// Takes a volume from a pod; answers what could not be removed because it is not empty.
pub(crate) fn unmount(layout: &Layout, id: &PublicationId, block: bool) -> Result<Vec<PathBuf>, Error> {
    let PublicationId { pod, plugin, name } = id;
    if block {
        folders::unlink(&layout.pod_device(pod, plugin.folder(), name))?;
        folders::tidy_pod(layout, pod, *plugin)?;
        return Ok(Vec::new());
    }
    let target = layout.pod_volume(pod, plugin.folder(), name);
    for _ in 0..STACKED {
        if !Mounts::read()?.is_mounted(&target) {
            break;
        }
        umount(&target, UnmountFlags::NOFOLLOW).map_err(|e| Error::io("unmount", &target)(e.into()))?;
    }
    folders::refuse_if_mounted(&target, "unmounting")?;
    if *plugin == Plugin::EmptyDir {
        // The only content that is ours to delete: it was made for this pod and ends with it.
        scratch::remove(&target)?;
    }
    let left = folders::remove_empty(&target)?;
    folders::tidy_pod(layout, pod, *plugin)?;
    Ok(left)
}

fn is_block_device(source: &Path) -> Result<(), Error> {
    let meta = fs::metadata(source).map_err(Error::io("look at", source))?;
    if meta.file_type().is_block_device() {
        return Ok(());
    }
    Err(Error::Refused(format!("{} is not a block device, but the volume's mode is Block", source.display())))
}

/// The check of `hostPath.type` (Kubernetes, "hostPath volume types"); `Exists` is our own word for
/// `local`. With no type a missing folder is made, as container runtimes do.
fn prepare(source: &Path, check: &str) -> Result<(), Error> {
    if !source.is_absolute() {
        return Err(Error::Refused(format!("{} is not an absolute path", source.display())));
    }
    let found = match fs::metadata(source) {
        Ok(meta) => Some(meta.file_type()),
        Err(error) if error.kind() == io::ErrorKind::NotFound => None,
        Err(error) => return Err(Error::io("look at", source)(error)),
    };
    let Some(kind) = found else {
        return match check {
            "" | "DirectoryOrCreate" => fs::DirBuilder::new()
                .recursive(true)
                .mode(0o755)
                .create(source)
                .map_err(Error::io("create the folder", source)),
            "FileOrCreate" => File::options()
                .write(true)
                .create(true)
                .truncate(false)
                .mode(0o644)
                .open(source)
                .map(drop)
                .map_err(Error::io("create the file", source)),
            _ => Err(Error::Refused(format!("{} does not exist on this node", source.display()))),
        };
    };
    let fits = match check {
        "" => true,
        // Making a file system on it is not ours to do.
        "Exists" => !kind.is_block_device(),
        "Directory" | "DirectoryOrCreate" => kind.is_dir(),
        "File" | "FileOrCreate" => kind.is_file(),
        "Socket" => kind.is_socket(),
        "CharDevice" => kind.is_char_device(),
        "BlockDevice" => kind.is_block_device(),
        other => return Err(Error::Refused(format!("hostPath type {other:?} is not known"))),
    };
    if fits {
        return Ok(());
    }
    let wanted = if check == "Exists" { "a folder or a file" } else { check };
    Err(Error::Refused(format!("{} on this node is not {wanted}", source.display())))
}

fn bind(source: &Path, target: &Path, read_only: bool) -> Result<(), Error> {
    let meta = fs::metadata(source).map_err(Error::io("look at", source))?;
    // A mount that is there already is ours: the place names pod and volume, and neither changes.
    if !Mounts::read()?.is_mounted(target) {
        // A crash after this leaves an empty folder or file at a place that names pod and volume.
        make_target(target, meta.is_dir())?;
        mount_bind(source, target).map_err(|e| Error::io("bind-mount", target)(e.into()))?;
    }
    let now = Mounts::read()?.at(target).is_some_and(|m| m.read_only);
    if read_only && !now {
        // A bind mount takes its own flags only when it is mounted again.
        mount_remount(target, MountFlags::BIND | MountFlags::RDONLY, "")
            .map_err(|e| Error::io("make read-only the mount", target)(e.into()))?;
    }
    Ok(())
}

fn make_target(target: &Path, folder: bool) -> Result<(), Error> {
    if folder {
        return journal::make_folder(target);
    }
    if let Some(parent) = target.parent() {
        journal::make_folder(parent)?;
    }
    File::options()
        .write(true)
        .create(true)
        .truncate(false)
        .mode(0o600)
        .open(target)
        .map(drop)
        .map_err(Error::io("create the file", target))
}
