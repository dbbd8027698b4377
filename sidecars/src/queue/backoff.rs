//! How long a key waits after its n-th failure.

use std::{sync::Arc, time::Duration};

/// Exponential backoff with jitter: doubles from `first` to at most `longest`, and takes
/// between half and the whole of that, so that keys that failed together spread out.
#[derive(Clone)]
pub(crate) struct Backoff {
    first: Duration,
    longest: Duration,
    /// A number in 0..1; injected so that a test or a simulation owns chance.
    random: Arc<dyn Fn() -> f64 + Send + Sync>,
}

impl Backoff {
    pub(crate) fn new(first: Duration, longest: Duration) -> Self {
        Self::with_random(first, longest, || rand::random_range(0.0..1.0))
    }

    pub(crate) fn with_random(
        first: Duration,
        longest: Duration,
        random: impl Fn() -> f64 + Send + Sync + 'static,
    ) -> Self {
        Self { first, longest, random: Arc::new(random) }
    }

    /// The wait after the `failures`-th failure in a row (1 is the first).
    pub(crate) fn delay(&self, failures: u32) -> Duration {
        let doublings = failures.saturating_sub(1).min(30);
        let full = self.first.saturating_mul(1 << doublings).min(self.longest);
        full.mul_f64(0.5 + (self.random)() / 2.0)
    }
}
