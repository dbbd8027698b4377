//! The ioctl FS_IOC_FIEMAP (`linux/fiemap.h`): where a file's bytes lie on its device.

use std::{
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::ioctl::opcode;

use super::check;

/// Writes the file's pages out first, so that nothing is still to be placed.
const SYNC: u32 = 1;
/// How many extents one call answers.
pub(crate) const AT_ONCE: usize = 512;

/// `struct fiemap`, without the extents.
#[repr(C)]
#[derive(Clone, Copy)]
struct Head {
    start: u64,
    length: u64,
    flags: u32,
    mapped: u32,
    count: u32,
    reserved: u32,
}

/// `struct fiemap_extent`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct RawExtent {
    /// Bytes from the beginning of the file.
    pub(crate) logical: u64,
    /// Bytes from the beginning of the device.
    pub(crate) physical: u64,
    /// Bytes.
    pub(crate) length: u64,
    reserved: [u64; 2],
    /// `FIEMAP_EXTENT_*`.
    pub(crate) flags: u32,
    reserved_more: [u32; 3],
}

#[repr(C)]
struct Map {
    head: Head,
    extents: [RawExtent; AT_ONCE],
}

// The kernel's sizes: a wrong layout must not compile.
const _: () = assert!(
    size_of::<Head>() == 32
        && size_of::<RawExtent>() == 56
        && size_of::<Map>() == 32 + AT_ONCE * size_of::<RawExtent>()
);

/// The first extents that have bytes from `start` on for `length` bytes, in their order; at
/// most [`AT_ONCE`]. With `written_out`, the file's pages are written to the disk first.
pub(crate) fn map(
    file: BorrowedFd<'_>,
    start: u64,
    length: u64,
    written_out: bool,
) -> io::Result<Vec<RawExtent>> {
    let count = u32::try_from(AT_ONCE).map_err(|_| io::ErrorKind::InvalidInput)?;
    let flags = if written_out { SYNC } else { 0 };
    let head = Head { start, length, flags, mapped: 0, count, reserved: 0 };
    let mut map = Box::new(Map { head, extents: [RawExtent::default(); AT_ONCE] });
    let request = opcode::read_write::<Head>(b'f', 11);
    let argument: *mut Map = map.as_mut();
    // SAFETY: the kernel reads the head and writes it and at most `count` extents after it,
    // for which `map` has room (asserted above); all fields may have any value.
    check(unsafe { libc::ioctl(file.as_raw_fd(), request as _, argument) }.into())?;
    let mapped = usize::try_from(map.head.mapped).unwrap_or(AT_ONCE).min(AT_ONCE);
    Ok(map.extents.get(..mapped).unwrap_or_default().to_vec())
}
