//! Quotas: what is used of them is counted anew whenever something of their namespace
//! changes. The API server adds to the ledger in the transaction that uses more (see
//! `apiserver/quota.rs`); here it comes down again, and what was written by others than
//! the API server goes in.

mod apply;
mod decide;

use std::{collections::BTreeSet, sync::Arc, time::Duration};

use serde_json::Value;
use tokio::time::{Instant, sleep_until};
use tokio_util::sync::CancellationToken;

use super::Error;
use crate::{
    apiserver::quota::QUOTAS,
    store::{Key, Next, Store, WatchError},
};

/// How soon after a change its namespace is counted, so that many changes are counted once.
const PAUSE: Duration = Duration::from_millis(20);
/// After a count there is a pause of this many times what it took.
const SHARE: u32 = 10;

/// Counts until cancelled. Any resource may be limited, so it follows all of them, with a
/// watch of its own.
pub(super) async fn run(store: Store, cancel: CancellationToken) -> Result<(), Error> {
    loop {
        let Ok(mut watch) = store.watch(&[], store.revision()) else { continue };
        let quotas = store.list(QUOTAS, None, None, None).objects;
        let mut open: BTreeSet<Arc<str>> = quotas.iter().map(|quota| quota.key.namespace.clone()).collect();
        let mut due = Instant::now();
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                next = watch.next() => match next {
                    Ok(Next::Change(change)) => {
                        let key = &change.object.key;
                        if concerns(&store, key) {
                            if open.is_empty() {
                                due = due.max(Instant::now() + PAUSE);
                            }
                            open.insert(key.namespace.clone());
                        }
                    }
                    Ok(Next::Progress(_)) => {}
                    Err(WatchError::TooSlow) => break,
                    Err(WatchError::Closed) => return Err(Error::StoreClosed),
                },
                () = sleep_until(due), if !open.is_empty() => {
                    let began = Instant::now();
                    for namespace in std::mem::take(&mut open) {
                        if !settle(&store, &namespace).await {
                            open.insert(namespace);
                        }
                    }
                    due = Instant::now() + PAUSE.max(began.elapsed() * SHARE);
                }
            }
        }
        tracing::warn!("the quota controller's watch fell behind; counting everything again");
    }
}

/// Whether a quota may count the object.
fn concerns(store: &Store, key: &Key) -> bool {
    !key.namespace.is_empty()
        && !store.list(QUOTAS, Some(&key.namespace), None, Some(1)).objects.is_empty()
        && !key.resource.starts_with("events")
}

/// Brings the quotas of a namespace up to date. `false`: to be done again.
async fn settle(store: &Store, namespace: &str) -> bool {
    let mut is_done = true;
    for object in store.list(QUOTAS, Some(namespace), None, None).objects {
        // Counted after the ledger was read: what comes to use more meanwhile changes it.
        let Ok(quota) = object.decode::<Value>() else { continue };
        let counted = crate::apiserver::quota::count(store, &object, &quota["spec"]);
        if let Some(action) = decide::decide(&quota, &counted) {
            is_done &= apply::apply(store, &object, action).await;
        }
    }
    is_done
}
