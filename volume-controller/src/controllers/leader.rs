//! The controllers where several servers have one store: they run on the one that leads, and everything that they write
//! counts only while it does. A server that stops leading stops its controllers, and stands again.

use std::{pin::pin, time::Duration};

use prometheus_client::encoding::EncodeLabelSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::{Config, Error, run};
use crate::store::{Candidate, Store, Term};

/// How long the controllers may take to stop. What is under way in the store then ends there, or is refused.
const FAREWELL: Duration = Duration::from_secs(5);
/// Pause between attempts to see what others have written.
const PAUSE: Duration = Duration::from_millis(200);

/// What is led.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
pub(super) struct LeaderLabel {
    name: &'static str,
}

/// All controllers.
const LABEL: LeaderLabel = LeaderLabel { name: "holdfast-controllers" };

/// Runs all controllers whenever this process leads, until cancelled. Then another one may lead at once.
///
/// # Errors
/// As [`run`].
pub async fn lead(config: Config, mut candidate: Candidate, cancel: CancellationToken) -> Result<(), Error> {
    let status = config.metrics.leading.get_or_create_owned(&LABEL);
    status.set(0);
    tracing::info!("the controllers wait until this server leads");
    let ended = loop {
        let term = tokio::select! {
            () = cancel.cancelled() => break Ok(()),
            term = candidate.elected() => term,
        };
        status.set(1);
        tracing::info!("this server leads: the controllers run here");
        let ended = run_in(term, &config, &mut candidate, &cancel).await;
        status.set(0);
        // What is not worked on here any more would be shown as waiting.
        config.metrics.forget();
        if let Some(ended) = ended {
            break ended;
        }
    };
    candidate.resign().await;
    ended
}

/// One term; `None` when it is over, and otherwise how the controllers ended.
async fn run_in(
    term: Term,
    config: &Config,
    candidate: &mut Candidate,
    cancel: &CancellationToken,
) -> Option<Result<(), Error>> {
    let mut deposed = pin!(candidate.deposed());
    let store = config.store.in_term(term);
    tokio::select! {
        () = cancel.cancelled() => return Some(Ok(())),
        why = &mut deposed => {
            tracing::warn!(why, "this server leads no more");
            return None;
        }
        () = caught_up(&store) => {}
    }
    let stop = cancel.child_token();
    let mut running = pin!(run(Config { store, ..config.clone() }, stop.clone()));
    tokio::select! {
        ended = &mut running => Some(ended),
        why = &mut deposed => {
            tracing::warn!(why, "this server leads no more: its controllers stop");
            stop.cancel();
            if timeout(FAREWELL, running).await.is_err() {
                tracing::warn!("some controllers did not stop within {FAREWELL:?}; going on without them");
            }
            None
        }
    }
}

/// Waits until all is known that the last leader has written. Without it nothing would go wrong, but much be tried in vain.
async fn caught_up(store: &Store) {
    while let Err(error) = store.catch_up().await {
        tracing::debug!(%error, "waiting for the database before the controllers start");
        sleep(PAUSE).await;
    }
}
