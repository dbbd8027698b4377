//! Protection: a claim in use, a volume that is bound and a class of attributes that something
//! has cannot go.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod reason;

use std::collections::BTreeSet;

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Delta, Touched, View, attributes_class_key, claim_attributes, claim_key, is_deleting, pod_claims,
        volume_attributes,
    },
};
use crate::store::Key;

pub(crate) struct Protection;

impl Controller for Protection {
    const NAME: &'static str = "protection";
    const WORKERS: usize = 16;

    fn wake(_: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Claim(Delta { key, old, new }) => {
                keys.insert(key.clone());
                // The volume of a claim that is gone may be waiting for that.
                let volumes = old.iter().chain(new).filter_map(|claim| super::view::claim_volume(claim));
                keys.extend(volumes.map(super::view::volume_key));
                let classes = old.iter().chain(new).flat_map(|claim| claim_attributes(claim));
                keys.extend(classes.map(attributes_class_key));
            }
            Touched::Volume(delta) => {
                keys.insert(delta.key.clone());
                let classes = delta.both().filter_map(|volume| volume_attributes(volume));
                keys.extend(classes.map(attributes_class_key));
            }
            Touched::AttributesClass(delta) => {
                keys.insert(delta.key.clone());
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
        let claims =
            view.claims.iter().filter(|claim| is_deleting(&claim.metadata)).map(|claim| claim.key.clone());
        let volumes = view.volumes.iter().filter(|v| is_deleting(&v.metadata)).map(|v| v.key.clone());
        let classes = view.attributes_classes.iter().filter(|class| is_deleting(&class.metadata));
        claims.chain(volumes).chain(classes.map(|class| class.key.clone())).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}
