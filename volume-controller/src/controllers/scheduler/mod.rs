//! The scheduler: on which node a pod and its volumes are.

pub(crate) mod apply;
pub(crate) mod decide;
#[cfg(test)]
mod decide_tests;
mod fit;
mod reason;

use std::collections::BTreeSet;

use holdfast_api::access;
use k8s_openapi::api::core::v1::{Node, PersistentVolume};

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Delta, Relation, Shared, Touched, View, claim_ref, claim_ref_key, is_free, is_terminated, nowhere,
        waits_for_consumer,
    },
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
                delta
                    .both()
                    .filter_map(|volume| claim_ref(volume))
                    .map(claim_ref_key)
                    .for_each(|key| of_claim(&key));
                // One made by hand may be what a pod has waited for, on whichever node it is.
                let waits = |volume: &Shared<PersistentVolume>| {
                    let class = view.classes.get("", access::volume_class(volume));
                    is_free(volume) && class.is_some_and(|class| waits_for_consumer(class))
                };
                if delta.new.as_ref().is_some_and(waits) {
                    keys.extend(Self::all(view));
                }
            }
            Touched::Pod(delta) => {
                keys.insert(delta.key.clone());
                // One that went or ended may have kept others from a claim or a node.
                if delta.new.as_ref().is_none_or(|pod| is_terminated(pod)) {
                    keys.extend(Self::all(view));
                }
            }
            Touched::Node(Delta { old: Some(old), new: Some(new), .. }) if same_for_pods(old, new) => {}
            Touched::CsiNode(Delta { old: Some(old), new: Some(new), .. }) if old.spec == new.spec => {}
            Touched::Driver(Delta { old: Some(_), new: Some(_), .. }) => {}
            Touched::Node(_) | Touched::CsiNode(_) | Touched::Class(_) | Touched::Driver(_) => {
                keys.extend(Self::all(view));
            }
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
fn same_for_pods(old: &Node, new: &Node) -> bool {
    let conditions = |node: &Node| {
        let list = node.status.as_ref().and_then(|status| status.conditions.clone()).unwrap_or_default();
        list.into_iter().map(|c| (c.type_, c.status)).collect::<Vec<_>>()
    };
    old.spec == new.spec && old.metadata.labels == new.metadata.labels && conditions(old) == conditions(new)
}
