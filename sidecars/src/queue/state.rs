//! The queue's bookkeeping: synchronous, and with the time given by the caller.

use std::{
    collections::{BTreeMap, HashMap, HashSet, VecDeque},
    hash::Hash,
    time::Duration,
};

use tokio::time::Instant;

use super::{Backoff, Outcome};

/// What a worker that asks for a key gets.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Taken<K> {
    /// This key; `more`: there are others, for other workers.
    Key { key: K, more: bool },
    /// Nothing now; at the earliest then, if nothing is added before.
    NothingUntil(Option<Instant>),
}

pub(super) struct State<K> {
    /// Keys to work on now, oldest first, with the moment since when they wait.
    ready: VecDeque<(K, Instant)>,
    /// Everything that is in `ready`.
    waiting: HashSet<K>,
    /// Keys in a worker's hands.
    running: HashMap<K, Instant>,
    /// Keys that came in while running.
    again: HashSet<K>,
    /// Keys to be tried later: (due, number) → key. The number keeps equal times apart.
    delayed: BTreeMap<(Instant, u64), K>,
    /// Where a key stands in `delayed`.
    due: HashMap<K, (Instant, u64)>,
    failures: HashMap<K, u32>,
    next_number: u64,
}

impl<K> Default for State<K> {
    fn default() -> Self {
        Self {
            ready: VecDeque::new(),
            waiting: HashSet::new(),
            running: HashMap::new(),
            again: HashSet::new(),
            delayed: BTreeMap::new(),
            due: HashMap::new(),
            failures: HashMap::new(),
            next_number: 0,
        }
    }
}

impl<K: Clone + Eq + Hash> State<K> {
    /// Whether a worker has to be woken for it.
    pub(super) fn add(&mut self, key: K, now: Instant) -> bool {
        self.forget_delay(&key);
        if self.running.contains_key(&key) {
            self.again.insert(key);
            return false;
        }
        self.push(key, now)
    }

    pub(super) fn take(&mut self, now: Instant) -> Taken<K> {
        self.release_due(now);
        match self.ready.pop_front() {
            Some((key, _)) => {
                self.waiting.remove(&key);
                self.running.insert(key.clone(), now);
                Taken::Key { key, more: !self.ready.is_empty() }
            }
            None => Taken::NothingUntil(self.delayed.first_key_value().map(|((at, _), _)| *at)),
        }
    }

    /// Whether a worker has to be woken (for the key, or for its delay).
    pub(super) fn finish(&mut self, key: K, outcome: Outcome, backoff: &Backoff, now: Instant) -> bool {
        self.running.remove(&key);
        let again = self.again.remove(&key);
        let delay: Option<Duration> = match outcome {
            Outcome::Done => {
                self.failures.remove(&key);
                None
            }
            Outcome::Retry => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                Some(backoff.delay(*failures))
            }
            Outcome::After(delay) => Some(delay),
        };
        match delay {
            _ if again => self.push(key, now),
            Some(delay) => {
                self.delay(key, now + delay);
                true
            }
            None => false,
        }
    }

    pub(super) fn depth(&self) -> usize {
        self.ready.len()
    }

    pub(super) fn oldest_age(&self, now: Instant) -> Duration {
        let waiting = self.ready.front().map(|(_, since)| *since);
        let running = self.running.values().min().copied();
        let oldest = waiting.into_iter().chain(running).min();
        oldest.map_or(Duration::ZERO, |since| now.saturating_duration_since(since))
    }

    fn push(&mut self, key: K, now: Instant) -> bool {
        let new = self.waiting.insert(key.clone());
        if new {
            self.ready.push_back((key, now));
        }
        new
    }

    fn delay(&mut self, key: K, at: Instant) {
        self.forget_delay(&key);
        let slot = (at, self.next_number);
        self.next_number += 1;
        self.due.insert(key.clone(), slot);
        self.delayed.insert(slot, key);
    }

    fn forget_delay(&mut self, key: &K) {
        if let Some(slot) = self.due.remove(key) {
            self.delayed.remove(&slot);
        }
    }

    fn release_due(&mut self, now: Instant) {
        while let Some(entry) = self.delayed.first_entry() {
            if entry.key().0 > now {
                break;
            }
            let key = entry.remove();
            self.due.remove(&key);
            self.push(key, now);
        }
    }
}
