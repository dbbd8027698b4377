//! Who owns whom, of whatever kind: what the collector decides on. Plain data.

use std::collections::{BTreeMap, BTreeSet};

use serde::Deserialize;

use crate::{
    controllers::view::At,
    store::{Key, Object},
};

/// The dependents go first, and this one when those are gone that block it.
pub(crate) const FOREGROUND: &str = "foregroundDeletion";
/// The dependents stay, and are told that they have no owner any more.
pub(crate) const ORPHAN: &str = "orphan";

/// One of an object's owners, as it says.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "camelCase")]
pub(crate) struct Owner {
    #[serde(default)]
    pub(crate) api_version: String,
    #[serde(default)]
    pub(crate) kind: String,
    #[serde(default)]
    pub(crate) name: String,
    pub(crate) uid: String,
    /// Whether the owner waits for this one.
    #[serde(default)]
    pub(crate) block_owner_deletion: Option<bool>,
}

impl Owner {
    pub(crate) fn is_blocked(&self) -> bool {
        self.block_owner_deletion == Some(true)
    }
}

/// One object that has owners, or goes in a way that concerns those that it owns.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Node {
    pub(crate) at: At,
    pub(crate) uid: String,
    pub(crate) owners: Vec<Owner>,
    pub(crate) is_deleting: bool,
    pub(crate) finalizers: Vec<String>,
}

impl Node {
    pub(crate) fn has(&self, finalizer: &str) -> bool {
        self.finalizers.iter().any(|held| held == finalizer)
    }

    /// Whether it waits for those that it owns to go.
    pub(crate) fn waits(&self) -> bool {
        self.is_deleting && self.has(FOREGROUND)
    }

    /// How it points at the owner with this UID.
    pub(crate) fn owner(&self, uid: &str) -> Option<&Owner> {
        self.owners.iter().find(|owner| owner.uid == uid)
    }
}

#[derive(Deserialize)]
struct Body {
    metadata: Metadata,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    #[serde(default)]
    owner_references: Vec<Owner>,
    deletion_timestamp: Option<String>,
    #[serde(default)]
    finalizers: Vec<String>,
}

/// All such objects.
#[derive(Debug, Default)]
pub(crate) struct Graph {
    nodes: BTreeMap<Key, Node>,
    /// Owner's UID → those that name it.
    dependents: BTreeMap<String, BTreeSet<Key>>,
    /// Those whose going concerns their dependents, by UID.
    going: BTreeMap<String, Key>,
}

impl Graph {
    pub(crate) fn node(&self, key: &Key) -> Option<&Node> {
        self.nodes.get(key)
    }

    pub(crate) fn keys(&self) -> impl Iterator<Item = &Key> {
        self.nodes.keys()
    }

    /// The one with this UID, if its going concerns those that it owns.
    pub(crate) fn going(&self, uid: &str) -> Option<&Node> {
        self.nodes.get(self.going.get(uid)?)
    }

    /// Those that an object owns.
    pub(crate) fn dependents(&self, uid: &str) -> impl Iterator<Item = &Node> {
        let keys = self.dependents.get(uid).into_iter().flatten();
        keys.filter_map(|key| self.nodes.get(key))
    }

    pub(crate) fn has_dependents(&self, uid: &str) -> bool {
        self.dependents.contains_key(uid)
    }

    /// Takes in an object as it is now; answers whom to look at. One that cannot be read stays as it
    /// was known.
    pub(crate) fn put(&mut self, object: &Object) -> BTreeSet<Key> {
        if !is_of_interest(&object.body) {
            let owners = self.take(&object.key).map(|old| self.going_owners(&old));
            return owners.into_iter().flatten().collect();
        }
        let metadata = match object.decode::<Body>() {
            Ok(body) => body.metadata,
            Err(error) => {
                tracing::error!(key = %object.key, %error, "an object cannot be read; whom it belongs to stays as it was");
                return BTreeSet::new();
            }
        };
        let node = Node {
            at: At { key: object.key.clone(), revision: object.revision },
            uid: object.uid.to_string(),
            owners: metadata.owner_references,
            is_deleting: metadata.deletion_timestamp.is_some(),
            finalizers: metadata.finalizers,
        };
        let old = self.take(&object.key);
        let mut keys = BTreeSet::new();
        // Another one of the same name: what belonged to the former belongs to nobody.
        if let Some(old) = old.as_ref().filter(|old| old.uid != node.uid) {
            keys.extend(self.dependents.get(&old.uid).into_iter().flatten().cloned());
        }
        if let Some(old) = &old {
            keys.extend(self.going_owners(old));
        }
        let is_going = node.is_deleting && (node.has(FOREGROUND) || node.has(ORPHAN));
        if is_going {
            keys.extend(self.dependents.get(&node.uid).into_iter().flatten().cloned());
            self.going.insert(node.uid.clone(), object.key.clone());
        }
        if node.owners.is_empty() && !is_going {
            return keys;
        }
        keys.insert(object.key.clone());
        keys.extend(self.going_owners(&node));
        for owner in &node.owners {
            self.dependents.entry(owner.uid.clone()).or_default().insert(object.key.clone());
        }
        self.nodes.insert(object.key.clone(), node);
        keys
    }

    /// Takes out an object that is gone; answers whom to look at.
    pub(crate) fn remove(&mut self, key: &Key, uid: &str) -> BTreeSet<Key> {
        let old = self.take(key);
        let mut keys: BTreeSet<Key> = self.dependents.get(uid).into_iter().flatten().cloned().collect();
        if let Some(old) = &old {
            keys.extend(self.going_owners(old));
        }
        keys
    }

    /// Those of an object's owners that wait for it, or let go of it.
    fn going_owners(&self, node: &Node) -> Vec<Key> {
        node.owners.iter().filter_map(|owner| self.going.get(&owner.uid)).cloned().collect()
    }

    fn take(&mut self, key: &Key) -> Option<Node> {
        let old = self.nodes.remove(key)?;
        self.going.remove(&old.uid);
        for owner in &old.owners {
            if let Some(keys) = self.dependents.get_mut(&owner.uid) {
                keys.remove(key);
                if keys.is_empty() {
                    self.dependents.remove(&owner.uid);
                }
            }
        }
        Some(old)
    }
}

/// Whether the JSON of an object can hold what a [`Node`] is made for. Most do not, and need not be
/// decoded.
fn is_of_interest(body: &[u8]) -> bool {
    [&br#""ownerReferences""#[..], br#""foregroundDeletion""#, br#""orphan""#]
        .iter()
        .any(|word| memchr::memmem::find(body, word).is_some())
}
