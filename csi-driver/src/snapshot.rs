//! What the driver stores of a snapshot, beside its data, and of a group of them.

use std::fmt;

use serde::{Deserialize, Serialize};

use crate::{
    clock::Moment,
    error::Error,
    volume::{Content, Format},
    volume_id::VolumeId,
};

/// An id of the same form as a volume's, for something that is no volume.
macro_rules! id {
    ($(#[$doc:meta])* $name:ident, $field:literal, $missing:expr) => {
        $(#[$doc])*
        #[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize, Deserialize)]
        #[serde(transparent)]
        pub(crate) struct $name(VolumeId);

        impl $name {
            /// The id that follows from the name; see [`VolumeId::derive`].
            pub(crate) fn derive(pool: &str, name: &str) -> Self {
                Self(VolumeId::derive(pool, name))
            }

            /// Reads an id that came from outside, as [`VolumeId::parse`] does.
            pub(crate) fn parse(text: &str) -> Result<Self, Error> {
                match VolumeId::parse(text) {
                    Ok(id) => Ok(Self(id)),
                    Err(Error::VolumeNotFound(text)) => Err($missing(text)),
                    Err(_) => Err(Error::Invalid(concat!($field, " is required").to_owned())),
                }
            }

            /// The name of the pool in which it lies.
            pub(crate) fn pool(&self) -> &str {
                self.0.pool()
            }

            /// The id as it goes over the wire and as its folder or file is called.
            pub(crate) fn as_str(&self) -> &str {
                self.0.as_str()
            }
        }

        impl fmt::Display for $name {
            fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
                self.0.fmt(f)
            }
        }

        impl TryFrom<String> for $name {
            type Error = String;

            fn try_from(text: String) -> Result<Self, Self::Error> {
                VolumeId::try_from(text).map(Self)
            }
        }
    };
}

id!(
    /// The id of a snapshot. It lies in its source's pool, unless it was received.
    SnapshotId,
    "snapshot_id",
    Error::SnapshotNotFound
);
id!(
    /// The id of a group of snapshots, all of one pool.
    GroupId,
    "group_snapshot_id",
    |id| Error::NotFound(format!("group snapshot {id:?} does not exist"))
);

/// The content of `snapshot.json`. Nothing in it ever changes.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Snapshot {
    pub(crate) id: SnapshotId,
    /// The name that CreateSnapshot was called with; a group's member has a made one.
    pub(crate) name: String,
    /// The volume that was cut. It may be gone.
    pub(crate) source: VolumeId,
    /// The moment whose data it holds.
    pub(crate) created: Moment,
    /// The volume's size at that moment, in bytes: a volume made from it has at least as
    /// many.
    pub(crate) capacity: u64,
    pub(crate) content: Content,
    /// How far the source's file system had come.
    pub(crate) format: Format,
    /// The most bytes that it may come to occupy alone, when its source has changed
    /// everywhere.
    pub(crate) promised: u64,
    /// The group it was taken with and is deleted with.
    #[serde(default)]
    pub(crate) group: Option<GroupId>,
}

/// The content of `<pool>/groups/<id>.json`.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Group {
    pub(crate) id: GroupId,
    pub(crate) name: String,
    pub(crate) created: Moment,
    /// In the order in which the volumes were named.
    pub(crate) members: Vec<Member>,
    /// Written before the first member goes: from here on the group is only finished off.
    #[serde(default)]
    pub(crate) deleting: bool,
}

/// One snapshot of a group.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub(crate) struct Member {
    pub(crate) snapshot: SnapshotId,
    pub(crate) source: VolumeId,
}
