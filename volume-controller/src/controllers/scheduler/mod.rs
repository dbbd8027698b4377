//! The scheduler: on which node a pod and its volumes are.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod fit;
mod reason;

use std::collections::BTreeSet;

use super::{
    engine::{Controller, Io, Outcome},
    view::{Delta, Relation, Touched, View, claim_ref, claim_ref_key, nowhere},
};
use crate::store::Key;

pub(crate) struct Scheduler;

impl Controller for Scheduler {
    const NAME: &'static str = "scheduler";
    /// One: two pods that both want a claim for one pod only must not both be placed.
    const WORKERS: usize = 1;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        let mut of_claim = |claim: &Key| keys.extend(view.pods_of_claim(claim).map(|pod| pod.key.clone()));
        match touched {
            Touched::Claim(delta) => of_claim(&delta.key),
            Touched::Volume(delta) => {
                delta.both().filter_map(|volume| claim_ref(volume)).map(claim_ref_key).for_each(|key| of_claim(&key));
            }
            Touched::Pod(delta) => {
                keys.insert(delta.key.clone());
                // One that went may have kept others from a claim or a node.
                if delta.new.is_none() {
                    keys.extend(Self::all(view));
                }
            }
            Touched::Node(Delta { old: Some(old), new: Some(new), .. }) if same_for_pods(old, new) => {}
            Touched::Node(_) | Touched::CsiNode(_) | Touched::Class(_) => keys.extend(Self::all(view)),
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.related(Relation::Unscheduled, &nowhere()).cloned().collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, key, action).await,
            None => Outcome::Settled,
        }
    }
}

/// Whether a node's change cannot matter to a pod that waits: its volume lists change often.
fn same_for_pods(old: &k8s_openapi::api::core::v1::Node, new: &k8s_openapi::api::core::v1::Node) -> bool {
    let conditions = |node: &k8s_openapi::api::core::v1::Node| {
        let list = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        list.into_iter().map(|c| (c.type_, c.status)).collect::<Vec<_>>()
    };
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && conditions(old) == conditions(new)
}
