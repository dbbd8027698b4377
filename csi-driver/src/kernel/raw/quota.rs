//! quotactl(2) for project quotas, and the ioctls that say to which project a file
//! belongs (ioctl_xfs_fsgetxattr(2)).

use std::{
    ffi::CStr,
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::ioctl::opcode;

use super::check;

// linux/quota.h, linux/dqblk_xfs.h
const PROJECT_QUOTA: u32 = 2;
const GET_QUOTA: u32 = 0x80_0007;
const SET_QUOTA: u32 = 0x80_0008;
const GET_STATE: u32 = 0x5808;
const STATE_VERSION: i8 = 1;
const PROJECT_LIMITS_ENFORCED: u16 = 1 << 5;
const VALID_BLOCK_LIMITS: u32 = 1;
/// The unit of block limits, in bytes.
const BLOCK: u64 = 1024;
/// New files in the folder belong to its project.
pub(crate) const XFLAG_PROJINHERIT: u32 = 0x200;

/// `struct if_dqblk`.
#[repr(C)]
#[derive(Default)]
struct Dqblk {
    block_hard_limit: u64,
    block_soft_limit: u64,
    space: u64,
    inode_hard_limit: u64,
    inode_soft_limit: u64,
    inodes: u64,
    block_time: u64,
    inode_time: u64,
    valid: u32,
}

/// `struct fs_quota_statv`, of which the version goes in and the flags come out.
#[repr(C)]
struct State {
    version: i8,
    pad: u8,
    flags: u16,
    rest: [u64; 20],
}

/// `struct fsxattr`.
#[repr(C)]
#[derive(Debug, Clone, Copy, Default)]
pub(crate) struct FileAttributes {
    /// `FS_XFLAG_*`.
    pub(crate) flags: u32,
    extent_size: u32,
    extents: u32,
    /// 0 is nobody's.
    pub(crate) project: u32,
    cow_extent_size: u32,
    pad: [u8; 8],
}

// The kernel's sizes: a wrong layout must not compile.
const _: () =
    assert!(size_of::<Dqblk>() == 72 && size_of::<FileAttributes>() == 28 && size_of::<State>() >= 160);

/// What a project uses and may use at most; no limit is 0.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Usage {
    /// Bytes.
    pub(crate) space: u64,
    pub(crate) inodes: u64,
    /// Bytes.
    pub(crate) limit: u64,
    pub(crate) inode_limit: u64,
}

/// A file system, by an open file in it and, for kernels before 5.14, by its device.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Of<'a> {
    pub(crate) fd: BorrowedFd<'a>,
    pub(crate) device: &'a CStr,
}

impl Of<'_> {
    /// Whether limits on projects are enforced; ENOSYS where the kernel has no quotas,
    /// EINVAL or ESRCH where the file system has none.
    pub(crate) fn is_enforced(self) -> io::Result<bool> {
        let mut state = State { version: STATE_VERSION, pad: 0, flags: 0, rest: [0; 20] };
        self.call(GET_STATE, 0, &mut state)?;
        Ok(state.flags & PROJECT_LIMITS_ENFORCED != 0)
    }

    /// What the project uses. One that the file system never heard of uses nothing.
    pub(crate) fn usage(self, project: u32) -> io::Result<Usage> {
        let mut quota = Dqblk::default();
        match self.call(GET_QUOTA, project, &mut quota) {
            Err(error) if error.raw_os_error() == Some(libc::ENOENT) => return Ok(Usage::default()),
            done => done?,
        }
        Ok(Usage {
            space: quota.space,
            inodes: quota.inodes,
            limit: quota.block_hard_limit.saturating_mul(BLOCK),
            inode_limit: quota.inode_hard_limit,
        })
    }

    /// Holds the project to so many bytes, a multiple of 1 KiB; 0 takes the limit off.
    pub(crate) fn limit(self, project: u32, bytes: u64) -> io::Result<()> {
        let blocks = bytes / BLOCK;
        let mut quota = Dqblk { block_hard_limit: blocks, valid: VALID_BLOCK_LIMITS, ..Dqblk::default() };
        self.call(SET_QUOTA, project, &mut quota)
    }

    fn call<T>(self, command: u32, project: u32, argument: &mut T) -> io::Result<()> {
        let command = command << 8 | PROJECT_QUOTA;
        let argument: *mut T = argument;
        // SAFETY: the callers above pass the structure that belongs to the command, at least
        // as long as the kernel's; all of its fields may have any value, and it lives until
        // the call returns.
        let result =
            unsafe { libc::syscall(libc::SYS_quotactl_fd, self.fd.as_raw_fd(), command, project, argument) };
        match check(result) {
            Err(error) if error.raw_os_error() == Some(libc::ENOSYS) => {}
            done => return done,
        }
        // SAFETY: as above, and the device is a C string.
        check(unsafe { libc::syscall(libc::SYS_quotactl, command, self.device.as_ptr(), project, argument) })
    }
}

/// The file's project and flags.
pub(crate) fn attributes(fd: BorrowedFd<'_>) -> io::Result<FileAttributes> {
    let mut attributes = FileAttributes::default();
    let request = opcode::read::<FileAttributes>(b'X', 31);
    // SAFETY: the kernel writes one `struct fsxattr`, which `attributes` is by layout.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut attributes) }.into())?;
    Ok(attributes)
}

/// Sets the file's project and flags.
pub(crate) fn set_attributes(fd: BorrowedFd<'_>, attributes: FileAttributes) -> io::Result<()> {
    let request = opcode::write::<FileAttributes>(b'X', 32);
    // SAFETY: the kernel reads one `struct fsxattr`, which `attributes` is by layout.
    check(unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw const attributes) }.into())
}
