//! Aggregation: a ClusterRole that is made of others has their rules.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;

use std::collections::BTreeSet;

use k8s_openapi::api::rbac::v1::ClusterRole;

use super::{
    engine::{Controller, Io, Outcome},
    view::{Delta, Shared, Touched, View},
};
use crate::store::Key;

pub(crate) struct Aggregation;

impl Controller for Aggregation {
    const NAME: &'static str = "clusterrole-aggregation";
    const WORKERS: usize = 1;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        // Whichever role it is, any that is made of others may have it, had it, or have it by way of another.
        let Touched::ClusterRole(Delta { old, new, .. }) = touched else { return };
        let counts = |role: &Shared<ClusterRole>| {
            (role.rules.clone(), role.metadata.labels.clone(), role.aggregation_rule.clone())
        };
        if old.as_ref().map(counts) != new.as_ref().map(counts) {
            keys.extend(Self::all(view));
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        let made = view.cluster_roles.iter().filter(|role| role.aggregation_rule.is_some());
        made.map(|role| role.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}
