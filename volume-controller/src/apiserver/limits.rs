//! How much is done at once, so that one user who asks for too much, or many together, get 429 and
//! everybody else is still answered.
//!
//! Members of `system:masters`, which the controllers and root on the machine are, always are:
//! somebody must be able to find out what is wrong. Watches are counted apart, as they do nothing most
//! of the time and stay; so are connections, by who first made themselves known over them. Backups and checks, which may
//! take minutes, do not count. The totals are upstream's (`--max-requests-inflight` and
//! `--max-mutating-requests-inflight`). As there, a request counts from before its body arrives until its answer has been
//! taken ([`super::unread`]): who sends or reads slowly takes up their own room.
//!
//! Lists that are sent as they are stored need no memory of their own. Those that are converted first are held by the bytes
//! of the objects in them, of one list and of all at once, whoever asks. So are large bodies that are copied for the audit log.

use std::collections::HashMap;
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};

use parking_lot::Mutex;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::metrics::gauge::Gauge;
use prometheus_client::registry::Registry;

use super::status::ApiError;

/// Requests at once, of all users and of one.
#[derive(Debug, Clone, Copy)]
struct Limit {
    all: usize,
    one: usize,
}

const READING: Limit = Limit { all: 400, one: 200 };
const WRITING: Limit = Limit { all: 200, one: 100 };

/// How many users may have as many watches as one may have.
const WATCHING_USERS: usize = 4;

/// Bytes of bodies that may be in memory for the audit log's sake.
const NOTED: usize = 32 << 20;
/// Bodies up to this many bytes do not count among these.
const NOTED_ANYWAY: usize = 64 << 10;

/// What can be set.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Most {
    /// Bytes of stored objects that one list may convert.
    pub(crate) list: usize,
    /// Watches of one user.
    pub(crate) watches: usize,
    /// Connections of one user.
    pub(crate) connections: usize,
}

/// There is none.
#[derive(Debug)]
pub(crate) struct NoRoom;

/// How many of the largest lists that may be converted may be in memory at the same time.
const LISTS: usize = 4;

/// What a request does, in upstream's words.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Labels {
    request_kind: &'static str,
}

/// Counts requests under way.
pub(crate) struct Limits {
    reading: Arc<Counted>,
    writing: Arc<Counted>,
    watching: Arc<Counted>,
    connected: Arc<Counted>,
    dropped: Family<Labels, Counter<u64, AtomicU64>>,
    max_list: usize,
    /// Bytes of stored objects that are in converted lists.
    converted: Space,
    /// Bytes of bodies that are in memory for the audit log, too.
    noted: Space,
}

/// Bytes that may be in use for something.
struct Space {
    most: usize,
    used: Arc<AtomicUsize>,
}

impl Space {
    fn new(most: usize) -> Self {
        Self { most, used: Arc::default() }
    }

    fn take(&self, bytes: usize) -> Option<Room> {
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= self.most);
        self.used.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).ok()?;
        Some(Room { bytes, of: self.used.clone() })
    }
}

struct Counted {
    limit: Limit,
    labels: Labels,
    gauge: Gauge,
    of: Mutex<Users>,
}

#[derive(Default)]
struct Users {
    all: usize,
    each: HashMap<String, usize>,
}

/// A request under way.
pub(crate) struct Permit {
    counted: Arc<Counted>,
    /// Whose room it takes; nobody's, for those who always have room.
    user: Option<String>,
}

/// What a converted list or a copy takes up.
pub(crate) struct Room {
    bytes: usize,
    of: Arc<AtomicUsize>,
}

impl Drop for Room {
    fn drop(&mut self) {
        self.of.fetch_sub(self.bytes, Ordering::Relaxed);
    }
}

impl Limits {
    /// Of the numbers that can be set, see [`super::Config`].
    pub(crate) fn register(registry: &mut Registry, most: Most) -> Self {
        let inflight = Family::<Labels, Gauge>::default();
        let counted = |request_kind, limit| {
            let labels = Labels { request_kind };
            let gauge = inflight.get_or_create(&labels).clone();
            Arc::new(Counted { limit, labels, gauge, of: Mutex::default() })
        };
        let (reading, writing) = (counted("readOnly", READING), counted("mutating", WRITING));
        let dropped = Family::default();
        registry.register(
            "apiserver_current_inflight_requests",
            "Requests under way that write (mutating) and that read (readOnly), watches excluded",
            inflight,
        );
        registry.register(
            "apiserver_dropped_requests",
            "Requests that were refused because too many were under way",
            dropped.clone(),
        );
        // Watches that are open are in a metric of their own, by what they are of.
        let apart = |request_kind, limit| {
            let labels = Labels { request_kind };
            Arc::new(Counted { limit, labels, gauge: Gauge::default(), of: Mutex::default() })
        };
        let watches = Limit { all: most.watches.saturating_mul(WATCHING_USERS), one: most.watches };
        Self {
            reading,
            writing,
            watching: apart("watch", watches),
            connected: apart("connection", Limit { all: usize::MAX, one: most.connections }),
            dropped,
            max_list: most.list,
            converted: Space::new(most.list.saturating_mul(LISTS)),
            noted: Space::new(NOTED),
        }
    }

    /// Room for a copy of a body for the audit log, where it needs any. An error means that there is none.
    pub(crate) fn note(&self, bytes: usize) -> Result<Option<Arc<Room>>, NoRoom> {
        if bytes <= NOTED_ANYWAY {
            return Ok(None);
        }
        self.noted.take(bytes).map(|room| Some(Arc::new(room))).ok_or(NoRoom)
    }

    /// Room for a list whose objects have so many bytes, until it is dropped.
    pub(crate) fn convert(&self, bytes: usize) -> Result<Room, ApiError> {
        if bytes > self.max_list {
            return Err(ApiError::ListTooLarge { bytes, most: self.max_list });
        }
        self.converted.take(bytes).ok_or_else(|| {
            self.dropped.get_or_create(&self.reading.labels).inc();
            ApiError::TooManyRequests
        })
    }

    fn counted(&self, is_reading: bool) -> &Arc<Counted> {
        if is_reading { &self.reading } else { &self.writing }
    }

    /// Reading requests under way.
    #[cfg(test)]
    pub(crate) fn reading(&self) -> usize {
        self.reading.of.lock().all
    }

    /// One request of somebody who always has room: it is seen in the metrics only.
    pub(crate) fn enter_always(&self, is_reading: bool) -> Permit {
        let counted = self.counted(is_reading);
        counted.gauge.inc();
        Permit { counted: counted.clone(), user: None }
    }

    /// Room for one request of a user, until the permit is dropped.
    pub(crate) fn enter(&self, user: &str, is_reading: bool) -> Result<Permit, ApiError> {
        self.admit(self.counted(is_reading), user).ok_or(ApiError::TooManyRequests)
    }

    /// Room for one more watch of a user.
    pub(crate) fn watch(&self, user: &str) -> Result<Permit, ApiError> {
        let most = self.watching.limit.one;
        self.admit(&self.watching, user).ok_or(ApiError::TooManyOpen { what: "watches", most })
    }

    /// Room for one more connection of a user.
    pub(crate) fn connect(&self, user: &str) -> Result<Permit, ApiError> {
        let most = self.connected.limit.one;
        self.admit(&self.connected, user).ok_or(ApiError::TooManyOpen { what: "connections", most })
    }

    fn admit(&self, counted: &Arc<Counted>, user: &str) -> Option<Permit> {
        let mut of = counted.of.lock();
        let own = of.each.get(user).copied().unwrap_or(0);
        if of.all >= counted.limit.all || own >= counted.limit.one {
            drop(of);
            self.dropped.get_or_create(&counted.labels).inc();
            return None;
        }
        of.all += 1;
        of.each.insert(user.to_owned(), own + 1);
        counted.gauge.inc();
        Some(Permit { counted: counted.clone(), user: Some(user.to_owned()) })
    }
}

impl Drop for Permit {
    fn drop(&mut self) {
        self.counted.gauge.dec();
        let Some(user) = &self.user else { return };
        let mut of = self.counted.of.lock();
        of.all -= 1;
        match of.each.get_mut(user) {
            Some(own) if *own > 1 => *own -= 1,
            _ => {
                of.each.remove(user);
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const MOST: Most = Most { list: 100, watches: 2, connections: 3 };

    #[test]
    fn one_user_leaves_room_for_others() {
        let limits = Limits::register(&mut Registry::default(), MOST);
        let mut held: Vec<Permit> = (0..100).map(|_| limits.enter("a", false).unwrap()).collect();
        assert!(limits.enter("a", false).is_err());
        assert!(limits.enter("a", true).is_ok(), "reading is counted apart");
        held.extend((0..100).map(|number| limits.enter(&format!("b{}", number % 2), false).unwrap()));
        assert!(limits.enter("c", false).is_err(), "all together have too many");
        held.truncate(199);
        held.push(limits.enter("c", false).unwrap());
        drop(held);
        assert_eq!(limits.writing.gauge.get(), 0);
        assert!(limits.writing.of.lock().each.is_empty());
        assert_eq!(limits.dropped.get_or_create(&limits.writing.labels).get(), 2);
    }

    #[test]
    fn watches_and_connections_are_counted_apart() {
        let limits = Limits::register(&mut Registry::default(), MOST);
        let mut held: Vec<Permit> = (0..2).map(|_| limits.watch("a").unwrap()).collect();
        let refused = limits.watch("a").map(|_| ()).unwrap_err();
        assert_eq!(refused.code().0, 429);
        assert!(refused.is_retryable() && refused.to_string().contains("2 watches"), "{refused}");
        held.extend((0..3).map(|_| limits.connect("a").unwrap()));
        assert!(limits.connect("a").is_err());
        held.extend((0..6).map(|number| limits.watch(&format!("b{}", number % 3)).unwrap()));
        assert!(limits.watch("c").is_err(), "all together have too many");
        limits.connect("c").unwrap();
        limits.enter("a", true).unwrap();
        drop(held);
        limits.watch("a").unwrap();
        assert!(limits.watching.of.lock().each.is_empty());
    }

    #[test]
    fn copies_for_the_audit_log_have_an_end() {
        let limits = Limits::register(&mut Registry::default(), MOST);
        let held = limits.note(NOTED).unwrap();
        assert!(limits.note(NOTED_ANYWAY + 1).is_err());
        assert!(limits.note(NOTED_ANYWAY).unwrap().is_none());
        drop(held);
        assert!(limits.note(NOTED_ANYWAY + 1).unwrap().is_some());
    }

    #[test]
    fn converted_lists_have_room_one_by_one_and_together() {
        let limits = Limits::register(&mut Registry::default(), MOST);
        assert!(matches!(limits.convert(101), Err(ApiError::ListTooLarge { bytes: 101, most: 100 })));
        let mut held: Vec<Room> = (0..4).map(|_| limits.convert(100).unwrap()).collect();
        assert!(matches!(limits.convert(1), Err(ApiError::TooManyRequests)));
        held.pop();
        held.push(limits.convert(60).unwrap());
        assert!(limits.convert(41).is_err());
        held.push(limits.convert(40).unwrap());
        drop(held);
        assert_eq!(limits.converted.used.load(Ordering::Relaxed), 0);
    }
}
