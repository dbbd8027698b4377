//! The system calls that no safe binding covers: the ioctls of loop(4), FIFREEZE and
//! mount_setattr(2), and in the files below those of single file systems. The only
//! unsafe code of this crate.
#![allow(unsafe_code)]

pub(crate) mod btrfs;
pub(crate) mod fiemap;
pub(crate) mod quota;

use std::{
    ffi::{CStr, c_int},
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd, RawFd},
};

use rustix::ioctl::{Opcode, opcode};

// linux/loop.h
const LOOP_CLR_FD: u64 = 0x4C01;
const LOOP_SET_STATUS64: u64 = 0x4C04;
const LOOP_GET_STATUS64: u64 = 0x4C05;
const LOOP_SET_CAPACITY: u64 = 0x4C07;
const LOOP_CONFIGURE: u64 = 0x4C0A;
const LOOP_CTL_GET_FREE: u64 = 0x4C82;
/// The device cannot be written to.
pub(crate) const LO_FLAGS_READ_ONLY: u32 = 1;
/// The device detaches itself when its last user closes it.
pub(crate) const LO_FLAGS_AUTOCLEAR: u32 = 4;
/// The backing file is read and written without the page cache.
pub(crate) const LO_FLAGS_DIRECT_IO: u32 = 16;
// linux/fs.h
const FIFREEZE: Opcode = opcode::read_write::<c_int>(b'X', 119);
const FITHAW: Opcode = opcode::read_write::<c_int>(b'X', 120);
// linux/mount.h
const MOUNT_ATTR_ATIME: u64 = 0x70;

/// `struct loop_info64`.
#[repr(C)]
#[derive(Clone, Copy)]
pub(crate) struct LoopInfo {
    /// `st_dev` of the backing file, in the kernel's own encoding.
    pub(crate) device: u64,
    /// `st_ino` of the backing file.
    pub(crate) inode: u64,
    rdevice: u64,
    offset: u64,
    size_limit: u64,
    number: u32,
    encrypt_type: u32,
    encrypt_key_size: u32,
    /// `LO_FLAGS_*`.
    pub(crate) flags: u32,
    file_name: [u8; 64],
    crypt_name: [u8; 64],
    encrypt_key: [u8; 32],
    init: [u64; 2],
}

/// `struct loop_config`.
#[repr(C)]
struct LoopConfig {
    fd: u32,
    block_size: u32,
    info: LoopInfo,
    reserved: [u64; 8],
}

// The kernel's sizes: a wrong layout must not compile.
const _: () = assert!(size_of::<LoopInfo>() == 232 && size_of::<LoopConfig>() == 304);

const EMPTY_INFO: LoopInfo = LoopInfo {
    device: 0,
    inode: 0,
    rdevice: 0,
    offset: 0,
    size_limit: 0,
    number: 0,
    encrypt_type: 0,
    encrypt_key_size: 0,
    flags: 0,
    file_name: [0; 64],
    crypt_name: [0; 64],
    encrypt_key: [0; 32],
    init: [0; 2],
};

/// The number of a loop device that nobody uses, made if need be. Another process
/// may take it before us: [`configure`] then fails with EBUSY.
pub(crate) fn loop_get_free(control: BorrowedFd<'_>) -> io::Result<u32> {
    // SAFETY: this ioctl takes no argument and touches no memory of ours.
    let number = unsafe { libc::ioctl(control.as_raw_fd(), LOOP_CTL_GET_FREE as _) };
    u32::try_from(number).map_err(|_| io::Error::last_os_error())
}

/// Attaches `backing` to the loop device, whose sectors are to have `sector` bytes; EBUSY
/// when it is taken.
pub(crate) fn loop_configure(
    device: BorrowedFd<'_>,
    backing: BorrowedFd<'_>,
    sector: u32,
    flags: u32,
) -> io::Result<()> {
    let fd = u32::try_from(backing.as_raw_fd()).map_err(|_| io::ErrorKind::InvalidInput)?;
    let config =
        LoopConfig { fd, block_size: sector, info: LoopInfo { flags, ..EMPTY_INFO }, reserved: [0; 8] };
    // SAFETY: the kernel reads one `struct loop_config`, which `config` is by layout
    // (asserted above) and which lives until the call returns.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_CONFIGURE as _, &raw const config) };
    check(result.into())
}

/// What is attached to the loop device; ENXIO when nothing is.
pub(crate) fn loop_status(device: BorrowedFd<'_>) -> io::Result<LoopInfo> {
    let mut info = EMPTY_INFO;
    // SAFETY: the kernel writes one `struct loop_info64`, which `info` is by layout
    // (asserted above), all of whose fields may have any value.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_GET_STATUS64 as _, &raw mut info) };
    check(result.into())?;
    Ok(info)
}

/// Sets the flags of an attached loop device, and leaves all else of it as [`loop_status`] said; ENXIO when nothing is
/// attached. Of the flags the kernel only takes `LO_FLAGS_AUTOCLEAR` away.
pub(crate) fn loop_set_flags(device: BorrowedFd<'_>, info: &LoopInfo, flags: u32) -> io::Result<()> {
    let info = LoopInfo { flags, ..*info };
    // SAFETY: the kernel reads one `struct loop_info64`, which `info` is by layout
    // (asserted above) and which lives until the call returns.
    let result = unsafe { libc::ioctl(device.as_raw_fd(), LOOP_SET_STATUS64 as _, &raw const info) };
    check(result.into())
}

/// Makes the device as large as its backing file is now.
pub(crate) fn loop_set_capacity(device: BorrowedFd<'_>) -> io::Result<()> {
    plain(device.as_raw_fd(), LOOP_SET_CAPACITY)
}

/// Detaches the backing file: at once, or when the last user closes the device.
pub(crate) fn loop_clear(device: BorrowedFd<'_>) -> io::Result<()> {
    plain(device.as_raw_fd(), LOOP_CLR_FD)
}

/// Writes out everything in the file system of `root` and holds back every change to it;
/// EBUSY when it is frozen already.
pub(crate) fn fs_freeze(root: BorrowedFd<'_>) -> io::Result<()> {
    plain(root.as_raw_fd(), FIFREEZE.into())
}

/// Ends the freeze; EINVAL when there is none.
pub(crate) fn fs_thaw(root: BorrowedFd<'_>) -> io::Result<()> {
    plain(root.as_raw_fd(), FITHAW.into())
}

/// Sets `MOUNT_ATTR_*` on one mount.
pub(crate) fn set_mount_attributes(mount: BorrowedFd<'_>, set: u32) -> io::Result<()> {
    /// `struct mount_attr`, version 0.
    #[repr(C)]
    struct MountAttr {
        set: u64,
        clear: u64,
        propagation: u64,
        user_namespace: u64,
    }
    const EMPTY: &CStr = c"";
    let set = u64::from(set);
    // The ways to keep access times exclude each other: the old one has to be cleared.
    let clear = if set & MOUNT_ATTR_ATIME == 0 { 0 } else { MOUNT_ATTR_ATIME };
    let attr = MountAttr { set, clear, propagation: 0, user_namespace: 0 };
    // SAFETY: the path is a C string, and the kernel reads `size_of::<MountAttr>()`
    // bytes from `attr`; both live until the call returns.
    let result = unsafe {
        libc::syscall(
            libc::SYS_mount_setattr,
            mount.as_raw_fd(),
            EMPTY.as_ptr(),
            libc::AT_EMPTY_PATH,
            &raw const attr,
            size_of::<MountAttr>(),
        )
    };
    check(result)
}

fn plain(fd: RawFd, request: u64) -> io::Result<()> {
    // SAFETY: the requests passed here take no argument and touch no memory of ours.
    check(unsafe { libc::ioctl(fd, request as _, 0) }.into())
}

fn check(result: i64) -> io::Result<()> {
    if result < 0 { Err(io::Error::last_os_error()) } else { Ok(()) }
}
