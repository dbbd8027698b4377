//! What a file system says of itself in its first superblock: how large it thinks it is,
//! and who it is.

use std::{
    fs::File,
    io::Read as _,
    os::{fd::OwnedFd, unix::fs::FileExt as _},
};

use crate::{
    error::{Error, Tried as _},
    kernel::loopdev::{LoopDevice, Sector},
    volume::FsType,
};

/// Where the superblocks of all three end.
const ENOUGH: usize = 0x1_0000 + 0x1000;

/// A file system's own idea of its size, in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Filled {
    bytes: u64,
    /// File systems end at a whole number of these.
    unit: u64,
}

impl Filled {
    /// Whether a device of `size` bytes has no room left to grow into.
    pub(super) fn fills(self, size: u64) -> bool {
        self.bytes.saturating_add(self.unit) > size
    }
}

/// Reads the size from the device; `None` when the superblock is not what it should
/// be, and then the tools decide.
pub(super) fn size(fs: FsType, device: &LoopDevice) -> Result<Option<Filled>, Error> {
    let mut start = vec![0_u8; ENOUGH];
    let length = device.read_at(&mut start, 0)?;
    Ok(parse(fs, start.get(..length).unwrap_or_default()))
}

/// Who a file system is.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Who {
    pub(super) uuid: [u8; 16],
    /// ext4: the checksums of all metadata begin with the UUID.
    pub(super) seeds_checksums_with_uuid: bool,
    /// btrfs: there is a log that has to be replayed.
    pub(super) has_log: bool,
}

/// What the start of an image shows, to one who knows what should be there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) struct Shown {
    /// The largest sectors on which the file system mounts.
    pub(super) sector: Sector,
    /// It has the superblock of the file system asked for and of none that is like it. `false` says
    /// nothing of what is there.
    pub(super) is_it: bool,
}

/// Looks at the start of an image that was given this file system once.
pub(super) fn look(fs: FsType, image: &OwnedFd) -> Result<Shown, Error> {
    Ok(shown(fs, &start_of(image)?))
}

fn shown(fs: FsType, start: &[u8]) -> Shown {
    let filled = parse(fs, start);
    let takes_large = match fs {
        // Their blocks, which are no smaller than sectors.
        FsType::Ext4 | FsType::Btrfs => filled.is_some_and(|filled| filled.unit >= 4096),
        // Those that it was made on, which lie in the superblock by themselves.
        FsType::Xfs => array(start, 102).is_some_and(|sector| u16::from_be_bytes(sector) >= 4096),
    };
    let is_it = match fs {
        // ext2 and ext3 have the same magic number and no extents (EXT4_FEATURE_INCOMPAT_EXTENTS).
        FsType::Ext4 => array(start, 1024 + 0x60).is_some_and(|flags| u32::from_le_bytes(flags) & 0x40 != 0),
        FsType::Xfs | FsType::Btrfs => true,
    };
    Shown {
        sector: if takes_large { Sector::Bytes4096 } else { Sector::Bytes512 },
        is_it: is_it && filled.is_some(),
    }
}

fn start_of(image: &OwnedFd) -> Result<Vec<u8>, Error> {
    let file = File::from(image.try_clone().tried(|| "keeping an image open".to_owned())?);
    let mut start = vec![0_u8; ENOUGH];
    file.read_exact_at(&mut start, 0).tried(|| "reading a superblock".to_owned())?;
    Ok(start)
}

/// Reads it from an image; what is no such file system is damage.
pub(super) fn read(fs: FsType, image: &OwnedFd) -> Result<Who, Error> {
    who(fs, &start_of(image)?).ok_or_else(|| {
        Error::Precondition(format!(
            "the copied image does not hold {fs}; make the copy again from a whole one"
        ))
    })
}

fn who(fs: FsType, start: &[u8]) -> Option<Who> {
    // It has the superblock of this file system.
    parse(fs, start)?;
    let mut who = Who { uuid: [0; 16], seeds_checksums_with_uuid: false, has_log: false };
    match fs {
        FsType::Ext4 => {
            let sb = start.get(1024..2048)?;
            who.uuid = array(sb, 0x68)?;
            let has_checksums = u32::from_le_bytes(array(sb, 0x64)?) & 0x400 != 0;
            let has_seed = u32::from_le_bytes(array(sb, 0x60)?) & 0x2000 != 0;
            who.seeds_checksums_with_uuid = has_checksums && !has_seed;
        }
        FsType::Xfs => who.uuid = array(start, 32)?,
        FsType::Btrfs => {
            let sb = start.get(0x1_0000..)?;
            who.uuid = array(sb, 0x20)?;
            who.has_log = u64::from_le_bytes(array(sb, 0x60)?) != 0;
        }
    }
    Some(who)
}

/// The file system's size in bytes, read from a file that holds it; `None` as in [`size`].
pub(super) fn in_file(fs: FsType, file: &OwnedFd) -> Result<Option<u64>, Error> {
    let mut start = Vec::with_capacity(ENOUGH);
    let file = File::from(file.try_clone().tried(|| "keeping a file open".to_owned())?);
    file.take(ENOUGH as u64).read_to_end(&mut start).tried(|| "reading a superblock".to_owned())?;
    Ok(parse(fs, &start).map(|filled| filled.bytes))
}

fn parse(fs: FsType, start: &[u8]) -> Option<Filled> {
    match fs {
        // Documentation/filesystems/ext4: the superblock is at 1024.
        FsType::Ext4 => {
            let sb = start.get(1024..2048)?;
            (sb.get(0x38..0x3a)? == [0x53, 0xef]).then_some(())?;
            let unit = 1024_u64.checked_shl(u32::from_le_bytes(array(sb, 0x18)?))?;
            let has_high_half = u32::from_le_bytes(array(sb, 0x60)?) & 0x80 != 0;
            let low = u64::from(u32::from_le_bytes(array(sb, 0x4)?));
            let high = if has_high_half { u64::from(u32::from_le_bytes(array(sb, 0x150)?)) } else { 0 };
            Some(Filled { bytes: (high << 32 | low).checked_mul(unit)?, unit })
        }
        // xfs_format.h: struct xfs_dsb at 0, big endian. The growing tool leaves out a
        // last allocation group that would be too small; it decides, so no slack here.
        FsType::Xfs => {
            (start.get(..4)? == b"XFSB").then_some(())?;
            let unit = u64::from(u32::from_be_bytes(array(start, 4)?));
            Some(Filled { bytes: u64::from_be_bytes(array(start, 8)?).checked_mul(unit)?, unit })
        }
        // btrfs_tree.h: struct btrfs_super_block at 64 KiB; sizes in sectors of 4 KiB.
        FsType::Btrfs => {
            let sb = start.get(0x1_0000..)?;
            (sb.get(0x40..0x48)? == b"_BHRfS_M").then_some(())?;
            let unit = u64::from(u32::from_le_bytes(array(sb, 0x90)?));
            Some(Filled { bytes: u64::from_le_bytes(array(sb, 0x70)?), unit })
        }
    }
}

fn array<const N: usize>(bytes: &[u8], at: usize) -> Option<[u8; N]> {
    bytes.get(at..at + N)?.try_into().ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_rest_smaller_than_a_block_is_no_room() {
        let filled = Filled { bytes: 1 << 20, unit: 4096 };
        assert!(filled.fills(1 << 20) && filled.fills((1 << 20) + 4095));
        assert!(!filled.fills((1 << 20) + 4096));
    }

    #[test]
    fn other_bytes_are_no_superblock() {
        for fs in [FsType::Ext4, FsType::Xfs, FsType::Btrfs] {
            assert_eq!(parse(fs, &[]), None);
            assert_eq!(parse(fs, &[0; ENOUGH]), None);
            assert!(!shown(fs, &[0; ENOUGH]).is_it && !shown(fs, &[0xff; 70]).is_it);
            assert_eq!(parse(fs, &[0xff; 70]), None);
        }
    }

    /// The real tools, on a plain file: what they wrote is what is read.
    #[test]
    #[expect(clippy::disallowed_methods, reason = "a test makes real file systems with the plain tools")]
    fn real_superblocks() {
        use std::{fs::File, io::Read as _, process::Command};
        let scratch = tempfile::tempdir().unwrap();
        for (name, fs, size) in [
            ("ext4", FsType::Ext4, 64 << 20),
            ("ext3", FsType::Ext4, 64 << 20),
            ("ext2", FsType::Ext4, 64 << 20),
            ("xfs", FsType::Xfs, 300 << 20),
            ("btrfs", FsType::Btrfs, 128 << 20),
        ] {
            let path = scratch.path().join(name);
            File::create(&path).unwrap().set_len(size).unwrap();
            let tool = format!("mkfs.{name}");
            match Command::new(&tool)
                .arg("-q")
                .arg(&path)
                .env("PATH", "/usr/sbin:/sbin:/usr/bin:/bin")
                .status()
            {
                Ok(status) => assert!(status.success(), "{tool}"),
                Err(error) => {
                    println!("NOT SHOWN: {fs}, for {tool}: {error}");
                    continue;
                }
            }
            let mut start = Vec::new();
            File::open(&path).unwrap().take(ENOUGH as u64).read_to_end(&mut start).unwrap();
            let filled = parse(fs, &start).unwrap();
            assert!(filled.fills(size) && filled.bytes <= size, "{fs}: {filled:?}");
            assert!(!filled.fills(2 * size), "{fs}: {filled:?}");
            for other in [FsType::Ext4, FsType::Xfs, FsType::Btrfs] {
                let is_it = shown(other, &start).is_it;
                assert_eq!(is_it, name == other.as_str(), "{name} is taken for {other}, or is not: {is_it}");
            }
        }
    }
}
