//! Where the bytes of a file lie, and so which of them two files have in common.

use std::os::fd::{AsFd as _, OwnedFd};

use super::raw::fiemap::{self as raw, AT_ONCE};
use crate::{
    blocks::{Extent, Lies},
    error::{Error, Tried as _},
};

// linux/fiemap.h
/// Nothing was ever written there: zeros are read.
const UNWRITTEN: u32 = 0x800;
/// Its address says nothing of its bytes: not known, not placed yet, compressed or
/// encrypted, not on a block's edge, inside metadata, or in a block with other files.
const OPAQUE: u32 = 0x2 | 0x4 | 0x8 | 0x80 | 0x100 | 0x200 | 0x400;

/// Another file has it as well (or this file in another place).
const SHARED: u32 = 0x2000;
/// So many parts of a map are asked for to count a file's own bytes: with 512 extents each,
/// and on btrfs a look at all who refer to each, more would take too long.
const PARTS: usize = 32;

/// How many bytes of the file lie where nothing else lies, so that they can be written anew
/// without new room. Too few where that is not known: of what is on its way to the disk, of
/// compressed blocks, and of the rest of a file that lies in very many pieces.
pub(crate) fn own(file: &OwnedFd, end: u64) -> Result<u64, Error> {
    let (mut own, mut at) = (0_u64, 0);
    for _ in 0..PARTS {
        let found = raw::map(file.as_fd(), at, end.saturating_sub(at), false)
            .tried(|| "asking which blocks an image shares (FIEMAP)".to_owned())?;
        let alone = found.iter().filter(|extent| extent.flags & (OPAQUE | SHARED) == 0);
        // The first may begin before, the last go on behind.
        let within = alone.map(|extent| {
            extent.logical.saturating_add(extent.length).min(end).saturating_sub(extent.logical.max(at))
        });
        own = own.saturating_add(within.sum());
        match found.last() {
            Some(last) if found.len() == AT_ONCE => at = last.logical.saturating_add(last.length),
            _ => break,
        }
        if at >= end {
            break;
        }
    }
    Ok(own)
}

/// A part of a file's map: the extents from a position up to `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) extents: Vec<Extent>,
    /// How far the map is known; never before the beginning.
    pub(crate) end: u64,
}

/// The map of the file from `start` on, up to `end` at most.
pub(crate) fn map(file: &OwnedFd, start: u64, end: u64) -> Result<Part, Error> {
    let found = raw::map(file.as_fd(), start, end.saturating_sub(start), true)
        .tried(|| "asking where the blocks of an image lie (FIEMAP)".to_owned())?;
    let known = match found.last() {
        Some(last) if found.len() == AT_ONCE => last.logical.saturating_add(last.length).min(end),
        _ => end,
    };
    let extents = found
        .iter()
        .map(|extent| Extent {
            start: extent.logical,
            end: extent.logical.saturating_add(extent.length),
            lies: match extent.flags {
                flags if flags & UNWRITTEN != 0 => Lies::Nowhere,
                flags if flags & OPAQUE != 0 => Lies::Unknown,
                _ => Lies::At(extent.physical),
            },
        })
        .collect();
    Ok(Part { extents, end: known })
}
