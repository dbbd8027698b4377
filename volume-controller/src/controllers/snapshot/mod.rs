//! Snapshots: which content a snapshot has, and who may not go before whom. What is done in the
//! storage is the snapshotter's, beside the driver.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod reason;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use holdfast_api::snapshot::{
    names::CLAIM_AS_SOURCE,
    volume::{VolumeSnapshot, VolumeSnapshotContent},
};

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Relation, Seen, Touched, View, claim_key, claim_ref, claim_ref_key, claim_source, content_key,
        content_snapshot, has_finalizer, snapshot_class_key,
    },
};
use crate::store::Key;

pub(crate) struct Snapshots;

impl Controller for Snapshots {
    const NAME: &'static str = "snapshot-controller";
    const WORKERS: usize = 16;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Snapshot(delta) => {
                keys.insert(delta.key.clone());
                // What the snapshot held may go now.
                keys.extend(delta.both().filter_map(|snapshot| claim_of(snapshot)));
                keys.extend(delta.both().filter_map(|snapshot| content_of(snapshot)));
            }
            Touched::Content(delta) => {
                keys.insert(delta.key.clone());
                keys.extend(delta.both().map(|content| content_snapshot(content)));
                keys.extend(view.related(Relation::SnapshotBy, &delta.key).cloned());
            }
            Touched::SnapshotClass(delta) => {
                for class in [&delta.key, &snapshot_class_key("")] {
                    keys.extend(view.related(Relation::SnapshotClassOf, class).cloned());
                }
            }
            Touched::Claim(delta) => {
                // Of every claim's life only this much is of interest here.
                keys.extend(view.related(Relation::SnapshotAs, &delta.key).cloned());
                keys.extend(delta.both().filter_map(|claim| claim_source(claim)));
                if delta.both().any(|claim| has_finalizer(&claim.metadata, CLAIM_AS_SOURCE)) {
                    keys.insert(delta.key.clone());
                }
            }
            Touched::Volume(delta) => {
                for reference in delta.both().filter_map(|volume| claim_ref(volume)) {
                    keys.extend(view.related(Relation::SnapshotAs, &claim_ref_key(reference)).cloned());
                }
            }
            Touched::Driver(delta) => keys.extend(contents_of(view, &delta.key.name)),
            Touched::CsiNode(delta) => {
                for driver in delta.both().flat_map(|node| &node.spec.drivers) {
                    keys.extend(contents_of(view, &driver.name));
                }
            }
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        let snapshots = view.snapshots.iter().map(|snapshot| snapshot.key.clone());
        let contents = view.contents.iter().map(|content| content.key.clone());
        let held = view.claims.iter().filter(|claim| has_finalizer(&claim.metadata, CLAIM_AS_SOURCE));
        snapshots.chain(contents).chain(held.map(|claim| claim.key.clone())).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}

fn claim_of(snapshot: &Seen<VolumeSnapshot>) -> Option<Key> {
    let name = snapshot.spec.source.persistent_volume_claim_name.as_deref()?;
    Some(claim_key(&snapshot.key.namespace, name))
}

fn content_of(snapshot: &Seen<VolumeSnapshot>) -> Option<Key> {
    snapshot.spec.source.volume_snapshot_content_name.as_deref().map(content_key)
}

/// The contents that have waited for a driver; looked for only when one comes or goes.
fn contents_of<'a>(view: &'a View, driver: &'a str) -> impl Iterator<Item = Key> + 'a {
    let is_ready = |content: &VolumeSnapshotContent| {
        content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
    };
    let waiting =
        view.contents.iter().filter(move |content| content.spec.driver == driver && !is_ready(content));
    waiting.map(|content| content.key.clone())
}
