//! How large a file system thinks it is, read from its first superblock.

use crate::{
    error::Error,
    kernel::loopdev::LoopDevice,
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
            assert_eq!(parse(fs, &[0xff; 70]), None);
        }
    }
}
