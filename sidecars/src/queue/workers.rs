//! A fixed number of workers on one queue.

use std::{any::Any, fmt::Debug, future::Future, hash::Hash, panic::AssertUnwindSafe, sync::Arc};

use futures::FutureExt;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;
use tracing::error;

use super::{Outcome, Queue};

/// Works on the queue until cancelled. A panic is a failure of its key, which is counted and tried again like any other:
/// one object that nobody thought of must not keep the work on all others from its end.
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
    K: Clone + Debug + Eq + Hash + Send + Sync + 'static,
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
                // What a look keeps between its steps says what may exist, before it is done: cut off anywhere,
                // by a panic too, it is in doubt and not wrong.
                let outcome = match AssertUnwindSafe(work(key.clone())).catch_unwind().await {
                    Ok(outcome) => outcome,
                    Err(panic) => {
                        error!(
                            ?key,
                            panic = text_of(&*panic),
                            "a look at an object panicked: trying it again later"
                        );
                        queue.note_panic();
                        Outcome::Retry
                    }
                };
                queue.finish(key, outcome);
            }
        });
    }
    while let Some(ended) = tasks.join_next().await {
        ended?;
    }
    Ok(())
}

fn text_of(panic: &(dyn Any + Send)) -> &str {
    let text = panic.downcast_ref::<&str>().copied();
    text.or_else(|| panic.downcast_ref::<String>().map(String::as_str)).unwrap_or("no words")
}
