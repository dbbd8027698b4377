//! How much is done at once, so that one user who asks for too much, or many together, get 429 and
//! everybody else is still answered.
//!
//! Members of `system:masters`, which the controllers and root on the machine are, always are:
//! somebody must be able to find out what is wrong. Watches do not count, as they do nothing most
//! of the time, nor do backups and checks, which may take minutes. The totals are upstream's (`--max-requests-inflight` and
//! `--max-mutating-requests-inflight`). As there, a request counts from before its body arrives until its answer has been
//! taken ([`super::unread`]): who sends or reads slowly takes up their own room.
//!
//! Lists that are sent as they are stored need no memory of their own. Those that are converted first are held by the bytes
//! of the objects in them, of one list and of all at once, whoever asks.

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
    dropped: Family<Labels, Counter<u64, AtomicU64>>,
    max_list: usize,
    /// Bytes of stored objects that are in converted lists.
    converted: Arc<AtomicUsize>,
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

/// What a converted list takes up.
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
    /// `max_list` is the most bytes of stored objects that one list may convert.
    pub(crate) fn register(registry: &mut Registry, max_list: usize) -> Self {
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
        Self { reading, writing, dropped, max_list, converted: Arc::default() }
    }

    /// Room for a list whose objects have so many bytes, until it is dropped.
    pub(crate) fn convert(&self, bytes: usize) -> Result<Room, ApiError> {
        if bytes > self.max_list {
            return Err(ApiError::ListTooLarge { bytes, most: self.max_list });
        }
        let most = self.max_list.saturating_mul(LISTS);
        let more = |used: usize| used.checked_add(bytes).filter(|sum| *sum <= most);
        if self.converted.fetch_update(Ordering::Relaxed, Ordering::Relaxed, more).is_err() {
            self.dropped.get_or_create(&self.reading.labels).inc();
            return Err(ApiError::TooManyRequests);
        }
        Ok(Room { bytes, of: self.converted.clone() })
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
        let counted = self.counted(is_reading);
        let mut of = counted.of.lock();
        let own = of.each.get(user).copied().unwrap_or(0);
        if of.all >= counted.limit.all || own >= counted.limit.one {
            drop(of);
            self.dropped.get_or_create(&counted.labels).inc();
            return Err(ApiError::TooManyRequests);
        }
        of.all += 1;
        of.each.insert(user.to_owned(), own + 1);
        counted.gauge.inc();
        Ok(Permit { counted: counted.clone(), user: Some(user.to_owned()) })
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

    #[test]
    fn one_user_leaves_room_for_others() {
        let limits = Limits::register(&mut Registry::default(), 100);
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
    fn converted_lists_have_room_one_by_one_and_together() {
        let limits = Limits::register(&mut Registry::default(), 100);
        assert!(matches!(limits.convert(101), Err(ApiError::ListTooLarge { bytes: 101, most: 100 })));
        let mut held: Vec<Room> = (0..4).map(|_| limits.convert(100).unwrap()).collect();
        assert!(matches!(limits.convert(1), Err(ApiError::TooManyRequests)));
        held.pop();
        held.push(limits.convert(60).unwrap());
        assert!(limits.convert(41).is_err());
        held.push(limits.convert(40).unwrap());
        drop(held);
        assert_eq!(limits.converted.load(Ordering::Relaxed), 0);
    }
}
