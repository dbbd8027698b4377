//! Events do not stay for ever: what is older than an hour goes, as upstream's
//! API server does it with a lease.

use std::time::Duration;

use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use tokio::time::interval;
use tokio_util::sync::CancellationToken;

use super::{Error, view::EVENTS};
use crate::store::{Precondition, Store, Write};

const LIFE: SignedDuration = SignedDuration::from_hours(1);
const ROUND: Duration = Duration::from_secs(300);
/// Deletions of one transaction, so that other writers are not held up.
const STEP: usize = 256;

/// The times that an event bears; which ones depends on who wrote it.
#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Times {
    last_timestamp: Option<Timestamp>,
    event_time: Option<Timestamp>,
    metadata: Metadata,
    series: Option<Series>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Metadata {
    creation_timestamp: Option<Timestamp>,
}

#[derive(Deserialize)]
#[serde(rename_all = "camelCase")]
struct Series {
    last_observed_time: Option<Timestamp>,
}

impl Times {
    fn latest(&self) -> Option<Timestamp> {
        let series = self.series.as_ref().and_then(|series| series.last_observed_time);
        [self.last_timestamp, self.event_time, self.metadata.creation_timestamp, series]
            .into_iter()
            .flatten()
            .max()
    }
}

/// Removes old events until cancelled.
pub(super) async fn run(store: Store, cancel: CancellationToken) -> Result<(), Error> {
    let mut round = interval(ROUND);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            _ = round.tick() => sweep(&store, Timestamp::now()).await,
        }
    }
}

async fn sweep(store: &Store, now: Timestamp) {
    let events = store.list(EVENTS, None, None, None).objects;
    let old: Vec<Write> = events
        .iter()
        .filter(|event| {
            // An event without any time, or one that cannot be read, stays.
            let latest = event.decode::<Times>().ok().and_then(|times| times.latest());
            latest.is_some_and(|latest| now.duration_since(latest) > LIFE)
        })
        .map(|event| Write {
            key: event.key.clone(),
            precondition: Precondition::Revision(event.revision),
            body: None,
        })
        .collect();
    for step in old.chunks(STEP) {
        // One that changed meanwhile keeps its company until the next round.
        if let Err(error) = store.commit(step.to_vec()).await {
            tracing::debug!(%error, "old events were not removed and will be tried again");
        }
    }
}
