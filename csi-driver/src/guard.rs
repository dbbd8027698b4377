//! One operation a volume at a time, across Controller and Node; the same for snapshots
//! and their groups, and one a name that is being given.

use std::{
    collections::{HashMap, hash_map::Entry},
    fmt,
    sync::Arc,
};

use parking_lot::Mutex;

use crate::{
    error::Error,
    snapshot::{GroupId, SnapshotId},
    volume_id::VolumeId,
};

/// What can be held. A volume and a snapshot may have the same id.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Key {
    Volume(VolumeId),
    Snapshot(SnapshotId),
    Group(GroupId),
    Name(Name),
}

/// A name that something is being made by, in whichever pool: in two of them at once, neither
/// would see the other.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) struct Name {
    of: &'static str,
    name: String,
}

impl Name {
    pub(crate) fn volume(name: &str) -> Self {
        Self { of: "volume", name: name.to_owned() }
    }

    pub(crate) fn snapshot(name: &str) -> Self {
        Self { of: "snapshot", name: name.to_owned() }
    }

    pub(crate) fn group(name: &str) -> Self {
        Self { of: "group snapshot", name: name.to_owned() }
    }
}

impl From<&Name> for Key {
    fn from(name: &Name) -> Self {
        Self::Name(name.clone())
    }
}

impl From<&VolumeId> for Key {
    fn from(id: &VolumeId) -> Self {
        Self::Volume(id.clone())
    }
}

impl From<&SnapshotId> for Key {
    fn from(id: &SnapshotId) -> Self {
        Self::Snapshot(id.clone())
    }
}

impl From<&GroupId> for Key {
    fn from(id: &GroupId) -> Self {
        Self::Group(id.clone())
    }
}

impl fmt::Display for Key {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Volume(id) => id.fmt(f),
            Self::Snapshot(id) => id.fmt(f),
            Self::Group(id) => id.fmt(f),
            Self::Name(Name { of, name }) => write!(f, "{of} {name}"),
        }
    }
}

/// What has an operation running, and how many only read it; 0: one that changes it.
#[derive(Debug, Clone, Default)]
pub(crate) struct Guards(Arc<Mutex<HashMap<Key, usize>>>);

impl Guards {
    /// Takes the volume, or answers [`Error::Busy`]: CSI v1.12, "Error Scheme", lets
    /// a plugin refuse with ABORTED what is still pending, and the caller tries again.
    /// Nobody ever waits, so no order of taking several can end in a deadlock.
    pub(crate) fn take<'a, T>(&self, id: &'a T) -> Result<Guard, Error>
    where
        Key: From<&'a T>,
    {
        let key = Key::from(id);
        match self.0.lock().entry(key.clone()) {
            Entry::Occupied(_) => Err(Error::Busy(key.to_string())),
            Entry::Vacant(free) => {
                free.insert(0);
                Ok(Guard { guards: self.clone(), key })
            }
        }
    }

    /// Takes it together with others that only read it too, as restores of one snapshot.
    pub(crate) fn share<'a, T>(&self, id: &'a T) -> Result<Guard, Error>
    where
        Key: From<&'a T>,
    {
        let key = Key::from(id);
        match self.0.lock().entry(key.clone()) {
            Entry::Occupied(held) if *held.get() == 0 => return Err(Error::Busy(key.to_string())),
            Entry::Occupied(mut held) => *held.get_mut() += 1,
            Entry::Vacant(free) => {
                free.insert(1);
            }
        }
        Ok(Guard { guards: self.clone(), key })
    }
}

/// Holds a volume until dropped.
#[derive(Debug)]
pub(crate) struct Guard {
    guards: Guards,
    key: Key,
}

impl Drop for Guard {
    fn drop(&mut self) {
        if let Entry::Occupied(mut held) = self.guards.0.lock().entry(self.key.clone()) {
            match held.get() {
                0 | 1 => {
                    held.remove();
                }
                readers => {
                    let left = readers - 1;
                    held.insert(left);
                }
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_refused_until_the_first_is_done() {
        let guards = Guards::default();
        let (a, b) = (VolumeId::derive("p", "a"), VolumeId::derive("p", "b"));
        let held = guards.take(&a);
        assert!(held.is_ok() && guards.take(&b).is_ok());
        assert!(matches!(guards.take(&a), Err(Error::Busy(_))));
        assert!(guards.take(&SnapshotId::derive("p", "a")).is_ok(), "a snapshot is no volume");
        drop(held);
        assert!(guards.take(&a).is_ok());
        let named = guards.take(&Name::volume("a"));
        assert!(named.is_ok() && guards.take(&a).is_ok() && guards.take(&Name::snapshot("a")).is_ok());
        assert!(matches!(guards.take(&Name::volume("a")), Err(Error::Busy(_))));
    }

    #[test]
    fn readers_share_and_keep_the_writer_out() {
        let guards = Guards::default();
        let id = SnapshotId::derive("p", "a");
        let (one, two) = (guards.share(&id).unwrap(), guards.share(&id).unwrap());
        drop(one);
        assert!(matches!(guards.take(&id), Err(Error::Busy(_))));
        drop(two);
        let writer = guards.take(&id).unwrap();
        assert!(matches!(guards.share(&id), Err(Error::Busy(_))));
        drop(writer);
        assert!(guards.share(&id).is_ok());
    }
}
