//! The garbage collector: what belongs to what is gone goes, too; what is deleted with
//! `propagationPolicy` Foreground waits for what belongs to it, and with Orphan lets it go.
//!
//! Objects of any kind own and are owned, so it follows all of them with a watch of its own.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod graph;
mod reason;
#[cfg(test)]
mod tests;

use std::{collections::BTreeSet, sync::Arc};

use parking_lot::Mutex;
use tokio_util::sync::CancellationToken;

use super::{
    Error,
    engine::{Io, Outcome, Work},
    metrics::Metrics,
};
use crate::{
    apiserver::kinds,
    store::{Change, ChangeKind, Key, Next, Object, Store, Watch, WatchError},
};
use graph::Graph;

/// Its name in logs and metrics.
pub(super) const NAME: &str = "garbagecollector";
/// Deletions under way at once; the store commits them together.
const WORKERS: usize = 64;

/// Collects until cancelled. Whenever its watch falls behind it looks at everything again.
pub(super) async fn run(io: Io, metrics: Metrics, cancel: CancellationToken) -> Result<(), Error> {
    loop {
        let Ok(watch) = io.store.watch(&[], io.store.revision()) else { continue };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            ended = follow(&io, &metrics, watch) => ended?,
        }
        tracing::warn!("the garbage collector's watch fell behind; looking at everything again");
    }
}

/// Until the watch falls behind.
async fn follow(io: &Io, metrics: &Metrics, mut watch: Watch) -> Result<(), Error> {
    let graph = Arc::new(Mutex::new(Graph::default()));
    let mut work = Work::new(NAME, metrics.clone());
    for object in everything(&io.store) {
        graph.lock().put(&object);
    }
    let keys: Vec<Key> = graph.lock().keys().cloned().collect();
    work.wake(keys);
    loop {
        work.start(WORKERS, |key| {
            let (io, graph) = (io.clone(), Arc::clone(&graph));
            async move { look(&io, &graph, &key).await }
        });
        tokio::select! {
            next = watch.next() => match next {
                Ok(Next::Change(change)) => work.wake(take_in(&mut graph.lock(), &change)),
                Ok(Next::Progress(_)) => {}
                Err(WatchError::TooSlow) => return Ok(()),
                Err(WatchError::Closed) => return Err(Error::StoreClosed),
            },
            stepped = work.step() => stepped?,
        }
    }
}

fn take_in(graph: &mut Graph, change: &Change) -> BTreeSet<Key> {
    match change.kind {
        ChangeKind::Deleted => graph.remove(&change.object.key, &change.object.uid),
        ChangeKind::Created | ChangeKind::Updated => graph.put(&change.object),
    }
}

/// Every object there is, each once, whatever versions its kind has.
fn everything(store: &Store) -> impl Iterator<Item = Arc<Object>> {
    let stored = kinds::ALL.iter().filter(|kind| std::ptr::eq(**kind, kinds::stored(kind)));
    stored.flat_map(|kind| store.list(&kind.resource(), None, None, None).objects)
}

async fn look(io: &Io, graph: &Mutex<Graph>, key: &Key) -> Outcome {
    let standing = |owner: &graph::Owner, dependent: &Key| apply::standing(&io.store, owner, dependent);
    let action = decide::decide(&graph.lock(), standing, key);
    match action {
        Some(action) => apply::apply(io, action).await,
        None => Outcome::Settled,
    }
}
