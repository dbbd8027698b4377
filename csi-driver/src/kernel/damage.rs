//! What the kernel has noted to be wrong with a mounted file system. Everything here is
//! read from `/proc` and `/sys`, so that a file system that hangs or fails is not asked
//! about itself.

use std::{fs, io, path::Path};

use super::mountinfo::Mount;
use crate::error::{Error, Tried as _};

/// The file system's options by which the kernel says that it takes no more writes: `ro`
/// after an error, and, since it keeps `rw` there, what ext4 says instead (Linux 6.15;
/// `shutdown` is older).
const NO_WRITES: [&str; 3] = ["ro", "emergency_ro", "shutdown"];

/// What is wrong with the file system; one line each.
pub(crate) fn of(mount: &Mount) -> Result<Vec<String>, Error> {
    let mut damage = Vec::new();
    if let Some(option) = mount.fs_options.split(',').find(|option| NO_WRITES.contains(option)) {
        damage.push(format!(
            "its file system takes no writes any more ({option}): the kernel does that after an error, see its log"
        ));
    }
    let Some(device) = device_name(&mount.source) else { return Ok(damage) };
    match mount.fs_type.as_str() {
        "ext4" => damage.extend(ext4_errors(&device)?),
        "btrfs" => damage.extend(btrfs_errors(&device)?),
        _ => {}
    }
    damage.extend(lost_backing_file(&device)?);
    Ok(damage)
}

/// The kernel's name of the device at a path in /dev, whatever links lead to it.
fn device_name(source: &Path) -> Option<String> {
    let device = fs::canonicalize(source).ok().filter(|path| path.starts_with("/dev"))?;
    Some(device.file_name()?.to_str()?.to_owned())
}

/// `None` where there is no such file: the kernel does not count it, or the device went away.
fn read(path: &Path) -> Result<Option<String>, Error> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text.trim().to_owned())),
        Err(error)
            if error.kind() == io::ErrorKind::NotFound
                || matches!(error.raw_os_error(), Some(libc::ENXIO | libc::ENODEV)) =>
        {
            Ok(None)
        }
        Err(error) => Err(error).tried(|| format!("reading {}", path.display())),
    }
}

/// Documentation/ABI/testing/sysfs-fs-ext4: kept in the superblock until e2fsck clears it.
fn ext4_errors(device: &str) -> Result<Option<String>, Error> {
    let count = read(&Path::new("/sys/fs/ext4").join(device).join("errors_count"))?;
    Ok(count
        .filter(|count| count != "0")
        .map(|count| format!("ext4 noted {count} errors in it; stop what uses it, and check it with e2fsck")))
}

/// The counters that `btrfs device stats` shows: kept on the disk until someone resets them.
fn btrfs_errors(device: &str) -> Result<Option<String>, Error> {
    const ALL: &str = "/sys/fs/btrfs";
    let mut found = Vec::new();
    for entry in fs::read_dir(ALL).tried(|| format!("listing {ALL}"))? {
        let path = entry.tried(|| format!("listing {ALL}"))?.path();
        if !path.join("devices").join(device).exists() {
            continue;
        }
        let devices = path.join("devinfo");
        let Ok(members) = fs::read_dir(&devices) else { continue };
        for member in members {
            let member = member.tried(|| format!("listing {}", devices.display()))?.path();
            let counters = read(&member.join("error_stats"))?.unwrap_or_default();
            found.extend(counters.lines().filter(|line| !line.ends_with(" 0")).map(str::to_owned));
        }
    }
    Ok((!found.is_empty()).then(|| {
        format!(
            "btrfs noted errors ({}); see `btrfs device stats`, and check it with `btrfs scrub`",
            found.join(", ")
        )
    }))
}

/// A loop device whose file was deleted works on until it is detached: then all is gone.
fn lost_backing_file(device: &str) -> Result<Option<String>, Error> {
    let file = read(&Path::new("/sys/block").join(device).join("loop/backing_file"))?;
    Ok(file.filter(|file| file.ends_with(" (deleted)")).map(|file| {
        format!(
            "the file of its device was deleted ({}): what is in it is lost when it is unstaged, copy it now",
            file.trim_end_matches(" (deleted)")
        )
    }))
}

#[cfg(test)]
mod tests {
    use std::path::PathBuf;

    use super::*;

    fn mount(fs_options: &str) -> Mount {
        Mount {
            id: 1,
            device: "0:1".to_owned(),
            root: "/".into(),
            mount_point: "/m".into(),
            source: PathBuf::from("none"),
            fs_type: "tmpfs".to_owned(),
            options: "ro".to_owned(),
            fs_options: fs_options.to_owned(),
        }
    }

    #[test]
    fn the_file_systems_own_options_say_it_and_no_others() {
        for bad in ["ro", "ro,errors=remount-ro", "rw,emergency_ro", "rw,shutdown"] {
            assert_eq!(of(&mount(bad)).unwrap().len(), 1, "{bad}");
        }
        for good in ["rw", "rw,errors=remount-ro", "rw,norecovery"] {
            assert_eq!(of(&mount(good)).unwrap(), Vec::<String>::new(), "{good}");
        }
    }
}
