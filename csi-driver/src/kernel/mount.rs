//! Mounting with the file-descriptor API: a mount is made and set up while it is
//! attached nowhere, and appears in one step where it belongs.

use std::{
    os::fd::{AsFd, OwnedFd},
    path::Path,
};

use rustix::{
    io::Errno,
    mount::{
        FsMountFlags, FsOpenFlags, MountAttrFlags, MoveMountFlags, OpenTreeFlags, UnmountFlags,
        fsconfig_create, fsconfig_set_flag, fsconfig_set_string, fsmount, fsopen, move_mount, open_tree,
        unmount,
    },
};

use super::{
    flags::MountOptions,
    forks, mountinfo,
    place::{Place, Seen},
    raw,
};
use crate::{
    error::{Error, Tried as _},
    step,
    volume::FsType,
};

/// Mounts the file system on `device` at `target`, an opened folder.
pub(crate) fn mount_device(
    fs: FsType,
    device: &Path,
    options: &MountOptions,
    target: &Place,
) -> Result<(), Error> {
    attach(&mount_nowhere(fs, device, options)?, target)
}

/// Mounts the file system on `device` where nobody sees it, for as long as the answer is
/// held. A crash ends that as well.
pub(crate) fn mount_nowhere(fs: FsType, device: &Path, options: &MountOptions) -> Result<OwnedFd, Error> {
    open(fs.as_str(), device, options)
}

/// Mounts a new file system in memory at `target`. `name` is what the mount table shows
/// as its source.
pub(crate) fn mount_tmpfs(name: &str, options: &MountOptions, target: &Place) -> Result<(), Error> {
    attach(&open("tmpfs", Path::new(name), options)?, target)
}

fn open(fs: &str, device: &Path, options: &MountOptions) -> Result<OwnedFd, Error> {
    let context = fsopen(fs, FsOpenFlags::FSOPEN_CLOEXEC)
        .tried(|| format!("asking the kernel for {fs}; does it have this file system?"))?;
    let failed = |tried: String, error: Errno| {
        let said = kernel_log(&context);
        Error::Io { tried: format!("{tried}{said}"), source: error.into() }
    };
    fsconfig_set_string(&context, "source", device)
        .map_err(|error| failed(format!("setting the device {}", device.display()), error))?;
    for (name, value) in &options.fs_options {
        match value {
            Some(value) => fsconfig_set_string(&context, name.as_str(), value.as_str()),
            None => fsconfig_set_flag(&context, name.as_str()),
        }
        .map_err(|error| match error {
            Errno::INVAL => Error::Invalid(format!(
                "{fs} of this kernel refuses the mount flag {name:?}{}",
                kernel_log(&context)
            )),
            error => failed(format!("setting the mount flag {name:?}"), error),
        })?;
    }
    fsconfig_create(&context)
        .map_err(|error| failed(format!("mounting {fs} from {}", device.display()), error))?;
    fsmount(&context, FsMountFlags::FSMOUNT_CLOEXEC, options.attributes)
        .map_err(|error| failed(format!("mounting {fs} from {}", device.display()), error))
}

/// Mounts what `source` is, without what is mounted below it, at `target`.
pub(crate) fn bind(source: impl AsFd, attributes: MountAttrFlags, target: &Place) -> Result<(), Error> {
    let flags =
        OpenTreeFlags::OPEN_TREE_CLONE | OpenTreeFlags::OPEN_TREE_CLOEXEC | OpenTreeFlags::AT_EMPTY_PATH;
    let mount = open_tree(source, c"", flags)
        .tried(|| format!("cloning the mount for {}", target.path().display()))?;
    if !attributes.is_empty() {
        // Before it appears anywhere: a read-only mount is at no moment writable.
        raw::set_mount_attributes(mount.as_fd(), attributes.bits())
            .tried(|| format!("setting up the mount for {}", target.path().display()))?;
    }
    attach(&mount, target)
}

fn attach(mount: &OwnedFd, target: &Place) -> Result<(), Error> {
    let onto = target.open_here()?;
    let flags = MoveMountFlags::MOVE_MOUNT_F_EMPTY_PATH | MoveMountFlags::MOVE_MOUNT_T_EMPTY_PATH;
    move_mount(mount, c"", onto, c"", flags).tried(|| format!("mounting at {}", target.path().display()))?;
    step::passed("mounted");
    Ok(())
}

/// Takes away everything that is mounted exactly at `place`, top first, as long as `is_ours`
/// says that it is `volume`. At something else it ends with an error that names it.
pub(crate) fn unmount_all(
    place: &Place,
    volume: &str,
    is_ours: &dyn Fn(&Seen) -> Result<bool, Error>,
) -> Result<(), Error> {
    while let Some(seen) = place.mounted_even_dead()? {
        if !is_ours(&seen)? {
            return Err(foreign(place, &seen, volume));
        }
        let held = |error: &Errno| *error == Errno::BUSY;
        match forks::outlast(|| unmount(place.by_parent(), UnmountFlags::NOFOLLOW), held) {
            Ok(()) => step::passed("unmounted"),
            Err(Errno::BUSY) => {
                return Err(Error::Precondition(format!(
                    "{} is in use (EBUSY): a program works in it, or something is mounted below it",
                    place.path().display()
                )));
            }
            Err(error) => return Err(error).tried(|| format!("unmounting {}", place.path().display())),
        }
    }
    Ok(())
}

/// The error where something else than `volume` is mounted.
pub(crate) fn foreign(place: &Place, seen: &Seen, volume: &str) -> Error {
    let what = match mountinfo::by_id(seen.mount_id) {
        Ok(Some(mount)) => format!(" ({} from {})", mount.fs_type, mount.source.display()),
        Ok(None) | Err(_) => String::new(),
    };
    Error::Precondition(format!(
        "what is mounted at {}{what} is not volume {volume}; it is left as it is",
        place.path().display()
    ))
}

/// What the kernel wrote into the context to explain an error.
fn kernel_log(context: &OwnedFd) -> String {
    let mut said = String::new();
    let mut buffer = [0_u8; 1024];
    // Each read gives one message, "e " or "w " before it; ENODATA ends them.
    while let Ok(length) = rustix::io::read(context, &mut buffer) {
        if length == 0 {
            break;
        }
        said.push_str(": ");
        said.push_str(String::from_utf8_lossy(buffer.get(2..length).unwrap_or_default()).trim());
    }
    said
}
