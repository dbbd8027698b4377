//! What became of a commit that failed: until that is known nothing is written.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::sleep;

use super::dialect::Settled;
use super::writer::{Outcome, Writer};
use super::{Change, CommitError};

/// Pauses between the attempts to learn what became of a failed commit, while its callers wait.
const PAUSES: [Duration; 5] = [
    Duration::from_millis(10),
    Duration::from_millis(50),
    Duration::from_millis(200),
    Duration::from_secs(1),
    Duration::from_secs(2),
];

/// What a commit would have changed.
pub(crate) struct Unsettled {
    changes: Vec<Arc<Change>>,
    error: String,
}

impl Unsettled {
    pub(super) fn new(changes: Vec<Arc<Change>>, error: String) -> Self {
        Self { changes, error }
    }
}

impl Writer {
    /// Learns what became of a commit that failed, while its callers wait.
    pub(super) async fn settle_patiently(&mut self, error: CommitError) -> Outcome {
        for pause in PAUSES {
            match self.settle().await {
                Ok(Settled::Happened) => return Outcome::Done,
                Ok(Settled::DidNot) => return Outcome::Refused(error),
                Ok(Settled::Compacted) => return Outcome::Unknown(error.to_string()),
                Err(_) if self.dialect.lost().is_some() => break,
                Err(_) => sleep(pause).await,
            }
        }
        Outcome::Unknown(error.to_string())
    }

    /// Learns what became of a commit that failed, if there is one. As long as that
    /// is not known nothing can be written: its revisions may or may not be taken.
    pub(super) async fn settle(&mut self) -> Result<Settled, String> {
        let Some(unsettled) = &self.unsettled else { return Ok(Settled::Happened) };
        let base = self.memory.revision();
        let last = unsettled.changes.last().map_or(base, |change| change.revision);
        let unknown = |why: &dyn std::fmt::Display| {
            format!("what became of an earlier write is not known ({}): {why}", unsettled.error)
        };
        let settled = self.dialect.settle(base, last).await.map_err(|error| unknown(&error))?;
        if settled == Settled::Compacted {
            // Whatever happened, it is in what there is now.
            let text = unknown(&"its place in the log is compacted");
            self.reload().await.map_err(|error| format!("{text}: {error}"))?;
        }
        if let Some(unsettled) = self.unsettled.take()
            && settled == Settled::Happened
        {
            self.publish(&unsettled.changes);
        }
        tracing::info!(?settled, base, last, "learned what became of a failed commit");
        Ok(settled)
    }
}
