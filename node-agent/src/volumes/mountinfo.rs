//! The kernel's mount table, `/proc/self/mountinfo` (proc_pid_mountinfo(5)).

use std::{
    collections::BTreeMap,
    ffi::OsString,
    fs,
    os::unix::ffi::OsStringExt,
    path::{Path, PathBuf},
};

use crate::error::Error;

const TABLE: &str = "/proc/self/mountinfo";

/// One mount.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Mount {
    /// The options of this mount, not of its file system, say `ro`.
    pub(crate) read_only: bool,
    pub(crate) fs_type: String,
}

/// The mounts by the place where they are; where several lie on each other, the topmost.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub(crate) struct Mounts(BTreeMap<PathBuf, Mount>);

impl Mounts {
    /// Reads the table as it is now. It touches no file system, so it cannot hang on one.
    pub(crate) fn read() -> Result<Self, Error> {
        let table = fs::read(TABLE).map_err(Error::io("read the mount table", TABLE))?;
        Self::parse(&table).map_err(|line| Error::Journal { path: TABLE.into(), reason: line })
    }

    /// A line that cannot be read makes the whole table unknown: to leave it out would say that
    /// something is not mounted.
    fn parse(table: &[u8]) -> Result<Self, String> {
        let mut mounts = BTreeMap::new();
        for line in table.split(|&b| b == b'\n').filter(|l| !l.is_empty()) {
            let (place, mount) =
                parse_line(line).ok_or_else(|| format!("odd line {:?}", String::from_utf8_lossy(line)))?;
            // Later lines are later mounts.
            mounts.insert(place, mount);
        }
        Ok(Self(mounts))
    }

    pub(crate) fn at(&self, path: &Path) -> Option<&Mount> {
        self.0.get(path)
    }

    pub(crate) fn is_mounted(&self, path: &Path) -> bool {
        self.0.contains_key(path)
    }

    /// The places below a folder.
    pub(crate) fn below<'a>(&'a self, folder: &'a Path) -> impl Iterator<Item = &'a Path> {
        self.0.keys().map(PathBuf::as_path).filter(move |p| p.starts_with(folder) && *p != folder)
    }
}

/// `36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw,errors=continue`
fn parse_line(line: &[u8]) -> Option<(PathBuf, Mount)> {
    let mut fields = line.split(|&b| b == b' ');
    let place = fields.nth(4)?;
    let options = fields.next()?;
    // Any number of optional fields, then a single hyphen.
    fields.find(|f| *f == b"-")?;
    let fs_type = fields.next()?;
    let mount = Mount {
        read_only: options.split(|&b| b == b',').any(|o| o == b"ro"),
        fs_type: String::from_utf8_lossy(&unescape(fs_type)).into_owned(),
    };
    Some((PathBuf::from(OsString::from_vec(unescape(place))), mount))
}

/// Space, tab, newline and backslash come as a backslash and three octal digits.
fn unescape(text: &[u8]) -> Vec<u8> {
    let mut out = Vec::with_capacity(text.len());
    let mut rest = text;
    while let Some((&byte, tail)) = rest.split_first() {
        let octal = tail.get(..3).filter(|d| byte == b'\\' && d.iter().all(|c| (b'0'..=b'7').contains(c)));
        let value = octal.map(|d| d.iter().fold(0u32, |v, c| v * 8 + u32::from(c - b'0')));
        match value.and_then(|v| u8::try_from(v).ok()) {
            Some(value) => {
                out.push(value);
                rest = tail.get(3..).unwrap_or_default();
            }
            None => {
                out.push(byte);
                rest = tail;
            }
        }
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn lines_as_the_kernel_writes_them() {
        let table = b"27 1 254:0 / / rw,relatime - ext4 /dev/vda rw,discard\n\
            40 27 7:0 / /k/a\\040b\\134c\\011d ro,relatime shared:1 master:2 - xfs /dev/loop0 rw\n\
            41 27 0:30 /x /k/stack rw - tmpfs a rw\n\
            42 41 0:31 / /k/stack ro,nosuid unbindable - btrfs b rw\n";
        let mounts = Mounts::parse(table).unwrap();
        assert!(mounts.is_mounted(Path::new("/")));
        let odd = mounts.at(Path::new("/k/a b\\c\td")).unwrap();
        assert!(odd.read_only);
        assert_eq!(odd.fs_type, "xfs");
        let top = mounts.at(Path::new("/k/stack")).unwrap();
        assert_eq!((top.fs_type.as_str(), top.read_only), ("btrfs", true), "the topmost counts");
        assert_eq!(mounts.below(Path::new("/k")).count(), 2);
        assert!(!mounts.is_mounted(Path::new("/k")));
    }

    #[test]
    fn half_a_table_is_no_table() {
        assert!(Mounts::parse(b"27 1 254:0 / / rw,relatime").is_err());
        assert!(Mounts::parse(b"27 1 254:0 /").is_err());
        assert_eq!(Mounts::parse(b""), Ok(Mounts::default()));
    }

    #[test]
    fn escapes() {
        for (escaped, plain) in
            [("a\\040b", "a b"), ("a\\", "a\\"), ("\\09", "\\09"), ("\\777", "\\777"), ("\\134040", "\\040")]
        {
            assert_eq!(unescape(escaped.as_bytes()), plain.as_bytes(), "{escaped}");
        }
    }

    #[test]
    fn the_own_table_can_be_read() {
        assert!(Mounts::read().unwrap().is_mounted(Path::new("/")));
    }

    proptest::proptest! {
        #[test]
        fn whatever_is_escaped_comes_back(bytes: Vec<u8>) {
            let mut escaped = Vec::new();
            for &b in &bytes {
                if matches!(b, b' ' | b'\t' | b'\n' | b'\\') {
                    escaped.extend(format!("\\{b:03o}").bytes());
                } else {
                    escaped.push(b);
                }
            }
            proptest::prop_assert_eq!(unescape(&escaped), bytes);
        }
    }
}
