//! The driver's one clock.

use std::time::{Duration, SystemTime, UNIX_EPOCH};

use serde::{Deserialize, Serialize};

/// A moment, as it is stored and as the wire shows it.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Serialize, Deserialize)]
pub(crate) struct Moment {
    /// Seconds since 1970-01-01T00:00:00Z.
    seconds: u64,
    /// The rest, in nanoseconds.
    nanos: u32,
}

impl Moment {
    /// This machine's time. A clock before 1970 counts as 1970.
    #[expect(clippy::disallowed_methods, reason = "this is the one clock")]
    pub(crate) fn now() -> Self {
        let since: Duration = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
        Self { seconds: since.as_secs(), nanos: since.subsec_nanos() }
    }

    /// Whole seconds since 1970-01-01T00:00:00Z.
    pub(crate) fn unix(self) -> u64 {
        self.seconds
    }
}

impl From<Moment> for prost_types::Timestamp {
    fn from(moment: Moment) -> Self {
        Self {
            seconds: i64::try_from(moment.seconds).unwrap_or(i64::MAX),
            nanos: i32::try_from(moment.nanos).unwrap_or(0),
        }
    }
}
