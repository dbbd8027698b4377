//! What of the database's past this process has read and relies on.
//!
//! Each commit leaves a random token. When the database no longer has the token that belongs to the last revision
//! read here, it was restored, or failed over to a copy that lacked commits.

use super::rows::Counter;

/// A revision and the token of the commit that made it the latest.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
struct Point {
    revision: u64,
    token: i64,
}

/// The last point that is in memory, and one that may get there.
#[derive(Debug, Default)]
pub(super) struct Past {
    known: Option<Point>,
    /// Read, but whether the reader could make sense of it shows only when he asks for what comes after it.
    heard: Option<Point>,
}

impl Past {
    /// Of what this process has committed itself.
    pub(super) fn know(&mut self, revision: u64, token: i64) {
        *self = Self { known: Some(Point { revision, token }), heard: None };
    }

    pub(super) fn hear(&mut self, counter: &Counter) {
        self.heard = Some(Point { revision: counter.current, token: counter.token });
    }

    /// Memory is at `seen` now.
    pub(super) fn reach(&mut self, seen: u64) {
        if let Some(heard) = self.heard.take()
            && heard.revision == seen
        {
            self.known = Some(heard);
        }
    }

    /// The revision whose token shows whether the past is the same.
    pub(super) fn revision(&self) -> Option<u64> {
        self.known.map(|known| known.revision)
    }

    /// Whether the database cannot have come from what is known: by its counter, and by the token that the change
    /// of the known revision has now, if it is there. Where that is compacted there is nothing to compare.
    pub(super) fn contradicts(&self, counter: &Counter, token: Option<i64>) -> bool {
        let Some(known) = self.known else { return false };
        let is_there = known.revision > counter.compacted;
        counter.current < known.revision
            || (counter.current == known.revision && counter.token != known.token)
            || token.is_some_and(|token| token != known.token)
            || (is_there && token.is_none())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn counter(current: u64, compacted: u64, token: i64) -> Counter {
        Counter { current, compacted, token, owner: 0, leader: 0 }
    }

    #[test]
    fn what_can_and_cannot_come_after_revision_10() {
        let mut past = Past::default();
        assert!(!past.contradicts(&counter(1, 1, 0), None), "nothing is known yet");
        past.know(10, 77);
        for (name, now, token, expected) in [
            ("the same", counter(10, 5, 77), Some(77), false),
            ("more", counter(12, 5, 99), Some(77), false),
            ("compacted up to there, the change replaced", counter(12, 10, 99), None, false),
            ("compacted up to there, the object unchanged", counter(12, 10, 99), Some(77), false),
            ("compacted past it", counter(12, 11, 99), None, false),
            ("gone back", counter(9, 5, 55), None, true),
            ("gone back, and as far again", counter(10, 5, 55), Some(55), true),
            ("gone back, and further", counter(12, 5, 99), Some(55), true),
            ("compacted past it, but another's change", counter(12, 11, 99), Some(55), true),
            ("not there although not compacted", counter(12, 9, 99), None, true),
        ] {
            assert_eq!(past.contradicts(&now, token), expected, "{name}");
        }
    }

    #[test]
    fn what_was_read_and_not_understood_is_not_known() {
        let mut past = Past::default();
        past.know(10, 77);
        past.hear(&counter(12, 5, 99));
        past.reach(10);
        assert_eq!(past.revision(), Some(10));
        past.hear(&counter(12, 5, 99));
        past.reach(12);
        assert_eq!(past.revision(), Some(12));
    }
}
