//! The ioctls of btrfs (`linux/btrfs.h`): subvolumes, snapshots and quota groups.

use std::{
    ffi::CStr,
    io,
    mem::size_of,
    os::fd::{AsRawFd as _, BorrowedFd},
};

use rustix::ioctl::{Opcode, opcode};

use super::check;

const MAGIC: u8 = 0x94;
const QUOTA_ENABLE: u64 = 1;
const QUOTA_ENABLE_SIMPLE: u64 = 4;
const LIMIT_REFERENCED: u64 = 1;
const SUBVOL_RDONLY: u64 = 1 << 1;
const SUBVOL_SPEC_BY_ID: u64 = 1 << 4;
/// The inode number of every subvolume's root.
pub(crate) const SUBVOLUME_INODE: u64 = 256;
const ROOT_TREE: u64 = 1;
const ROOT_REF_KEY: u32 = 156;

/// `struct btrfs_ioctl_vol_args_v2`.
#[repr(C)]
struct VolArgs {
    fd: i64,
    transid: u64,
    flags: u64,
    unused: [u64; 4],
    /// A name that ends with a zero, or a subvolume's id.
    name: [u8; 4040],
}

/// `struct btrfs_ioctl_ino_lookup_args`.
#[repr(C)]
struct InoLookup {
    tree: u64,
    object: u64,
    name: [u8; 4080],
}

/// `struct btrfs_ioctl_received_subvol_args`; all zero, it says that nothing was received.
#[repr(C)]
#[derive(Default)]
struct Received {
    id: [u8; 16],
    transactions: [u64; 2],
    times: [u64; 4],
    flags: u64,
    reserved: [u64; 16],
}

/// `struct btrfs_ioctl_get_subvol_info_args`, of which the ids are read.
#[repr(C)]
struct SubvolInfo {
    before: [u8; 296],
    id: [u8; 16],
    parent: [u8; 16],
    received: [u8; 16],
    after: [u64; 20],
}

/// `struct btrfs_ioctl_quota_ctl_args`.
#[repr(C)]
struct QuotaCtl {
    command: u64,
    status: u64,
}

/// `struct btrfs_ioctl_qgroup_create_args`.
#[repr(C)]
struct QgroupCreate {
    create: u64,
    group: u64,
}

/// `struct btrfs_ioctl_qgroup_assign_args`.
#[repr(C)]
struct QgroupAssign {
    assign: u64,
    member: u64,
    group: u64,
}

/// `struct btrfs_ioctl_qgroup_limit_args`.
#[repr(C)]
struct QgroupLimit {
    group: u64,
    flags: u64,
    max_referenced: u64,
    max_exclusive: u64,
    reserved_referenced: u64,
    reserved_exclusive: u64,
}

/// `struct btrfs_ioctl_fs_info_args`, of which the file system's id is read.
#[repr(C)]
struct FsInfo {
    max_id: u64,
    devices: u64,
    id: [u8; 16],
    rest: [u8; 992],
}

/// `struct btrfs_ioctl_search_key` and the buffer of `btrfs_ioctl_search_args_v2`.
#[repr(C)]
struct Search {
    tree: u64,
    min_object: u64,
    max_object: u64,
    min_offset: u64,
    max_offset: u64,
    min_transid: u64,
    max_transid: u64,
    min_type: u32,
    max_type: u32,
    items: u32,
    unused: u32,
    unused_more: [u64; 4],
    buffer_size: u64,
    buffer: [u8; SEARCH_BUFFER],
}
const SEARCH_BUFFER: usize = 16 << 10;
/// What the kernel's number of the call counts: the key and the buffer's size.
#[repr(C)]
struct SearchHead([u64; 14]);

// The kernel's sizes: a wrong layout must not compile.
const _: () = assert!(
    size_of::<VolArgs>() == 4096
        && size_of::<InoLookup>() == 4096
        && size_of::<Received>() == 200
        && size_of::<SubvolInfo>() == 504
        && size_of::<QgroupLimit>() == 48
        && size_of::<FsInfo>() == 1024
        && size_of::<SearchHead>() == 112
        && size_of::<Search>() == 112 + SEARCH_BUFFER
);

fn vol_args(name: &CStr) -> io::Result<VolArgs> {
    let mut args = VolArgs { fd: 0, transid: 0, flags: 0, unused: [0; 4], name: [0; 4040] };
    let bytes = name.to_bytes_with_nul();
    args.name.get_mut(..bytes.len()).ok_or(io::ErrorKind::InvalidFilename)?.copy_from_slice(bytes);
    Ok(args)
}

/// Calls the ioctl with one argument that it reads, writes, or both.
fn call<T>(fd: BorrowedFd<'_>, request: Opcode, argument: &mut T) -> io::Result<()> {
    // SAFETY: each caller passes the request that belongs to `T`, whose size the kernel's
    // number of the request has in it (asserted above where it is not made from `T`); every
    // field of these types may have any value, and `argument` lives until the call returns.
    let result = unsafe { libc::ioctl(fd.as_raw_fd(), request as _, &raw mut *argument) };
    check(result.into())
}

/// Makes an empty subvolume `name` in the folder.
pub(crate) fn subvol_create(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    call(folder, opcode::write::<VolArgs>(MAGIC, 24), &mut vol_args(name)?)
}

/// Removes the subvolume `name` of the folder; ENOTEMPTY while it has others in it.
pub(crate) fn snap_destroy(folder: BorrowedFd<'_>, name: &CStr) -> io::Result<()> {
    call(folder, opcode::write::<VolArgs>(MAGIC, 63), &mut vol_args(name)?)
}

/// Makes the snapshot `name` of the open subvolume `source` in the open folder, and commits:
/// it is durable, with all that was written to the source before the call.
pub(crate) fn snap_create(
    folder: BorrowedFd<'_>,
    name: &CStr,
    source: BorrowedFd<'_>,
    read_only: bool,
) -> io::Result<()> {
    let mut args = vol_args(name)?;
    args.fd = source.as_raw_fd().into();
    args.flags = if read_only { SUBVOL_RDONLY } else { 0 };
    call(folder, opcode::write::<VolArgs>(MAGIC, 23), &mut args)
}

/// Removes the subvolume with this id, wherever it is in the file system of `fd`.
pub(crate) fn snap_destroy_by_id(fd: BorrowedFd<'_>, id: u64) -> io::Result<()> {
    let mut args = vol_args(c"")?;
    args.flags = SUBVOL_SPEC_BY_ID;
    args.name.get_mut(..8).ok_or(io::ErrorKind::InvalidInput)?.copy_from_slice(&id.to_ne_bytes());
    call(fd, opcode::write::<VolArgs>(MAGIC, 63), &mut args)
}

/// The id of the subvolume in which the open folder lies.
pub(crate) fn subvol_id(fd: BorrowedFd<'_>) -> io::Result<u64> {
    let mut args = InoLookup { tree: 0, object: SUBVOLUME_INODE, name: [0; 4080] };
    call(fd, opcode::read_write::<InoLookup>(MAGIC, 18), &mut args)?;
    Ok(args.tree)
}

/// Whether the open subvolume is read-only.
pub(crate) fn subvol_is_read_only(subvolume: BorrowedFd<'_>) -> io::Result<bool> {
    let mut flags = 0_u64;
    call(subvolume, opcode::read::<u64>(MAGIC, 25), &mut flags)?;
    Ok(flags & SUBVOL_RDONLY != 0)
}

/// Makes the open subvolume read-only or writable.
pub(crate) fn subvol_set_read_only(subvolume: BorrowedFd<'_>, read_only: bool) -> io::Result<()> {
    let mut flags = if read_only { SUBVOL_RDONLY } else { 0 };
    call(subvolume, opcode::write::<u64>(MAGIC, 26), &mut flags)
}

/// Writes down of which subvolume the open one is a received copy, all zero for none. It has to be
/// writable; whoever owns it may do this.
pub(crate) fn subvol_set_received(subvolume: BorrowedFd<'_>, id: [u8; 16]) -> io::Result<()> {
    let mut received = Received { id, ..Received::default() };
    call(subvolume, opcode::read_write::<Received>(MAGIC, 37), &mut received)
}

/// The UUID of the open subvolume, and that of which it is a received copy: all zero for none.
pub(crate) fn subvol_uuids(subvolume: BorrowedFd<'_>) -> io::Result<([u8; 16], [u8; 16])> {
    let mut info =
        SubvolInfo { before: [0; 296], id: [0; 16], parent: [0; 16], received: [0; 16], after: [0; 20] };
    call(subvolume, opcode::read::<SubvolInfo>(MAGIC, 60), &mut info)?;
    Ok((info.id, info.received))
}

/// The ids of the subvolumes that lie in the subvolume `id`, not of those deeper.
pub(crate) fn subvol_children(fd: BorrowedFd<'_>, id: u64) -> io::Result<Vec<u64>> {
    /// `struct btrfs_ioctl_search_header`: transid, objectid, offset, type, length.
    const HEADER: usize = 32;
    let mut children = Vec::new();
    let mut next = Some(0);
    while let Some(min_offset) = next {
        let mut search = Box::new(Search {
            tree: ROOT_TREE,
            min_object: id,
            max_object: id,
            min_offset,
            max_offset: u64::MAX,
            min_transid: 0,
            max_transid: u64::MAX,
            min_type: ROOT_REF_KEY,
            max_type: ROOT_REF_KEY,
            items: u32::MAX,
            unused: 0,
            unused_more: [0; 4],
            buffer_size: SEARCH_BUFFER as u64,
            buffer: [0; SEARCH_BUFFER],
        });
        call(fd, opcode::read_write::<SearchHead>(MAGIC, 17), search.as_mut())?;
        let mut rest = &search.buffer[..];
        next = None;
        for _ in 0..search.items {
            let Some((header, after)) = rest.split_at_checked(HEADER) else { break };
            let number = |at: usize| header.get(at..at + 8)?.try_into().ok().map(u64::from_ne_bytes);
            let length = header.get(28..32).and_then(|bytes| bytes.try_into().ok()).map(u32::from_ne_bytes);
            let (Some(child), Some(length)) = (number(16), length) else { break };
            children.push(child);
            // The offset of this kind of key is the child's id.
            next = child.checked_add(1);
            let Some(after) = after.get(length as usize..) else { break };
            rest = after;
        }
    }
    Ok(children)
}

/// Switches quotas on.
pub(crate) fn quota_enable(fd: BorrowedFd<'_>, simple: bool) -> io::Result<()> {
    let command = if simple { QUOTA_ENABLE_SIMPLE } else { QUOTA_ENABLE };
    call(fd, opcode::read_write::<QuotaCtl>(MAGIC, 40), &mut QuotaCtl { command, status: 0 })
}

/// Makes a quota group; EEXIST when it is there.
pub(crate) fn qgroup_create(fd: BorrowedFd<'_>, group: u64) -> io::Result<()> {
    call(fd, opcode::write::<QgroupCreate>(MAGIC, 42), &mut QgroupCreate { create: 1, group })
}

/// Removes a quota group; EBUSY while it has members.
pub(crate) fn qgroup_remove(fd: BorrowedFd<'_>, group: u64) -> io::Result<()> {
    call(fd, opcode::write::<QgroupCreate>(MAGIC, 42), &mut QgroupCreate { create: 0, group })
}

/// Makes `member` a member of `group`, or makes it none.
pub(crate) fn qgroup_assign(fd: BorrowedFd<'_>, member: u64, group: u64, assign: bool) -> io::Result<()> {
    let mut args = QgroupAssign { assign: assign.into(), member, group };
    call(fd, opcode::write::<QgroupAssign>(MAGIC, 41), &mut args)
}

/// Holds the group to so many bytes that it refers to, or to none.
pub(crate) fn qgroup_limit(fd: BorrowedFd<'_>, group: u64, bytes: Option<u64>) -> io::Result<()> {
    let mut args = QgroupLimit {
        group,
        flags: LIMIT_REFERENCED,
        // The kernel's word for "no limit any more".
        max_referenced: bytes.unwrap_or(u64::MAX),
        max_exclusive: 0,
        reserved_referenced: 0,
        reserved_exclusive: 0,
    };
    call(fd, opcode::read::<QgroupLimit>(MAGIC, 43), &mut args)
}

/// The file system's id.
pub(crate) fn fs_id(fd: BorrowedFd<'_>) -> io::Result<[u8; 16]> {
    let mut info = FsInfo { max_id: 0, devices: 0, id: [0; 16], rest: [0; 992] };
    call(fd, opcode::read::<FsInfo>(MAGIC, 31), &mut info)?;
    Ok(info.id)
}

/// Commits what was changed in the file system's trees, and nobody's file data.
pub(crate) fn commit(fd: BorrowedFd<'_>) -> io::Result<()> {
    let mut transaction = 0_u64;
    call(fd, opcode::read::<u64>(MAGIC, 24), &mut transaction)?;
    call(fd, opcode::write::<u64>(MAGIC, 22), &mut transaction)
}
