//! What the controllers see: one typed copy of the objects they decide on, kept
//! by one watch on the store and shared by all of them. Every object is decoded
//! once, when it changes.

mod facts;
mod feed;
#[cfg(test)]
mod feed_tests;
#[cfg(test)]
pub(crate) mod fixture;
mod inbox;
mod order;
mod shelf;
#[cfg(test)]
mod tests;

use std::collections::{BTreeMap, BTreeSet};

use holdfast_api::snapshot::{
    group::{VolumeGroupSnapshot, VolumeGroupSnapshotClass, VolumeGroupSnapshotContent},
    volume::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent},
};
use k8s_openapi::Metadata;
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::{Namespace, Node, PersistentVolume, PersistentVolumeClaim, Pod, ServiceAccount},
    rbac::v1::ClusterRole,
    storage::v1::{CSIDriver, CSINode, StorageClass, VolumeAttachment, VolumeAttributesClass},
};
use k8s_openapi::apimachinery::pkg::apis::meta::v1::ObjectMeta;
use serde::de::DeserializeOwned;

use crate::store::{ChangeKind, Key, Object};

pub(crate) use facts::*;
pub(crate) use feed::{Index, feed};
pub(crate) use inbox::{Inbox, Mail};
pub(crate) use order::{Slot, is_free, modes_mask};
pub(crate) use shelf::{At, Seen, Shared, Shelf};

/// What one object says about another, followed backwards: from the claim to
/// the pods that use it, and so on.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Relation {
    /// Claim → pods that name it.
    UsedBy,
    /// Node → pods bound to it.
    Runs,
    /// Claim → volumes whose `claimRef` names it.
    ReservedIn,
    /// Volume → claims whose `volumeName` is it.
    NamedBy,
    /// Class → claims of it that have no volume yet.
    WantedBy,
    /// Node → claims without a volume for which it was chosen.
    ChosenFor,
    /// Node → attachments on it.
    Attached,
    /// Volume → attachments of it.
    AttachedAs,
    /// VolumeAttributesClass → claims and volumes that have it, or are to have it.
    ShapedBy,
    /// The empty key → pods that no node was chosen for.
    Unscheduled,
    /// Claim → snapshots of it.
    SnapshotAs,
    /// Snapshot → claims without a volume that are to be filled from it.
    RestoredIn,
    /// Snapshot → contents that say they are its.
    ContentOf,
    /// Content → snapshots that are to be of it.
    SnapshotBy,
    /// Snapshot class → snapshots of it. The empty key → snapshots without a class.
    SnapshotClassOf,
    /// Namespace → group snapshots of its claims that are not cut yet.
    OpenGroupIn,
    /// Group snapshot → snapshots that are part of it.
    MemberOf,
    /// A driver's group (see [`group_handle_key`]) → contents that are part of it.
    InGroup,
    /// A driver's group → group contents that stand for it.
    GroupContentOf,
    /// Group content → group snapshots that are to be of it.
    GroupBy,
}

/// Everything the controllers decide on, at one revision. Plain data.
#[derive(Debug, Default)]
pub(crate) struct View {
    /// All changes up to here are in.
    pub(crate) revision: u64,
    pub(crate) claims: Shelf<PersistentVolumeClaim>,
    pub(crate) volumes: Shelf<PersistentVolume>,
    pub(crate) classes: Shelf<StorageClass>,
    pub(crate) attributes_classes: Shelf<VolumeAttributesClass>,
    pub(crate) pods: Shelf<Pod>,
    pub(crate) nodes: Shelf<Node>,
    pub(crate) leases: Shelf<Lease>,
    pub(crate) attachments: Shelf<VolumeAttachment>,
    pub(crate) drivers: Shelf<CSIDriver>,
    pub(crate) csi_nodes: Shelf<CSINode>,
    pub(crate) namespaces: Shelf<Namespace>,
    pub(crate) cluster_roles: Shelf<ClusterRole>,
    pub(crate) accounts: Shelf<ServiceAccount>,
    pub(crate) snapshots: Shelf<VolumeSnapshot>,
    pub(crate) contents: Shelf<VolumeSnapshotContent>,
    pub(crate) snapshot_classes: Shelf<VolumeSnapshotClass>,
    pub(crate) groups: Shelf<VolumeGroupSnapshot>,
    pub(crate) group_contents: Shelf<VolumeGroupSnapshotContent>,
    pub(crate) group_classes: Shelf<VolumeGroupSnapshotClass>,
    /// Volumes that no claim has, by what they offer.
    pub(crate) free: order::FreeVolumes,
    /// Claims that have no volume, by what they ask for.
    pub(crate) pending: order::PendingClaims,
    links: BTreeMap<(Relation, Key), BTreeSet<Key>>,
}

/// One object before and after a change.
#[derive(Debug, Clone)]
pub(crate) struct Delta<T> {
    pub(crate) key: Key,
    pub(crate) old: Option<Shared<T>>,
    pub(crate) new: Option<Shared<T>>,
}

impl<T> Delta<T> {
    /// The object before and after, where it was there.
    pub(crate) fn both(&self) -> impl Iterator<Item = &Shared<T>> {
        self.old.iter().chain(&self.new)
    }
}

/// Which object changed, and how.
#[derive(Debug, Clone)]
pub(crate) enum Touched {
    Claim(Delta<PersistentVolumeClaim>),
    Volume(Delta<PersistentVolume>),
    Class(Delta<StorageClass>),
    AttributesClass(Delta<VolumeAttributesClass>),
    Pod(Delta<Pod>),
    Node(Delta<Node>),
    Lease(Delta<Lease>),
    Attachment(Delta<VolumeAttachment>),
    Driver(Delta<CSIDriver>),
    CsiNode(Delta<CSINode>),
    Namespace(Delta<Namespace>),
    ClusterRole(Delta<ClusterRole>),
    Account(Delta<ServiceAccount>),
    Snapshot(Delta<VolumeSnapshot>),
    Content(Delta<VolumeSnapshotContent>),
    SnapshotClass(Delta<VolumeSnapshotClass>),
    Group(Delta<VolumeGroupSnapshot>),
    GroupContent(Delta<VolumeGroupSnapshotContent>),
    GroupClass(Delta<VolumeGroupSnapshotClass>),
}

/// The resources that the view holds.
pub(crate) const RESOURCES: [&str; 19] = [
    CLAIMS,
    VOLUMES,
    CLASSES,
    ATTRIBUTES_CLASSES,
    PODS,
    NODES,
    LEASES,
    ATTACHMENTS,
    DRIVERS,
    CSI_NODES,
    NAMESPACES,
    CLUSTER_ROLES,
    ACCOUNTS,
    SNAPSHOTS,
    CONTENTS,
    SNAPSHOT_CLASSES,
    GROUPS,
    GROUP_CONTENTS,
    GROUP_CLASSES,
];

impl View {
    /// Keys related to `key`, in order.
    pub(crate) fn related<'a>(
        &'a self,
        relation: Relation,
        key: &Key,
    ) -> impl Iterator<Item = &'a Key> + use<'a> {
        self.links.get(&(relation, key.clone())).into_iter().flatten()
    }

    /// Pods that use a claim, whatever their state.
    pub(crate) fn pods_of_claim(&self, claim: &Key) -> impl Iterator<Item = &Shared<Pod>> {
        self.related(Relation::UsedBy, claim).filter_map(|key| self.pods.at(key))
    }

    /// Takes one object in, or out. `None` when the change is older than what is
    /// known, of no known resource, or cannot be decoded.
    pub(crate) fn apply(&mut self, kind: ChangeKind, revision: u64, object: &Object) -> Option<Touched> {
        self.revision = self.revision.max(revision);
        match &*object.key.resource {
            CLAIMS => self.turn::<PersistentVolumeClaim>(kind, revision, object).map(Touched::Claim),
            VOLUMES => self.turn::<PersistentVolume>(kind, revision, object).map(Touched::Volume),
            CLASSES => self.turn::<StorageClass>(kind, revision, object).map(Touched::Class),
            ATTRIBUTES_CLASSES => {
                self.turn::<VolumeAttributesClass>(kind, revision, object).map(Touched::AttributesClass)
            }
            PODS => self.turn::<Pod>(kind, revision, object).map(Touched::Pod),
            NODES => self.turn::<Node>(kind, revision, object).map(Touched::Node),
            LEASES => self.turn::<Lease>(kind, revision, object).map(Touched::Lease),
            ATTACHMENTS => self.turn::<VolumeAttachment>(kind, revision, object).map(Touched::Attachment),
            DRIVERS => self.turn::<CSIDriver>(kind, revision, object).map(Touched::Driver),
            CSI_NODES => self.turn::<CSINode>(kind, revision, object).map(Touched::CsiNode),
            NAMESPACES => self.turn::<Namespace>(kind, revision, object).map(Touched::Namespace),
            CLUSTER_ROLES => self.turn::<ClusterRole>(kind, revision, object).map(Touched::ClusterRole),
            ACCOUNTS => self.turn::<ServiceAccount>(kind, revision, object).map(Touched::Account),
            SNAPSHOTS => self.turn::<VolumeSnapshot>(kind, revision, object).map(Touched::Snapshot),
            CONTENTS => self.turn::<VolumeSnapshotContent>(kind, revision, object).map(Touched::Content),
            SNAPSHOT_CLASSES => {
                self.turn::<VolumeSnapshotClass>(kind, revision, object).map(Touched::SnapshotClass)
            }
            GROUPS => self.turn::<VolumeGroupSnapshot>(kind, revision, object).map(Touched::Group),
            GROUP_CONTENTS => {
                self.turn::<VolumeGroupSnapshotContent>(kind, revision, object).map(Touched::GroupContent)
            }
            GROUP_CLASSES => {
                self.turn::<VolumeGroupSnapshotClass>(kind, revision, object).map(Touched::GroupClass)
            }
            _ => None,
        }
    }

    fn turn<T: Indexed>(&mut self, kind: ChangeKind, revision: u64, object: &Object) -> Option<Delta<T>> {
        let key = &object.key;
        let known = T::shelf(self).at(key).map(|seen| seen.revision);
        if known.is_some_and(|known| known > revision || (known == revision && kind != ChangeKind::Deleted)) {
            return None;
        }
        let new = match kind {
            ChangeKind::Deleted => None,
            // An object that cannot be read is not absent: what was known of it stays.
            ChangeKind::Created | ChangeKind::Updated => match object.decode::<T>() {
                Ok(mut decoded) => {
                    // Often the larger part of an object, and nothing that is decided on.
                    decoded.metadata_mut().managed_fields = None;
                    let (revision, uid) = (object.revision, object.uid.clone());
                    Some(Shared::new(Seen { key: key.clone(), revision, uid, object: decoded }))
                }
                Err(error) => {
                    tracing::error!(%key, %error, "an object in the store does not fit its type; it is left as it was");
                    return None;
                }
            },
        };
        let old = match &new {
            Some(new) => T::shelf(self).put(Shared::clone(new)),
            None => T::shelf(self).take(key),
        };
        if let Some(old) = &old {
            for (relation, to) in T::links(old) {
                let at = (relation, to);
                if let Some(keys) = self.links.get_mut(&at) {
                    keys.remove(key);
                    if keys.is_empty() {
                        self.links.remove(&at);
                    }
                }
            }
            T::order(self, old, false);
        }
        if let Some(new) = &new {
            for at in T::links(new) {
                self.links.entry(at).or_default().insert(key.clone());
            }
            T::order(self, new, true);
        }
        Some(Delta { key: key.clone(), old, new })
    }
}

/// The key that all unscheduled pods are related to.
pub(crate) fn nowhere() -> Key {
    Key::new("", "", "")
}

/// How one type of object is held in the view.
trait Indexed: DeserializeOwned + Metadata<Ty = ObjectMeta> {
    fn shelf(view: &mut View) -> &mut Shelf<Self>;

    fn links(_seen: &Seen<Self>) -> Vec<(Relation, Key)> {
        Vec::new()
    }

    /// Takes the object into the ordered indexes, or out of them.
    fn order(_view: &mut View, _seen: &Shared<Self>, _present: bool) {}
}

impl Indexed for PersistentVolumeClaim {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.claims
    }

    fn links(claim: &Seen<Self>) -> Vec<(Relation, Key)> {
        let shaped = claim_attributes(claim).map(|name| (Relation::ShapedBy, attributes_class_key(name)));
        if let Some(volume) = claim_volume(claim) {
            return shaped.chain([(Relation::NamedBy, volume_key(volume))]).collect();
        }
        let class = holdfast_api::access::claim_class(claim).unwrap_or_default();
        let node = annotation(&claim.metadata, holdfast_api::names::SELECTED_NODE).map(node_key);
        let node = node.map(|node| (Relation::ChosenFor, node));
        let source = claim_source(claim).map(|snapshot| (Relation::RestoredIn, snapshot));
        let wanted = (Relation::WantedBy, Key::new(CLASSES, "", class));
        shaped.chain([wanted]).chain(node).chain(source).collect()
    }

    fn order(view: &mut View, claim: &Shared<Self>, present: bool) {
        view.pending.turn(claim, present);
    }
}

impl Indexed for PersistentVolume {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.volumes
    }

    fn links(volume: &Seen<Self>) -> Vec<(Relation, Key)> {
        let shaped = volume_attributes(volume).map(|name| (Relation::ShapedBy, attributes_class_key(name)));
        let claim = claim_ref(volume).map(|to| (Relation::ReservedIn, claim_ref_key(to)));
        claim.into_iter().chain(shaped).collect()
    }

    fn order(view: &mut View, volume: &Shared<Self>, present: bool) {
        view.free.turn(volume, present);
    }
}

impl Indexed for Pod {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.pods
    }

    fn links(pod: &Seen<Self>) -> Vec<(Relation, Key)> {
        let namespace = &pod.key.namespace;
        let claims = pod_claims(pod).into_iter().map(|(name, _)| claim_key(namespace, &name));
        let place = match pod_node(pod) {
            Some(node) => (Relation::Runs, node_key(node)),
            None => (Relation::Unscheduled, nowhere()),
        };
        claims.map(|claim| (Relation::UsedBy, claim)).chain([place]).collect()
    }
}

impl Indexed for VolumeAttachment {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.attachments
    }

    fn links(attachment: &Seen<Self>) -> Vec<(Relation, Key)> {
        let node = (Relation::Attached, node_key(&attachment.spec.node_name));
        let volume = attachment.spec.source.persistent_volume_name.as_deref();
        volume.map(|name| (Relation::AttachedAs, volume_key(name))).into_iter().chain([node]).collect()
    }
}

impl Indexed for VolumeAttributesClass {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.attributes_classes
    }
}

impl Indexed for StorageClass {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.classes
    }
}

impl Indexed for Node {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.nodes
    }
}

impl Indexed for Lease {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.leases
    }
}

impl Indexed for CSIDriver {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.drivers
    }
}

impl Indexed for CSINode {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.csi_nodes
    }
}

impl Indexed for ClusterRole {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.cluster_roles
    }
}

impl Indexed for Namespace {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.namespaces
    }
}

impl Indexed for ServiceAccount {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.accounts
    }
}

impl Indexed for VolumeSnapshot {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.snapshots
    }

    fn links(snapshot: &Seen<Self>) -> Vec<(Relation, Key)> {
        let source = &snapshot.spec.source;
        let claim = source.persistent_volume_claim_name.as_deref();
        let claim = claim.map(|name| (Relation::SnapshotAs, claim_key(&snapshot.key.namespace, name)));
        let content = source.volume_snapshot_content_name.as_deref();
        let content = content.map(|name| (Relation::SnapshotBy, content_key(name)));
        let class = snapshot.spec.volume_snapshot_class_name.as_deref().unwrap_or_default();
        let class = (Relation::SnapshotClassOf, snapshot_class_key(class));
        let group = snapshot_group(snapshot).map(|group| (Relation::MemberOf, group));
        claim.into_iter().chain(content).chain([class]).chain(group).collect()
    }
}

impl Indexed for VolumeSnapshotContent {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.contents
    }

    fn links(content: &Seen<Self>) -> Vec<(Relation, Key)> {
        let handle = content.status.as_ref().and_then(|s| s.volume_group_snapshot_handle.as_deref());
        let group = handle.map(|handle| (Relation::InGroup, group_handle_key(&content.spec.driver, handle)));
        group.into_iter().chain([(Relation::ContentOf, content_snapshot(content))]).collect()
    }
}

impl Indexed for VolumeSnapshotClass {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.snapshot_classes
    }
}

impl Indexed for VolumeGroupSnapshot {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.groups
    }

    fn links(group: &Seen<Self>) -> Vec<(Relation, Key)> {
        let content = group.spec.source.volume_group_snapshot_content_name.as_deref();
        let content = content.map(|name| (Relation::GroupBy, group_content_key(name)));
        let is_open = content.is_none() && !is_cut(group);
        let open = is_open.then(|| (Relation::OpenGroupIn, namespace_key(&group.key.namespace)));
        content.into_iter().chain(open).collect()
    }
}

impl Indexed for VolumeGroupSnapshotContent {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.group_contents
    }

    fn links(content: &Seen<Self>) -> Vec<(Relation, Key)> {
        let group = group_handle(content).map(|handle| group_handle_key(&content.spec.driver, handle));
        group.map(|group| (Relation::GroupContentOf, group)).into_iter().collect()
    }
}

impl Indexed for VolumeGroupSnapshotClass {
    fn shelf(view: &mut View) -> &mut Shelf<Self> {
        &mut view.group_classes
    }
}
