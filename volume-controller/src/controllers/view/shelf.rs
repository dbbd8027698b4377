//! Typed objects of one resource, in the order of their names.

use std::{collections::BTreeMap, ops::Deref, sync::Arc};

use crate::store::Key;

/// One object, decoded once, as it was at one revision.
#[derive(Debug)]
pub(crate) struct Seen<T> {
    pub(crate) key: Key,
    pub(crate) revision: u64,
    pub(crate) uid: Box<str>,
    pub(crate) object: T,
}

/// Shared by all controllers, never copied.
pub(crate) type Shared<T> = Arc<Seen<T>>;

impl<T> Deref for Seen<T> {
    type Target = T;

    fn deref(&self) -> &T {
        &self.object
    }
}

impl<T> Seen<T> {
    /// What a write rests on: this object at this revision.
    pub(crate) fn at(&self) -> At {
        At { key: self.key.clone(), revision: self.revision }
    }
}

/// An object at a revision: where a decision looked, and so the precondition
/// of the write that follows from it.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct At {
    pub(crate) key: Key,
    pub(crate) revision: u64,
}

/// All objects of one resource.
#[derive(Debug)]
pub(crate) struct Shelf<T> {
    spaces: BTreeMap<Arc<str>, BTreeMap<Arc<str>, Shared<T>>>,
}

impl<T> Default for Shelf<T> {
    fn default() -> Self {
        Self { spaces: BTreeMap::new() }
    }
}

impl<T> Shelf<T> {
    pub(crate) fn get(&self, namespace: &str, name: &str) -> Option<&Shared<T>> {
        self.spaces.get(namespace)?.get(name)
    }

    pub(crate) fn at(&self, key: &Key) -> Option<&Shared<T>> {
        self.get(&key.namespace, &key.name)
    }

    /// All of them, by namespace and name.
    pub(crate) fn iter(&self) -> impl Iterator<Item = &Shared<T>> {
        self.spaces.values().flat_map(BTreeMap::values)
    }

    /// Those of one namespace, by name.
    pub(crate) fn within(&self, namespace: &str) -> impl Iterator<Item = &Shared<T>> {
        self.spaces.get(namespace).into_iter().flat_map(BTreeMap::values)
    }

    pub(super) fn put(&mut self, seen: Shared<T>) -> Option<Shared<T>> {
        let space = self.spaces.entry(Arc::clone(&seen.key.namespace)).or_default();
        space.insert(Arc::clone(&seen.key.name), seen)
    }

    pub(super) fn take(&mut self, key: &Key) -> Option<Shared<T>> {
        let space = self.spaces.get_mut(&key.namespace)?;
        let taken = space.remove(&key.name);
        if space.is_empty() {
            self.spaces.remove(&key.namespace);
        }
        taken
    }
}
