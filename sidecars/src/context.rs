//! What every controller works with.

use std::{hash::Hash, sync::Arc};

use kube::Client;

use crate::{
    cache::Cache,
    csi::{CsiClient, DriverFacts},
    events::Teller,
    metrics::Metrics,
    queue::{Backoff, Gauges, Queue},
};

/// Steps that one look at a key may take; more means that others keep changing the object,
/// and the key goes to the back of its queue.
pub(crate) const MOST_STEPS: usize = 24;

/// See the module's documentation. For one life of one controller: its writes end with its lease.
pub(crate) struct Context {
    pub client: Client,
    pub cache: Cache,
    pub csi: CsiClient,
    pub facts: Arc<DriverFacts>,
    pub teller: Teller,
    pub metrics: Metrics,
    pub backoff: Backoff,
}

impl Context {
    /// A new queue, shown in the metrics under `name`.
    pub(crate) fn queue<K: Clone + Eq + Hash + Send + Sync + 'static>(
        &self,
        name: &'static str,
    ) -> Arc<Queue<K>> {
        let queue = Arc::new(Queue::new(self.backoff.clone()));
        let gauges: Arc<dyn Gauges> = Arc::clone(&queue) as Arc<dyn Gauges>;
        self.metrics.watch_queue(name, Arc::downgrade(&gauges));
        queue
    }
}
