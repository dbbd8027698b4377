//! Reading `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::{ffi::OsString, fs, os::unix::ffi::OsStringExt as _, path::PathBuf};

use crate::error::{Error, Tried as _};

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The kernel's id of the mount, as statx(2) gives it.
    pub(crate) id: u64,
    /// The file system's device number, as `major:minor`.
    pub(crate) device: String,
    /// Which part of the file system is mounted.
    pub(crate) root: PathBuf,
    /// Where it is mounted.
    pub(crate) mount_point: PathBuf,
    /// What is mounted: a device's path for file systems on one.
    pub(crate) source: PathBuf,
    /// The file system's name.
    pub(crate) fs_type: String,
    /// The options of this mount, with commas between them.
    pub(crate) options: String,
    /// The options of the file system itself, whoever mounted it.
    pub(crate) fs_options: String,
}

impl Mount {
    /// The device number as `st_dev` gives it.
    pub(crate) fn device_number(&self) -> Option<u64> {
        let (major, minor) = self.device.split_once(':')?;
        Some(rustix::fs::makedev(major.parse().ok()?, minor.parse().ok()?))
    }
}

/// The mount with this id, in this process's namespace.
pub(crate) fn by_id(id: u64) -> Result<Option<Mount>, Error> {
    Ok(all()?.into_iter().find(|mount| mount.id == id))
}

/// Every mount of this process's namespace.
pub(crate) fn all() -> Result<Vec<Mount>, Error> {
    const PATH: &str = "/proc/self/mountinfo";
    let text = fs::read(PATH).tried(|| format!("reading {PATH}"))?;
    Ok(text.split(|byte| *byte == b'\n').filter_map(parse).collect())
}

/// `36 35 98:0 /root /mnt/point rw,noatime master:1 - ext3 /dev/root rw`.
fn parse(line: &[u8]) -> Option<Mount> {
    let mut fields = line.split(|byte| *byte == b' ');
    let id = std::str::from_utf8(fields.next()?).ok()?.parse().ok()?;
    let device = String::from_utf8_lossy(fields.nth(1)?).into_owned();
    let root = unescape(fields.next()?);
    let mount_point = unescape(fields.next()?);
    let options = String::from_utf8_lossy(fields.next()?).into_owned();
    let mut after = fields.skip_while(|field| *field != b"-").skip(1);
    let fs_type = String::from_utf8_lossy(after.next()?).into_owned();
    let source = unescape(after.next()?);
    let fs_options = String::from_utf8_lossy(after.next()?).into_owned();
    Some(Mount { id, device, root, mount_point, source, fs_type, options, fs_options })
}

/// Space, tab, newline and backslash stand there as `\` and three octal digits.
fn unescape(field: &[u8]) -> PathBuf {
    let mut bytes = Vec::with_capacity(field.len());
    let mut rest = field;
    while let Some((first, tail)) = rest.split_first() {
        let octal = (*first == b'\\')
            .then(|| tail.get(..3))
            .flatten()
            .and_then(|digits| std::str::from_utf8(digits).ok())
            .and_then(|digits| u8::from_str_radix(digits, 8).ok());
        match octal {
            Some(byte) => {
                bytes.push(byte);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                bytes.push(*first);
                rest = tail;
            }
        }
    }
    OsString::from_vec(bytes).into()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_are_read() {
        let line =
            br"36 35 98:0 /a /mnt/with\040space\134x rw,noatime master:1 shared:2 - btrfs /dev/loop7 rw";
        let mount = parse(line).unwrap();
        assert_eq!(mount.id, 36);
        assert_eq!(mount.device, "98:0");
        assert_eq!(mount.root, PathBuf::from("/a"));
        assert_eq!(mount.mount_point, PathBuf::from(r"/mnt/with space\x"));
        assert_eq!(mount.source, PathBuf::from("/dev/loop7"));
        assert_eq!(mount.fs_type, "btrfs");
        assert_eq!((mount.options.as_str(), mount.fs_options.as_str()), ("rw,noatime", "rw"));
        assert_eq!(parse(b"1 2 0:1 / /p rw - proc proc rw").map(|m| m.fs_type), Some("proc".to_owned()));
        for bad in [&b""[..], b"x", b"1 2 3", b"1 2 0:1 / /p rw", b"1 2 0:1 / /p rw - proc proc"] {
            assert_eq!(parse(bad), None);
        }
    }

    #[test]
    fn the_root_is_there() {
        assert!(all().unwrap().iter().any(|mount| mount.mount_point.as_os_str() == "/proc"));
    }
}
