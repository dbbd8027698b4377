//! Waiting for conditions, never for times.

use std::{future::Future, time::Duration};

use anyhow::{Result, bail};
use tokio::time::{Instant, MissedTickBehavior, interval};

/// How long a condition may take before the test is wrong. Generous: the machine
/// may be busy with other tests.
const LIMIT: Duration = Duration::from_secs(120);

/// Waits until `check` gives a value. Its errors count as "not yet": the server
/// may just be starting again.
///
/// # Errors
/// When the condition does not come about; the last error is named.
pub async fn until<T, F: Future<Output = Result<Option<T>>>>(
    what: &str,
    mut check: impl FnMut() -> F,
) -> Result<T> {
    let deadline = Instant::now() + LIMIT;
    let mut tick = interval(Duration::from_millis(10));
    tick.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tick.tick().await;
        let last = match tokio::time::timeout_at(deadline, check()).await {
            Ok(Ok(Some(value))) => return Ok(value),
            Ok(Ok(None)) => None,
            Ok(Err(error)) => Some(error),
            Err(_) => Some(anyhow::anyhow!("the last look at it did not end")),
        };
        if Instant::now() >= deadline {
            match last {
                Some(error) => bail!("not within {LIMIT:?}: {what}: {error:#}"),
                None => bail!("not within {LIMIT:?}: {what}"),
            }
        }
    }
}
