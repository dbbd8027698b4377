//! Snapshots: which content a snapshot has, and who may not go before whom. What is done in the
//! storage is the snapshotter's, beside the driver.

mod apply;
mod class;
mod decide;
#[cfg(test)]
mod decide_tests;
mod edit;
mod group;
mod keeping;
mod reason;
mod source;
#[cfg(test)]
mod tests;
mod timing;

use std::collections::BTreeSet;

use holdfast_api::snapshot::{
    names::CLAIM_AS_SOURCE,
    volume::{VolumeSnapshot, VolumeSnapshotContent},
};

use decide::Action;
pub(crate) use group::GroupSnapshots;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use timing::Sight;
pub(crate) use timing::Timing;
use tokio::time::Instant;

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Relation, SNAPSHOTS, Seen, Touched, View, claim_key, claim_ref, claim_ref_key, claim_source,
        content_key, content_snapshot, group_handle, group_handle_key, has_finalizer, is_deleting,
        snapshot_class_key,
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
                if delta.both().any(|claim| is_held(claim)) {
                    keys.insert(delta.key.clone());
                }
            }
            Touched::Volume(delta) => {
                for reference in delta.both().filter_map(|volume| claim_ref(volume)) {
                    keys.extend(view.related(Relation::SnapshotAs, &claim_ref_key(reference)).cloned());
                }
            }
            Touched::Group(delta) => {
                // Its snapshots go after it, and claims are held until it is cut.
                keys.extend(view.related(Relation::MemberOf, &delta.key).cloned());
                let claims = view.claims.within(&delta.key.namespace);
                keys.extend(claims.filter(|claim| is_held(claim)).map(|claim| claim.key.clone()));
            }
            Touched::GroupContent(delta) => {
                for content in delta.both() {
                    let Some(handle) = group_handle(content) else { continue };
                    let group = group_handle_key(&content.spec.driver, handle);
                    let members = view.related(Relation::InGroup, &group);
                    let members = members.filter_map(|key| view.contents.at(key));
                    keys.extend(members.map(|content| content_snapshot(content)));
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
        let held = view.claims.iter().filter(|claim| is_held(claim));
        snapshots.chain(contents).chain(held.map(|claim| claim.key.clone())).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let action = io.index.read(|view| {
            let action = decide::decide(view, key);
            if *key.resource == *SNAPSHOTS {
                let sight = view.snapshots.at(key).map(|snapshot| sight(view, snapshot, action.as_ref()));
                io.metrics.snapshots.see(key, sight, Instant::now());
            }
            action
        });
        match action {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}

/// What the metrics are told of a snapshot for which this is to be done.
fn sight<'a>(view: &'a View, snapshot: &'a Seen<VolumeSnapshot>, action: Option<&Action>) -> Sight<'a> {
    let status = snapshot.status.as_ref();
    let content = status.and_then(|status| status.bound_volume_snapshot_content_name.as_deref());
    let content = content.and_then(|name| view.contents.get("", name));
    let waits = matches!(action, Some(Action::Wait { .. }));
    Sight {
        uid: &snapshot.uid,
        driver: content.map(|content| content.spec.driver.as_str()),
        is_dynamic: snapshot.spec.source.persistent_volume_claim_name.is_some(),
        is_cut: status.is_some_and(|status| status.creation_time.is_some()),
        is_ready: status.and_then(|status| status.ready_to_use) == Some(true),
        is_going: is_deleting(&snapshot.metadata) && !waits,
    }
}

fn is_held(claim: &PersistentVolumeClaim) -> bool {
    has_finalizer(&claim.metadata, CLAIM_AS_SOURCE)
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
