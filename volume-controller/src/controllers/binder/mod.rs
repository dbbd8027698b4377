//! The binder: which claim has which volume.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod race_tests;
mod reason;

use std::collections::BTreeSet;

use decide::Action;
pub(super) use decide::{claim::has_candidate_on, decide};
use k8s_openapi::api::core::v1::Node;

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Delta, Relation, Shared, Touched, View, claim_key, claim_ref, claim_ref_key, claim_volume,
        pod_claims, volume_key,
    },
};
use crate::store::Key;

pub(crate) struct Binder;

/// Whether an action changes nothing.
#[cfg(test)]
pub(super) fn is_wait(action: &Action) -> bool {
    matches!(action, Action::Wait { .. })
}

impl Controller for Binder {
    const NAME: &'static str = "persistentvolume-binder";
    const WORKERS: usize = 64;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Claim(delta) => {
                keys.insert(delta.key.clone());
                for claim in delta.both() {
                    keys.extend(claim_volume(claim).map(volume_key));
                }
                keys.extend(view.related(Relation::ReservedIn, &delta.key).cloned());
            }
            Touched::Volume(delta) => {
                keys.insert(delta.key.clone());
                for volume in delta.both() {
                    keys.extend(claim_ref(volume).map(claim_ref_key));
                }
                keys.extend(view.related(Relation::NamedBy, &delta.key).cloned());
            }
            // Claims that have waited for the class, or for any default.
            Touched::Class(Delta { key, .. }) => {
                keys.extend(view.related(Relation::WantedBy, key).cloned());
                keys.extend(view.related(Relation::WantedBy, &Key::new(&key.resource, "", "")).cloned());
            }
            // Where the volumes of claims can be used that have waited with a node chosen.
            Touched::Node(Delta { key, old, new }) => {
                let labels =
                    |node: &Option<Shared<Node>>| node.as_ref().map(|node| node.metadata.labels.clone());
                if labels(old) != labels(new) {
                    keys.extend(view.related(Relation::ChosenFor, key).cloned());
                }
            }
            Touched::Pod(delta) => {
                for pod in delta.both() {
                    keys.extend(
                        pod_claims(pod).iter().map(|(name, _)| claim_key(&delta.key.namespace, name)),
                    );
                }
            }
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        let claims = view.claims.iter().map(|claim| claim.key.clone());
        claims.chain(view.volumes.iter().map(|volume| volume.key.clone())).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let (action, _marked) = io.underway.choose(|underway| {
            let action = io.index.read(|view| decide(view, underway, key));
            let changes = match &action {
                Some(Action::Bind { claim, volume, .. }) => vec![claim.key.clone(), volume.key.clone()],
                _ => Vec::new(),
            };
            (action, changes)
        });
        match action {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}
