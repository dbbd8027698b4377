//! Attach-detach: which volumes are attached to which node.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod reason;
mod release;

use std::collections::BTreeSet;

use holdfast_api::nodes;
use k8s_openapi::api::{core::v1::Node, storage::v1::CSIDriver};

pub(super) use {apply::apply, decide::decide};

use super::{
    engine::{Controller, Io, Outcome},
    view::{
        Delta, Relation, Shared, Touched, View, claim_ref, claim_ref_key, node_key, pod_node, volume_key,
    },
};
use crate::store::Key;

pub(crate) struct AttachDetach;

/// The nodes on which pods use a claim.
fn nodes_of_claim(view: &View, claim: &Key, keys: &mut BTreeSet<Key>) {
    keys.extend(view.pods_of_claim(claim).filter_map(|pod| pod_node(pod)).map(node_key));
}

fn nodes_of_volume(view: &View, volume: &Key, keys: &mut BTreeSet<Key>) {
    if let Some(reference) = view.volumes.at(volume).and_then(|volume| claim_ref(volume)) {
        nodes_of_claim(view, &claim_ref_key(reference), keys);
    }
}

impl Controller for AttachDetach {
    const NAME: &'static str = "attach-detach";
    /// One: two nodes that both want a volume for one writer must not both get it.
    const WORKERS: usize = 1;

    fn wake(view: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Pod(delta) => keys.extend(delta.both().filter_map(|pod| pod_node(pod)).map(node_key)),
            Touched::Node(delta) => {
                keys.insert(delta.key.clone());
                // Another node may have waited for this one to let go of a volume, or learns why it waits.
                let says = |node: &Option<Shared<Node>>| {
                    let node = node.as_ref()?;
                    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.clone());
                    Some((in_use, nodes::is_ready(node), nodes::says_out_of_service(node)))
                };
                if says(&delta.old) != says(&delta.new) {
                    keys.extend(Self::all(view));
                }
            }
            Touched::Claim(delta) => nodes_of_claim(view, &delta.key, keys),
            Touched::Volume(delta) => {
                nodes_of_volume(view, &delta.key, keys);
                let attachments = view.related(Relation::AttachedAs, &delta.key);
                let attachments = attachments.filter_map(|key| view.attachments.at(key));
                keys.extend(attachments.map(|attachment| node_key(&attachment.spec.node_name)));
            }
            Touched::Attachment(delta) => {
                for attachment in delta.both() {
                    keys.insert(node_key(&attachment.spec.node_name));
                    // Another node may have waited for this one to go.
                    if let Some(volume) = &attachment.spec.source.persistent_volume_name {
                        nodes_of_volume(view, &volume_key(volume), keys);
                    }
                }
            }
            Touched::Driver(Delta { old, new, .. }) => {
                let required =
                    |driver: &Option<Shared<CSIDriver>>| driver.as_ref().and_then(|d| d.spec.attach_required);
                if required(old) != required(new) {
                    keys.extend(Self::all(view));
                }
            }
            _ => {}
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.nodes.iter().map(|node| node.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let actions = io.index.read(|view| decide(view, key));
        if actions.is_empty() {
            return Outcome::Settled;
        }
        apply(io, actions).await
    }
}
