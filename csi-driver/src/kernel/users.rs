//! Who uses a file or a folder, before it is taken from under them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use rustix::fs::FileType;

use super::{
    loopdev, mountinfo,
    place::{Place, Seen},
};
use crate::error::{Error, Tried as _};

/// Refuses what is mounted, has mounts in it, is attached to a loop device, or is open in a
/// process that `/proc` shows. Who begins to use it later is not seen.
pub(crate) fn expect_none(place: &Place, seen: &Seen) -> Result<(), Error> {
    let path = place.path();
    let busy = |why: String| Err(Error::Precondition(format!("{} {why}", path.display())));
    if seen.mount_root {
        return busy("is a mount point; unmount it and name what was mounted there".to_owned());
    }
    let mounts = mountinfo::all()?;
    if let Some(mount) = mounts.iter().find(|mount| mount.mount_point.starts_with(path)) {
        return busy(format!("has something mounted in it, at {}; unmount it", mount.mount_point.display()));
    }
    let own = mounts.iter().find(|mount| mount.id == seen.mount_id);
    if let Some((own, inside)) = own.and_then(|own| Some((own, path.strip_prefix(&own.mount_point).ok()?))) {
        let root = own.root.join(inside);
        if let Some(mount) = mounts.iter().find(|m| m.device == own.device && m.root.starts_with(&root)) {
            return busy(format!("is mounted at {}; unmount it", mount.mount_point.display()));
        }
    }
    if seen.kind == FileType::RegularFile {
        // It may have been attached by another name that it had, or has.
        if let Some(device) = loopdev::find_by_any_name(place.open_here()?)? {
            return busy(format!("is attached to {}; detach it", device.display()));
        }
    }
    if let Some((process, name)) = process(path, seen)? {
        return busy(format!("is in use by process {process} ({name}); stop it"));
    }
    Ok(())
}

/// Whether it is a copy of this process on its way to become an outside tool: until then it
/// has everything open that this one has.
fn is_own_fork(process: &Path) -> bool {
    let own = format!("PPid:\t{}", std::process::id());
    fs::read_to_string(process.join("status")).is_ok_and(|status| status.lines().any(|line| line == own))
        && fs::read_link(process.join("exe")).ok() == fs::read_link("/proc/self/exe").ok()
}

/// A process that has the file, or something in the folder, open.
fn process(path: &Path, seen: &Seen) -> Result<Option<(u32, String)>, Error> {
    use std::os::unix::fs::MetadataExt as _;
    let uses = |link: &Path| match seen.kind {
        FileType::Directory => fs::read_link(link).is_ok_and(|target| target.starts_with(path)),
        _ => fs::metadata(link).is_ok_and(|file| (file.dev(), file.ino()) == (seen.dev, seen.ino)),
    };
    for entry in fs::read_dir("/proc").tried(|| "listing /proc".to_owned())? {
        let entry = entry.tried(|| "listing /proc".to_owned())?;
        let Some(id) = entry.file_name().to_str().and_then(|name| name.parse::<u32>().ok()) else { continue };
        let process: PathBuf = entry.path();
        // What is opened here to look at it is no use.
        if id == std::process::id() || is_own_fork(&process) {
            continue;
        }
        // A process that ends meanwhile uses nothing.
        let open = fs::read_dir(process.join("fd")).into_iter().flatten().flatten().map(|fd| fd.path());
        if open.chain(["cwd", "root"].map(|link| process.join(link))).any(|link| uses(&link)) {
            let name = fs::read_to_string(process.join("comm")).unwrap_or_default();
            return Ok(Some((id, name.trim().to_owned())));
        }
    }
    Ok(None)
}
