//! A fixed number of workers on one queue.

use std::{future::Future, hash::Hash, sync::Arc};

use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use super::{Outcome, Queue};

/// Works on the queue until cancelled. A worker that panics ends the whole run with its
/// panic: the supervisor then starts the controller anew, with a fresh queue.
///
/// A key already begun is finished before the run ends; what it does outside is made to
/// be cut off anywhere, but ending it in order saves the next start a repetition.
pub(crate) async fn run_workers<K, F, Fut>(
    queue: Arc<Queue<K>>,
    workers: usize,
    cancel: CancellationToken,
    work: F,
) -> Result<(), tokio::task::JoinError>
where
    K: Clone + Eq + Hash + Send + Sync + 'static,
    F: Fn(K) -> Fut + Clone + Send + 'static,
    Fut: Future<Output = Outcome> + Send,
{
    let mut tasks = JoinSet::new();
    for _ in 0..workers.max(1) {
        let (queue, cancel, work) = (Arc::clone(&queue), cancel.clone(), work.clone());
        tasks.spawn(async move {
            loop {
                let key = tokio::select! {
                    biased;
                    () = cancel.cancelled() => return,
                    key = queue.next() => key,
                };
                let outcome = work(key.clone()).await;
                queue.finish(key, outcome);
            }
        });
    }
    // Dropping the set on a panic stops the other workers too.
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}
