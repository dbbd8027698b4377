//! Writes it.

use super::decide::Action;
use crate::store::{CommitError, Object, Precondition, Store, Write};

/// Whether that is settled: done, or no more to be done.
pub(super) async fn apply(store: &Store, quota: &Object, action: Action) -> bool {
    let Action::Write(body) = action;
    // Without it, what was used more meanwhile would be forgotten.
    let precondition = Precondition::Revision(quota.revision);
    match store.commit(vec![Write { key: quota.key.clone(), precondition, body: Some(body) }]).await {
        Ok(_) | Err(CommitError::Missing { .. }) => true,
        Err(CommitError::Conflict { .. } | CommitError::Deposed) => false,
        Err(error) => {
            tracing::error!(%error, quota = %quota.key, "what is used of a quota cannot be written");
            false
        }
    }
}
