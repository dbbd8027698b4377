//! The keys of one controller: those in line, those being worked on, those that
//! wait for their time, and how often each has failed.

use std::{
    collections::{BTreeMap, BTreeSet, VecDeque},
    time::Duration,
};

use tokio::time::Instant;

use super::engine::Outcome;
use crate::store::Key;

const FIRST_PAUSE: Duration = Duration::from_millis(20);
const LONGEST_PAUSE: Duration = Duration::from_secs(60);

/// First come, first served, so that no key can keep others from their turn by
/// being woken all the time.
#[derive(Debug, Default)]
pub(super) struct Queue {
    /// In line, with the time since when.
    line: VecDeque<(Key, Instant)>,
    in_line: BTreeSet<Key>,
    /// Being worked on; true when woken meanwhile.
    busy: BTreeMap<Key, bool>,
    /// Not before a time, both ways round.
    pauses: BTreeMap<Key, Instant>,
    by_time: BTreeSet<(Instant, Key)>,
    failures: BTreeMap<Key, u32>,
}

impl Queue {
    /// Puts a key in line, or notes that it has to be looked at once more.
    pub(super) fn wake(&mut self, key: Key, now: Instant) {
        if let Some(again) = self.busy.get_mut(&key) {
            *again = true;
            return;
        }
        self.end_pause(&key);
        if self.in_line.insert(key.clone()) {
            self.line.push_back((key, now));
        }
    }

    /// The key whose turn it is. Until [`Queue::done`] nobody else gets it.
    pub(super) fn next(&mut self) -> Option<Key> {
        let (key, _) = self.line.pop_front()?;
        self.in_line.remove(&key);
        self.busy.insert(key.clone(), false);
        Some(key)
    }

    /// What came of the look at a key.
    pub(super) fn done(&mut self, key: Key, outcome: Outcome, now: Instant) {
        let again = self.busy.remove(&key).unwrap_or_default();
        let failures = match outcome {
            Outcome::Again => {
                let failures = self.failures.entry(key.clone()).or_default();
                *failures = failures.saturating_add(1);
                *failures
            }
            Outcome::Settled | Outcome::Wrote | Outcome::After(_) => {
                self.failures.remove(&key);
                0
            }
        };
        if again || outcome == Outcome::Wrote {
            return self.wake(key, now);
        }
        match outcome {
            Outcome::Settled | Outcome::Wrote => {}
            Outcome::After(pause) => self.pause(key, now + pause),
            Outcome::Again => {
                let pause = FIRST_PAUSE.saturating_mul(1 << (failures - 1).min(12)).min(LONGEST_PAUSE);
                self.pause(key, now + pause);
            }
        }
    }

    /// Puts in line whose time has come.
    pub(super) fn due(&mut self, now: Instant) {
        while let Some((_, key)) = self.by_time.first().filter(|(at, _)| *at <= now).cloned() {
            self.end_pause(&key);
            self.wake(key, now);
        }
    }

    /// When the next pause ends.
    pub(super) fn soonest(&self) -> Option<Instant> {
        self.by_time.first().map(|(at, _)| *at)
    }

    /// All keys that are not settled.
    pub(super) fn depth(&self) -> usize {
        self.line.len() + self.busy.len() + self.pauses.len()
    }

    /// Whether keys wait for a worker.
    pub(super) fn has_line(&self) -> bool {
        !self.line.is_empty()
    }

    /// How long the first in line has been there.
    pub(super) fn oldest_age(&self, now: Instant) -> Duration {
        self.line.front().map_or(Duration::ZERO, |(_, since)| now.saturating_duration_since(*since))
    }

    fn pause(&mut self, key: Key, until: Instant) {
        self.end_pause(&key);
        self.by_time.insert((until, key.clone()));
        self.pauses.insert(key, until);
    }

    fn end_pause(&mut self, key: &Key) {
        if let Some(at) = self.pauses.remove(key) {
            self.by_time.remove(&(at, key.clone()));
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn key(name: &str) -> Key {
        Key::new("pods", "a", name)
    }

    #[tokio::test]
    async fn one_worker_a_key_and_growing_pauses() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.wake(key("x"), now);
        queue.wake(key("x"), now);
        assert_eq!(queue.next(), Some(key("x")));
        queue.wake(key("x"), now);
        assert_eq!(queue.next(), None, "it is being worked on");
        queue.done(key("x"), Outcome::Again, now);
        assert_eq!(queue.next(), Some(key("x")), "it was woken meanwhile, so there is news: no pause");
        queue.done(key("x"), Outcome::Again, now);
        assert_eq!(queue.next(), None);
        let first = queue.soonest().unwrap();
        queue.due(first);
        assert_eq!(queue.next(), Some(key("x")));
        queue.done(key("x"), Outcome::Again, first);
        assert!(queue.soonest().unwrap() - first > first - now);
        queue.wake(key("x"), first);
        assert_eq!(queue.soonest(), None, "a wake-up ends the pause");
        assert_eq!(queue.next(), Some(key("x")));
        queue.done(key("x"), Outcome::Settled, first);
        assert!(queue.failures.is_empty());
        assert_eq!(queue.depth(), 0);
    }

    #[tokio::test]
    async fn a_key_woken_all_the_time_does_not_hold_up_others() {
        let now = Instant::now();
        let mut queue = Queue::default();
        queue.wake(key("a"), now);
        queue.wake(key("b"), now);
        assert_eq!(queue.next(), Some(key("a")));
        queue.done(key("a"), Outcome::Wrote, now);
        assert_eq!(queue.next(), Some(key("b")));
        assert_eq!(queue.next(), Some(key("a")));
    }

    #[tokio::test]
    async fn pauses_have_a_longest_and_a_success_forgets_them() {
        let mut now = Instant::now();
        let mut queue = Queue::default();
        queue.wake(key("x"), now);
        for _ in 0..40 {
            queue.next().unwrap();
            queue.done(key("x"), Outcome::Again, now);
            let until = queue.soonest().unwrap();
            assert!(until - now <= LONGEST_PAUSE);
            now = until;
            queue.due(now);
        }
        queue.next().unwrap();
        queue.done(key("x"), Outcome::After(Duration::from_secs(5)), now);
        assert_eq!(queue.soonest(), Some(now + Duration::from_secs(5)));
        queue.due(now + Duration::from_secs(5));
        queue.next().unwrap();
        queue.done(key("x"), Outcome::Again, now);
        assert_eq!(queue.soonest(), Some(now + FIRST_PAUSE));
    }

    #[tokio::test]
    async fn depth_and_age() {
        let now = Instant::now();
        let mut queue = Queue::default();
        assert_eq!(queue.oldest_age(now), Duration::ZERO);
        queue.wake(key("a"), now);
        queue.wake(key("b"), now + Duration::from_secs(1));
        assert_eq!(queue.oldest_age(now + Duration::from_secs(3)), Duration::from_secs(3));
        queue.next();
        assert_eq!(queue.oldest_age(now + Duration::from_secs(3)), Duration::from_secs(2));
        assert_eq!(queue.depth(), 2);
    }
}
