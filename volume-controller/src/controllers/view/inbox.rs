//! From the one watch to each controller: what changed since it last looked.

use std::collections::VecDeque;

use parking_lot::Mutex;
use tokio::sync::Notify;

use super::Touched;

/// Past this many unread changes a controller looks at everything again instead.
pub(super) const LIMIT: usize = 100_000;

/// What a controller finds in its inbox.
#[derive(Debug)]
pub(crate) enum Mail {
    /// These objects changed, in this order.
    Changes(VecDeque<Touched>),
    /// Anything may have changed.
    Everything,
}

#[derive(Debug, Default)]
struct State {
    changes: VecDeque<Touched>,
    everything: bool,
}

/// One controller's unread changes. Writing never waits for the reader.
#[derive(Debug, Default)]
pub(crate) struct Inbox {
    state: Mutex<State>,
    filled: Notify,
}

impl Inbox {
    pub(super) fn put(&self, touched: Touched) {
        let mut state = self.state.lock();
        if state.everything {
            return;
        }
        if state.changes.len() >= LIMIT {
            state.everything = true;
            state.changes = VecDeque::new();
        } else {
            state.changes.push_back(touched);
        }
        drop(state);
        self.filled.notify_one();
    }

    /// Tells the reader to look at everything.
    pub(crate) fn put_everything(&self) {
        let mut state = self.state.lock();
        state.everything = true;
        state.changes = VecDeque::new();
        drop(state);
        self.filled.notify_one();
    }

    /// Waits until something is there and takes all of it. Safe to drop.
    pub(crate) async fn take(&self) -> Mail {
        loop {
            {
                let mut state = self.state.lock();
                if std::mem::take(&mut state.everything) {
                    return Mail::Everything;
                }
                if !state.changes.is_empty() {
                    return Mail::Changes(std::mem::take(&mut state.changes));
                }
            }
            self.filled.notified().await;
        }
    }
}
