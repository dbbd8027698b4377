//! The life of nodes: heard, silent, shut down, gone; and what becomes of their pods.
//!
//! What Kubernetes divides among the node lifecycle, taint eviction and pod garbage collection controllers. A silent
//! node is not a dead one: nothing of what it may have mounted is given away before somebody says that it is shut
//! down (the taint `node.kubernetes.io/out-of-service`, KEP-2268). Their volumes are the attach-detach controller's.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod metrics;
mod patience;
mod pods;
mod pulse;
#[cfg(test)]
mod pulse_tests;
mod reason;
mod zone;

use std::collections::BTreeSet;

use holdfast_api::nodes;
use tokio::time::Instant;

pub use patience::Patience;
pub(crate) use {
    metrics::{ForcedLabel, NodeMetrics},
    pulse::Pulses,
};

use super::{
    engine::{Controller, Io, Outcome},
    view::{Touched, View, node_key, pod_node},
};
use crate::store::Key;

pub(crate) struct NodeLifecycle;

impl Controller for NodeLifecycle {
    const NAME: &'static str = "node_lifecycle_controller";
    const WORKERS: usize = 8;

    fn wake(_: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Node(delta) => {
                keys.insert(delta.key.clone());
            }
            Touched::Lease(delta) if *delta.key.namespace == *nodes::LEASES => {
                keys.insert(node_key(&delta.key.name));
            }
            Touched::Attachment(delta) => {
                keys.extend(delta.both().map(|attachment| node_key(&attachment.spec.node_name)));
            }
            Touched::Pod(delta) => keys.extend(delta.both().filter_map(|pod| pod_node(pod)).map(node_key)),
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        let of_pods = view.pods.iter().filter_map(|pod| pod_node(pod)).map(node_key);
        let attached = view.attachments.iter().map(|attachment| node_key(&attachment.spec.node_name));
        view.nodes.iter().map(|node| node.key.clone()).chain(of_pods).chain(attached).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let can_hear = io.store.is_reachable();
        let (decided, zones) = io.index.read(|view| {
            let heard = io.pulses.hear(view, key, Instant::now(), can_hear);
            (decide::decide(view, key, &heard, io.pulses.patience()), io.pulses.survey(view))
        });
        if let Some(zones) = zones {
            io.metrics.nodes.counted(&zones);
        }
        let Some(decision) = decided else { return Outcome::Settled };
        match apply::apply(io, key, decision).await {
            // Silence makes no noise: what it comes to is found by looking.
            Outcome::Settled => Outcome::After(io.pulses.patience().period()),
            outcome => outcome,
        }
    }
}
