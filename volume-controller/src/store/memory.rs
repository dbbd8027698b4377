//! Everything that is read: the objects and the recent changes, always as of one
//! and the same revision.

mod past;

use std::collections::{BTreeMap, HashMap};
use std::ops::Bound;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Weak};

use parking_lot::RwLock;
use tokio::sync::{Notify, watch};
use tokio::time::Instant;

use super::link::Linked;
use super::log::Log;
use super::{Change, ChangeKind, Expired, Key, List, LogLimits, Object};

/// Namespace and name.
type Place = (Arc<str>, Arc<str>);

/// The objects and the log. Held by the store, the writer and every watch.
pub(crate) struct Memory {
    state: RwLock<State>,
    revision: watch::Sender<u64>,
}

/// Not what is in it: that is everything.
impl std::fmt::Debug for Memory {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        f.debug_struct("Memory").field("revision", &*self.revision.borrow()).finish_non_exhaustive()
    }
}

struct State {
    revision: u64,
    resources: Resources,
    /// Of the bodies of all objects.
    bytes: u64,
    log: Log,
    subscriptions: Vec<Weak<Subscription>>,
    is_closed: bool,
}

/// What memory keeps for one watch: where it has to go on reading. Not the
/// changes themselves, so that a watch costs the same however far it lags.
#[derive(Debug)]
pub(crate) struct Subscription {
    /// Empty: all.
    resources: Box<[Box<str>]>,
    /// Only changes above this one concern it.
    from: u64,
    /// The first revision that may concern it and that it has not read; 0 when
    /// there is none. Set under the write lock, taken under the read lock, by
    /// the one watch that owns it.
    next: AtomicU64,
    /// Told when `next` is set, and at the end.
    pub(crate) woken: Notify,
}

impl Subscription {
    fn concerns(&self, resource: &str) -> bool {
        self.resources.is_empty() || self.resources.iter().any(|own| **own == *resource)
    }
}

/// What a watch finds.
pub(crate) enum Read {
    /// The changes up to and with revision `through`.
    Changes {
        changes: Vec<Arc<Change>>,
        through: u64,
        /// Whether this is all there is now.
        is_all: bool,
        /// Whether there will ever be more.
        is_closed: bool,
    },
    /// What should come next is gone.
    Gone,
}

/// A watch looks at this many entries, or takes so many, in one go under the lock.
const LOOK_AT_MOST: usize = 2048;
const TAKE_AT_MOST: usize = 128;

impl Memory {
    /// Memory as loaded.
    pub(crate) fn new(contents: Linked, limits: LogLimits) -> Self {
        let revision = contents.revision;
        let (resources, log) = arrange(contents, limits);
        let bytes = resources.values().flat_map(BTreeMap::values).map(|object| size(object)).sum();
        let state = State { revision, resources, bytes, log, subscriptions: Vec::new(), is_closed: false };
        Self { state: RwLock::new(state), revision: watch::Sender::new(revision) }
    }

    /// Everything anew, where the changes that lead there cannot be told any more. A watch
    /// that would have to deliver one of them is [`Read::Gone`].
    pub(crate) fn replace(&self, contents: Linked) {
        let (revision, floor) = (contents.revision, contents.floor);
        let limits = self.state.read().log.limits().clone();
        let (resources, log) = arrange(contents, limits);
        let mut state = self.state.write();
        let old =
            (std::mem::replace(&mut state.resources, resources), std::mem::replace(&mut state.log, log));
        state.revision = revision;
        state.bytes = state.resources.values().flat_map(BTreeMap::values).map(|object| size(object)).sum();
        for subscription in state.subscriptions.iter().filter_map(Weak::upgrade) {
            // Below every floor, so that what should come next is gone. One that waits for a
            // revision which is still in the log misses nothing.
            let next = if subscription.from < floor { 1 } else { subscription.from + 1 };
            subscription.next.store(if next <= revision { next } else { 0 }, Ordering::Relaxed);
            subscription.woken.notify_one();
        }
        drop(state);
        drop(old);
        self.revision.send_replace(revision);
    }

    pub(crate) fn revision(&self) -> u64 {
        self.state.read().revision
    }

    /// The bytes of all objects.
    pub(crate) fn bytes(&self) -> u64 {
        self.state.read().bytes
    }

    /// Tells of every new revision.
    pub(crate) fn revisions(&self) -> watch::Receiver<u64> {
        self.revision.subscribe()
    }

    /// The revision from which a watch can start at the earliest.
    pub(crate) fn floor(&self) -> u64 {
        self.state.read().log.floor()
    }

    /// All objects, as of one revision.
    pub(crate) fn everything(&self) -> (u64, Vec<Arc<Object>>) {
        let state = self.state.read();
        (state.revision, state.resources.values().flat_map(BTreeMap::values).cloned().collect())
    }

    /// The number of objects of each resource.
    pub(crate) fn counts(&self) -> Vec<(Arc<str>, usize)> {
        self.state
            .read()
            .resources
            .iter()
            .map(|(resource, objects)| (resource.clone(), objects.len()))
            .collect()
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Arc<Object>> {
        let place = (key.namespace.clone(), key.name.clone());
        self.state.read().resources.get(&key.resource)?.get(&place).cloned()
    }

    pub(crate) fn list(
        &self,
        resource: &str,
        namespace: Option<&str>,
        after: Option<(&str, &str)>,
        limit: Option<usize>,
    ) -> List {
        // Made before the lock is taken.
        let span = Span::new(namespace, after);
        let state = self.state.read();
        let objects = state.resources.get(resource).map_or_else(Vec::new, |objects| {
            span.of(objects).take(limit.unwrap_or(usize::MAX)).cloned().collect()
        });
        List { revision: state.revision, objects }
    }

    /// Makes committed changes visible, all at once, and wakes the watches that they concern.
    pub(crate) fn publish(&self, changes: &[Arc<Change>]) {
        let (Some(first), Some(last)) = (changes.first(), changes.last()) else { return };
        let now = Instant::now();
        let firsts = first_of_each_resource(changes);
        let mut state = self.state.write();
        debug_assert_eq!(first.revision, state.revision + 1);
        state.log.begin(first.revision);
        for change in changes {
            state.apply(change);
            state.log.push(change.clone(), now);
        }
        state.revision = last.revision;
        let gone = state.log.trim(now);
        state.subscriptions.retain(|subscription| {
            let Some(subscription) = subscription.upgrade() else { return false };
            let next = firsts
                .iter()
                .filter(|(resource, _)| subscription.concerns(resource))
                .map(|(_, revision)| (*revision).max(subscription.from + 1))
                .min();
            if let Some(next) = next
                && next <= last.revision
                && subscription.next.load(Ordering::Relaxed) == 0
            {
                subscription.next.store(next, Ordering::Relaxed);
                subscription.woken.notify_one();
            }
            true
        });
        drop(state);
        drop(gone);
        self.revision.send_replace(last.revision);
    }

    /// Forgets changes that have become too old.
    pub(crate) fn trim(&self) {
        // The changes are dropped after the lock.
        let _gone = self.state.write().log.trim(Instant::now());
    }

    pub(crate) fn subscribe(&self, resources: &[&str], from: u64) -> Result<Arc<Subscription>, Expired> {
        let resources = resources.iter().map(|&resource| resource.into()).collect();
        let mut state = self.state.write();
        let oldest = state.log.floor();
        if from < oldest {
            return Err(Expired { from, oldest });
        }
        let next = if from < state.revision { from + 1 } else { 0 };
        let subscription =
            Arc::new(Subscription { resources, from, next: AtomicU64::new(next), woken: Notify::new() });
        state.subscriptions.retain(|other| other.strong_count() > 0);
        state.subscriptions.push(Arc::downgrade(&subscription));
        Ok(subscription)
    }

    /// What a watch has not read yet, or a piece of it.
    pub(crate) fn read(&self, subscription: &Subscription) -> Read {
        let state = self.state.read();
        let next = subscription.next.swap(0, Ordering::Relaxed);
        let mut changes = Vec::new();
        let mut through = state.revision;
        if next != 0 {
            let Some(entries) = state.log.after(next - 1) else {
                // Kept, so that it is gone when asked again, too.
                subscription.next.store(next, Ordering::Relaxed);
                return Read::Gone;
            };
            for (looked, change) in entries.enumerate() {
                if looked == LOOK_AT_MOST || changes.len() == TAKE_AT_MOST {
                    subscription.next.store(change.revision, Ordering::Relaxed);
                    through = change.revision - 1;
                    break;
                }
                if subscription.concerns(&change.object.key.resource) {
                    changes.push(change.clone());
                }
            }
        }
        Read::Changes { changes, through, is_all: through == state.revision, is_closed: state.is_closed }
    }

    /// Ends all watches, once they have read what there is.
    pub(crate) fn close(&self) {
        let mut state = self.state.write();
        state.is_closed = true;
        for subscription in state.subscriptions.iter().filter_map(Weak::upgrade) {
            subscription.woken.notify_one();
        }
    }
}

/// A piece of the order in which objects are listed: one namespace or all, after one place.
struct Span<'a> {
    namespace: Option<&'a str>,
    start: Bound<Place>,
}

impl<'a> Span<'a> {
    fn new(namespace: Option<&'a str>, after: Option<(&str, &str)>) -> Self {
        let first: Place = (namespace.unwrap_or_default().into(), "".into());
        let after = after.map(|(namespace, name)| (namespace.into(), name.into()));
        let start = match after.filter(|after| *after >= first) {
            Some(after) => Bound::Excluded(after),
            None => Bound::Included(first),
        };
        Self { namespace, start }
    }

    /// The objects in it, in order.
    fn of<'b>(&self, objects: &'b BTreeMap<Place, Arc<Object>>) -> impl Iterator<Item = &'b Arc<Object>> {
        objects
            .range::<Place, _>((self.start.as_ref(), Bound::Unbounded))
            .take_while(|((found, _), _)| self.namespace.is_none_or(|namespace| **found == *namespace))
            .map(|(_, object)| object)
    }

    fn has(&self, key: &Key) -> bool {
        let place = (key.namespace.clone(), key.name.clone());
        self.namespace.is_none_or(|namespace| *key.namespace == *namespace)
            && match &self.start {
                Bound::Excluded(after) => place > *after,
                Bound::Included(first) => place >= *first,
                Bound::Unbounded => true,
            }
    }
}

type Resources = HashMap<Arc<str>, BTreeMap<Place, Arc<Object>>>;

/// What was loaded, as it is read.
fn arrange(contents: Linked, limits: LogLimits) -> (Resources, Log) {
    let mut resources = Resources::new();
    for object in contents.objects {
        resources
            .entry(object.key.resource.clone())
            .or_default()
            .insert((object.key.namespace.clone(), object.key.name.clone()), object);
    }
    let mut log = Log::new(contents.floor, limits);
    for (change, at) in contents.changes {
        log.push(change, at);
    }
    log.trim(Instant::now());
    (resources, log)
}

impl State {
    fn apply(&mut self, change: &Change) {
        let key = &change.object.key;
        let place = (key.namespace.clone(), key.name.clone());
        match change.kind {
            ChangeKind::Created | ChangeKind::Updated => {
                let objects = self.resources.entry(key.resource.clone()).or_default();
                let before = objects.insert(place, change.object.clone());
                self.bytes += size(&change.object);
                self.bytes -= before.map_or(0, |before| size(&before));
            }
            ChangeKind::Deleted => {
                if let Some(objects) = self.resources.get_mut(&key.resource) {
                    self.bytes -= objects.remove(&place).map_or(0, |before| size(&before));
                }
            }
        }
    }
}

/// Of an object's body.
pub(crate) fn size(object: &Object) -> u64 {
    object.body.len() as u64
}

/// Each resource with the first revision that concerns it.
fn first_of_each_resource(changes: &[Arc<Change>]) -> Vec<(&str, u64)> {
    let mut firsts: Vec<(&str, u64)> = Vec::new();
    for change in changes {
        let resource = &*change.object.key.resource;
        if !firsts.iter().any(|(known, _)| *known == resource) {
            firsts.push((resource, change.revision));
        }
    }
    firsts
}
