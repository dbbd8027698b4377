//! Generic ephemeral volumes: the claims that pods bring along (KEP-1698). They are the
//! pods' own, so the collector removes them with them.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod reason;

use std::collections::BTreeSet;

use k8s_openapi::api::core::v1::Pod;

use super::{
    engine::{Controller, Io, Outcome},
    view::{Touched, View},
};
use crate::store::Key;

pub(crate) struct Ephemeral;

impl Controller for Ephemeral {
    const NAME: &'static str = "ephemeral_volume";
    const WORKERS: usize = 16;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Pod(delta) if delta.new.as_ref().is_some_and(|pod| brings_claims(pod)) => {
                keys.insert(delta.key.clone());
            }
            // One that is gone is made again; one that was in the way is gone.
            Touched::Claim(delta) if delta.new.is_none() => {
                let pods = view.pods_of_claim(&delta.key).filter(|pod| brings_claims(pod));
                keys.extend(pods.map(|pod| pod.key.clone()));
            }
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.pods.iter().filter(|pod| brings_claims(pod)).map(|pod| pod.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, key, action).await,
            None => Outcome::Settled,
        }
    }
}

fn brings_claims(pod: &Pod) -> bool {
    let mut volumes = pod.spec.iter().flat_map(|spec| spec.volumes.iter().flatten());
    volumes.any(|volume| volume.ephemeral.is_some())
}
