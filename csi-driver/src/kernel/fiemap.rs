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

/// A part of a file's map: the extents from a position up to `end`.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Part {
    pub(crate) extents: Vec<Extent>,
    /// How far the map is known; never before the beginning.
    pub(crate) end: u64,
}

/// The map of the file from `start` on, up to `end` at most.
pub(crate) fn map(file: &OwnedFd, start: u64, end: u64) -> Result<Part, Error> {
    let found = raw::map(file.as_fd(), start, end.saturating_sub(start))
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
