//! What the driver stores of a volume, beside its data.

use std::{collections::BTreeMap, fmt};

use serde::{Deserialize, Serialize};

use crate::{capability::Mode, mutable::Mutable, snapshot::SnapshotId, volume_id::VolumeId};

/// A file system that this driver can make.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum FsType {
    Ext4,
    Xfs,
    Btrfs,
}

impl FsType {
    /// The kernel's name for it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Ext4 => "ext4",
            Self::Xfs => "xfs",
            Self::Btrfs => "btrfs",
        }
    }

    /// Reads the kernel's name.
    pub(crate) fn parse(name: &str) -> Option<Self> {
        [Self::Ext4, Self::Xfs, Self::Btrfs].into_iter().find(|fs| fs.as_str() == name)
    }
}

impl fmt::Display for FsType {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(self.as_str())
    }
}

/// What the volume is made to hold; fixed when it is created.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Content {
    /// A raw block device.
    Block,
    /// A file system of its own.
    Filesystem(FsType),
    /// A folder of the pool's file system.
    Folder,
}

impl fmt::Display for Content {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Block => f.write_str("a raw block device"),
            Self::Filesystem(fs) => write!(f, "an {fs} file system"),
            Self::Folder => f.write_str("a folder of the pool's file system"),
        }
    }
}

/// How far making the file system has come. Written durably around mkfs, so that
/// no crash leaves a doubt whether user data may be there.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Format {
    /// mkfs was never started.
    #[default]
    Never,
    /// mkfs was started and not seen to end: nothing was ever mounted, so there is
    /// no user data, and it may be made again from the beginning.
    Started,
    /// The file system was made. From here on it is never made again.
    Done,
}

/// What the volume was filled from when it was made. That may be gone since.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Origin {
    Snapshot(SnapshotId),
    Volume(VolumeId),
}

impl fmt::Display for Origin {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Snapshot(id) => write!(f, "snapshot {:?}", id.as_str()),
            Self::Volume(id) => write!(f, "volume {:?}", id.as_str()),
        }
    }
}

/// Whose UUID the file system has: two of one UUID cannot always be mounted at once.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Identity {
    /// One of its own.
    #[default]
    Own,
    /// That of what it was copied from; it gets its own before it is mounted first.
    Inherited,
}

/// That the volume is attached to a node (ControllerPublishVolume).
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Attachment {
    pub(crate) mode: Mode,
    pub(crate) readonly: bool,
}

/// The content of `volume.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Volume {
    pub(crate) id: VolumeId,
    /// The name that CreateVolume was called with.
    pub(crate) name: String,
    /// Bytes.
    pub(crate) capacity: u64,
    pub(crate) content: Content,
    /// Whether the size is enforced.
    pub(crate) enforced: bool,
    #[serde(default)]
    pub(crate) format: Format,
    #[serde(default)]
    pub(crate) origin: Option<Origin>,
    #[serde(default)]
    pub(crate) identity: Identity,
    #[serde(default, skip_serializing_if = "Mutable::is_none")]
    pub(crate) mutable: Mutable,
    /// By node id.
    #[serde(default)]
    pub(crate) attachments: BTreeMap<String, Attachment>,
}

/// A path where a volume is published.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Target {
    pub(crate) mode: Mode,
    pub(crate) readonly: bool,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
}

/// Where a volume is staged, and how.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Staging {
    pub(crate) path: String,
    #[serde(default)]
    pub(crate) flags: Vec<String>,
}

/// The content of `node.json`: what the node side did since the machine started.
/// It is written before the mounts it speaks of, so a path that is not in it is
/// not ours; a path that is in it may be mounted or not, the kernel knows.
#[derive(Debug, Clone, Default, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct NodeJournal {
    /// The kernel's boot id: after another boot no mount is left, and the rest of
    /// the journal says nothing.
    pub(crate) boot: String,
    #[serde(default)]
    pub(crate) staging: Option<Staging>,
    /// Written before the file system is frozen and taken back after it is thawed: a
    /// freeze outlives the process that made it.
    #[serde(default)]
    pub(crate) frozen: bool,
    /// By target path.
    #[serde(default)]
    pub(crate) targets: BTreeMap<String, Target>,
}
