//! The one place where the agent reads the time of day, for stamps that people read.
//! Durations and deadlines use `tokio::time`.

use jiff::Timestamp;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::Time;

/// The present time of day, in whole seconds as the API stores it.
pub(crate) fn now() -> Time {
    let now = Timestamp::now();
    Time(Timestamp::from_second(now.as_second()).unwrap_or(now))
}
