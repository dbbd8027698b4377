//! Group snapshots: snapshots of several claims at one moment. Which claims, which content, and
//! the snapshots of a group, which come all at once and go all at once.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
#[cfg(test)]
mod tests;

use std::collections::BTreeSet;

use holdfast_api::{
    selector::Selector,
    snapshot::group::{VolumeGroupSnapshot, VolumeGroupSnapshotContent},
};
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use tokio::time::Instant;

use decide::Action;

use super::timing::Sight;
use crate::{
    controllers::{
        engine::{Controller, Io, Outcome},
        view::{
            GROUPS, Relation, Seen, Touched, View, claim_ref, claim_ref_key, claim_source, content_group,
            group_content_key, is_cut, is_deleting, namespace_key, snapshot_group,
        },
    },
    store::Key,
};

pub(crate) struct GroupSnapshots;

impl Controller for GroupSnapshots {
    const NAME: &'static str = "group-snapshot-controller";
    const WORKERS: usize = 16;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Group(delta) => {
                keys.insert(delta.key.clone());
                let content = |group: &VolumeGroupSnapshot| {
                    group.spec.source.volume_group_snapshot_content_name.as_deref().map(group_content_key)
                };
                keys.extend(delta.both().filter_map(|group| content(group)));
            }
            Touched::GroupContent(delta) => {
                keys.insert(delta.key.clone());
                keys.extend(delta.both().map(|content| content_group(content)));
                keys.extend(view.related(Relation::GroupBy, &delta.key).cloned());
            }
            Touched::GroupClass(delta) => {
                let waits = |group: &VolumeGroupSnapshot| {
                    let class = group.spec.volume_group_snapshot_class_name.as_deref().unwrap_or_default();
                    !is_cut(group) && (class.is_empty() || *class == *delta.key.name)
                };
                let waiting = view.groups.iter().filter(|group| waits(group));
                keys.extend(waiting.map(|group| group.key.clone()));
            }
            Touched::Claim(delta) => {
                for claim in delta.both() {
                    keys.extend(waiting_for(view, claim));
                }
                // What is restored from a snapshot holds its group.
                let sources = delta.both().filter_map(|claim| view.snapshots.at(&claim_source(claim)?));
                keys.extend(sources.filter_map(|snapshot| snapshot_group(snapshot)));
            }
            Touched::Volume(delta) => {
                let claims = delta.both().filter_map(|volume| claim_ref(volume));
                for claim in claims.filter_map(|reference| view.claims.at(&claim_ref_key(reference))) {
                    keys.extend(waiting_for(view, claim));
                }
            }
            Touched::Snapshot(delta) => {
                keys.extend(delta.both().filter_map(|snapshot| snapshot_group(snapshot)));
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
        let groups = view.groups.iter().map(|group| group.key.clone());
        groups.chain(view.group_contents.iter().map(|content| content.key.clone())).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let action = io.index.read(|view| {
            let action = decide::decide(view, key);
            if *key.resource == *GROUPS {
                let sight = view.groups.at(key).map(|group| sight(view, group, action.as_ref()));
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

/// What the metrics are told of a group snapshot for which this is to be done.
fn sight<'a>(view: &'a View, group: &'a Seen<VolumeGroupSnapshot>, action: Option<&Action>) -> Sight<'a> {
    let status = group.status.as_ref();
    let content = status.and_then(|status| status.bound_volume_group_snapshot_content_name.as_deref());
    let content = content.and_then(|name| view.group_contents.get("", name));
    let waits = matches!(action, Some(Action::Wait { .. }));
    Sight {
        uid: &group.uid,
        driver: content.map(|content| content.spec.driver.as_str()),
        is_dynamic: group.spec.source.selector.is_some(),
        is_cut: is_cut(group),
        is_ready: status.and_then(|status| status.ready_to_use) == Some(true),
        is_going: is_deleting(&group.metadata) && !waits,
    }
}

/// The group snapshots that are not begun yet and choose the claim. Those that are begun have chosen.
fn waiting_for(view: &View, claim: &Seen<PersistentVolumeClaim>) -> impl Iterator<Item = Key> {
    let open = view.related(Relation::OpenGroupIn, &namespace_key(&claim.key.namespace));
    open.filter(|key| {
        let Some(group) = view.groups.at(key) else { return false };
        let selector = group.spec.source.selector.as_ref().map(Selector::try_from);
        let chooses = |selector: &Selector| selector.matches_map(claim.metadata.labels.as_ref());
        decide::bound_name(group).is_none() && selector.is_some_and(|read| read.as_ref().is_ok_and(chooses))
    })
    .cloned()
}

/// The contents that have waited for a driver; looked for only when one comes or goes.
fn contents_of<'a>(view: &'a View, driver: &'a str) -> impl Iterator<Item = Key> + 'a {
    let is_ready = |content: &VolumeGroupSnapshotContent| {
        content.status.as_ref().and_then(|status| status.ready_to_use) == Some(true)
    };
    let all = view.group_contents.iter();
    all.filter(move |content| content.spec.driver == driver && !is_ready(content))
        .map(|content| content.key.clone())
}
