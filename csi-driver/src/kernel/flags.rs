//! Which mount flags a volume may be mounted with. Pure.
//!
//! A list of what is allowed, not of what is forbidden: some options name other
//! devices or paths (`device=`, `logdev=`, `journal_path=`), and a claim must not
//! reach those.

use rustix::mount::MountAttrFlags;

use crate::{
    error::Error,
    volume::{Content, FsType},
};

/// Checked mount flags, split as the kernel takes them.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct MountOptions {
    /// Of the mount.
    pub(crate) attributes: MountAttrFlags,
    /// Of the file system: a name, or a name and a value.
    pub(crate) fs_options: Vec<(String, Option<String>)>,
}

impl Default for MountOptions {
    fn default() -> Self {
        Self { attributes: MountAttrFlags::empty(), fs_options: Vec::new() }
    }
}

const EXT4: &[&str] = &[
    "acl",
    "auto_da_alloc",
    "barrier",
    "commit",
    "data",
    "data_err",
    "delalloc",
    "dioread_nolock",
    "discard",
    "errors",
    "grpquota",
    "i_version",
    "init_itable",
    "inode_readahead_blks",
    "journal_async_commit",
    "journal_checksum",
    "journal_ioprio",
    "max_batch_time",
    "min_batch_time",
    "noacl",
    "noauto_da_alloc",
    "nobarrier",
    "nodelalloc",
    "nodiscard",
    "noinit_itable",
    "nouser_xattr",
    "prjquota",
    "quota",
    "stripe",
    "user_xattr",
    "usrquota",
];
const XFS: &[&str] = &[
    "allocsize",
    "discard",
    "gqnoenforce",
    "gquota",
    "grpquota",
    "inode32",
    "inode64",
    "largeio",
    "logbsize",
    "logbufs",
    "noalign",
    "nodiscard",
    "nolargeio",
    "noquota",
    "nouuid",
    "pqnoenforce",
    "pquota",
    "prjquota",
    "quota",
    "swalloc",
    "uquota",
    "usrquota",
    "wsync",
];
const BTRFS: &[&str] = &[
    "acl",
    "autodefrag",
    "barrier",
    "commit",
    "compress",
    "compress-force",
    "datacow",
    "datasum",
    "discard",
    "enospc_debug",
    "flushoncommit",
    "max_inline",
    "metadata_ratio",
    "noacl",
    "noautodefrag",
    "nobarrier",
    "nodatacow",
    "nodatasum",
    "nodiscard",
    "nospace_cache",
    "nossd",
    "nossd_spread",
    "notreelog",
    "space_cache",
    "ssd",
    "ssd_spread",
    "thread_pool",
    "treelog",
];
/// What ext4 may do on errors (Linux, Documentation/admin-guide/ext4.rst).
const ON_ERRORS: [Option<&str>; 2] = [Some("continue"), Some("remount-ro")];
/// Flags that the kernel's common code takes for every file system.
const EVERY_FS: &[&str] = &["dirsync", "lazytime", "sync"];
/// What is so anyway.
const DEFAULTS: &[&str] =
    &["async", "atime", "defaults", "dev", "diratime", "exec", "relatime", "rw", "suid"];

/// How the mount table shows the flags that a mount has of its own.
const SHOWN: [(MountAttrFlags, &str); 7] = [
    (MountAttrFlags::MOUNT_ATTR_RDONLY, "ro"),
    (MountAttrFlags::MOUNT_ATTR_NOSUID, "nosuid"),
    (MountAttrFlags::MOUNT_ATTR_NODEV, "nodev"),
    (MountAttrFlags::MOUNT_ATTR_NOEXEC, "noexec"),
    (MountAttrFlags::MOUNT_ATTR_NOATIME, "noatime"),
    (MountAttrFlags::MOUNT_ATTR_NODIRATIME, "nodiratime"),
    (MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW, "nosymfollow"),
];

/// Whether a mount that the mount table shows with these options has these attributes.
pub(crate) fn is_shown_as(attributes: MountAttrFlags, options: &str) -> bool {
    let shown = |word: &str| options.split(',').any(|option| option == word);
    let strict = attributes.contains(MountAttrFlags::MOUNT_ATTR_STRICTATIME);
    let atimes_kept = !shown("relatime") && !shown("noatime");
    strict == atimes_kept
        && SHOWN.iter().all(|(attribute, word)| attributes.contains(*attribute) == shown(word))
}

/// Checks the flags for what the volume holds.
pub(crate) fn check(content: Content, flags: &[String]) -> Result<MountOptions, Error> {
    let own = match content {
        Content::Filesystem(FsType::Ext4) => EXT4,
        Content::Filesystem(FsType::Xfs) => XFS,
        Content::Filesystem(FsType::Btrfs) => BTRFS,
        Content::Folder | Content::Block => &[],
    };
    let has_own_fs = matches!(content, Content::Filesystem(_));
    let mut options = MountOptions::default();
    // One entry may hold several flags, as in /etc/fstab.
    for flag in flags.iter().flat_map(|entry| entry.split(',')).map(str::trim).filter(|f| !f.is_empty()) {
        let (name, value) = match flag.split_once('=') {
            Some((name, value)) => (name, Some(value)),
            None => (flag, None),
        };
        if value.is_none() && DEFAULTS.contains(&flag) {
            continue;
        }
        if value.is_none()
            && let Some(attribute) = attribute(flag)
        {
            if MountAttrFlags::MOUNT_ATTR__ATIME.contains(attribute) {
                options.attributes.remove(MountAttrFlags::MOUNT_ATTR__ATIME);
            }
            options.attributes |= attribute;
        } else if own.contains(&name) && name == "errors" && !ON_ERRORS.contains(&value) {
            return Err(Error::Invalid(format!(
                "mount flag {flag:?} is not allowed: use errors=remount-ro or errors=continue (with panic, damage in \
                 one volume would stop the whole machine)"
            )));
        } else if own.contains(&name) || (has_own_fs && EVERY_FS.contains(&flag)) {
            options.fs_options.push((name.to_owned(), value.map(str::to_owned)));
        } else {
            return Err(Error::Invalid(format!("mount flag {flag:?} is not allowed for {content}")));
        }
    }
    Ok(options)
}

fn attribute(flag: &str) -> Option<MountAttrFlags> {
    Some(match flag {
        "ro" => MountAttrFlags::MOUNT_ATTR_RDONLY,
        "nosuid" => MountAttrFlags::MOUNT_ATTR_NOSUID,
        "nodev" => MountAttrFlags::MOUNT_ATTR_NODEV,
        "noexec" => MountAttrFlags::MOUNT_ATTR_NOEXEC,
        "noatime" => MountAttrFlags::MOUNT_ATTR_NOATIME,
        "strictatime" => MountAttrFlags::MOUNT_ATTR_STRICTATIME,
        "nodiratime" => MountAttrFlags::MOUNT_ATTR_NODIRATIME,
        "nosymfollow" => MountAttrFlags::MOUNT_ATTR_NOSYMFOLLOW,
        _ => return None,
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    fn checked(fs: FsType, flags: &[&str]) -> Result<MountOptions, Error> {
        check(Content::Filesystem(fs), &flags.iter().map(|flag| (*flag).to_owned()).collect::<Vec<_>>())
    }

    #[test]
    fn flags_go_where_the_kernel_wants_them() {
        let options =
            checked(FsType::Ext4, &["noatime,nodev", "data=ordered", "discard", "sync", "rw", ""]).unwrap();
        assert_eq!(options.attributes, MountAttrFlags::MOUNT_ATTR_NOATIME | MountAttrFlags::MOUNT_ATTR_NODEV);
        assert_eq!(
            options.fs_options,
            [
                ("data".to_owned(), Some("ordered".to_owned())),
                ("discard".to_owned(), None),
                ("sync".to_owned(), None)
            ]
        );
        let last_wins = checked(FsType::Xfs, &["noatime", "strictatime"]).unwrap();
        assert_eq!(last_wins.attributes, MountAttrFlags::MOUNT_ATTR_STRICTATIME);
    }

    #[test]
    fn what_the_mount_table_shows_is_compared() {
        let attributes = MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
        assert!(is_shown_as(attributes, "rw,nosuid,nodev,relatime"));
        assert!(!is_shown_as(attributes, "ro,nosuid,nodev,relatime"));
        assert!(!is_shown_as(attributes, "rw,nosuid,nodev,noexec,relatime"));
        assert!(!is_shown_as(attributes, "rw,nosuid,relatime"));
        let strict = attributes | MountAttrFlags::MOUNT_ATTR_STRICTATIME;
        assert!(is_shown_as(strict, "rw,nosuid,nodev") && !is_shown_as(attributes, "rw,nosuid,nodev"));
    }

    #[test]
    fn what_could_reach_elsewhere_is_refused() {
        for (fs, flag) in [
            (FsType::Btrfs, "device=/dev/sda"),
            (FsType::Btrfs, "subvol=/"),
            (FsType::Xfs, "logdev=/dev/sda"),
            (FsType::Ext4, "journal_path=/dev/sda"),
            (FsType::Ext4, "source=/dev/sda"),
            (FsType::Ext4, "bind"),
            (FsType::Ext4, "remount"),
            (FsType::Ext4, "loop"),
            (FsType::Ext4, "ro=1"),
            (FsType::Ext4, "errors=panic"),
            (FsType::Ext4, "errors=remount-ro,errors=panic"),
            (FsType::Ext4, "errors"),
            (FsType::Ext4, "errors="),
            (FsType::Xfs, "errors=continue"),
            (FsType::Ext4, "compress=zstd"),
            (FsType::Xfs, "nonsense"),
        ] {
            let error = checked(fs, &[flag]);
            assert!(matches!(error, Err(Error::Invalid(_))), "{fs} {flag}: {error:?}");
        }
        for flag in ["errors=continue", "errors=remount-ro"] {
            assert!(checked(FsType::Ext4, &[flag]).is_ok(), "{flag}");
        }
        for flag in ["sync", "discard"] {
            assert!(check(Content::Folder, &[flag.to_owned()]).is_err(), "{flag}");
        }
        assert!(check(Content::Folder, &["noexec".to_owned()]).is_ok());
    }
}
