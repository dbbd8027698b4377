//! The one cache that all controllers share: one watch a kind, and a way to be woken.
//!
//! A controller subscribes with a closure that turns a change into keys of its own
//! queue. The closure runs after the store has the new object, so that whoever is woken
//! finds at least what woke them. Relists (after a lost watch) are turned into changes
//! too, deletions included.

mod attachments;
mod feed;

use std::{
    fmt::Debug,
    hash::Hash,
    panic::{AssertUnwindSafe, catch_unwind},
    sync::Arc,
};

use holdfast_api::snapshot::{
    group::VolumeGroupSnapshotContent,
    volume::{VolumeSnapshot, VolumeSnapshotContent},
};
use k8s_openapi::api::{
    core::v1::{Node, PersistentVolume, PersistentVolumeClaim},
    storage::v1::{CSINode, StorageClass, VolumeAttachment},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::reflector::{ObjectRef, Store, store::Writer},
};
use parking_lot::RwLock;
use serde::de::DeserializeOwned;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use attachments::AttachmentIndex;

/// What happened to one object.
pub(crate) enum Change<K> {
    /// It is there; `old` is what the cache held before.
    Set { old: Option<Arc<K>>, new: Arc<K> },
    /// It is gone.
    Gone(Arc<K>),
}

impl<K> Change<K> {
    /// The object as it is now, or as it last was.
    pub(crate) fn object(&self) -> &Arc<K> {
        match self {
            Self::Set { new, .. } => new,
            Self::Gone(object) => object,
        }
    }

    /// Whether what `part` picks differs from before; always true for a new or gone object.
    pub(crate) fn touches<T: PartialEq>(&self, part: impl Fn(&K) -> T) -> bool {
        match self {
            Self::Set { old: Some(old), new } => part(old) != part(new),
            Self::Set { old: None, .. } | Self::Gone(_) => true,
        }
    }
}

/// Hears of changes; answers false when it wants to hear no more.
type Listener<K> = Box<dyn Fn(&Change<K>) -> bool + Send + Sync>;

/// What a kind must be to be cached.
pub(crate) trait Cached:
    Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static
{
}
impl<K: Resource<DynamicType = ()> + Clone + DeserializeOwned + Debug + Send + Sync + 'static> Cached for K {}

/// One kind's store and its listeners, as one controller sees them.
pub(crate) struct Kind<K: Cached> {
    store: Store<K>,
    listeners: Arc<RwLock<Vec<Listener<K>>>>,
    broken: CancellationToken,
}

impl<K: Cached> Kind<K> {
    fn new() -> (Self, Writer<K>) {
        let writer = Writer::default();
        let (store, broken) = (writer.as_reader(), CancellationToken::new());
        (Self { store, listeners: Arc::default(), broken }, writer)
    }

    fn seen_by(&self, broken: &CancellationToken) -> Self {
        let (store, listeners) = (self.store.clone(), Arc::clone(&self.listeners));
        Self { store, listeners, broken: broken.clone() }
    }

    /// The object as last seen.
    pub(crate) fn get(&self, namespace: Option<&str>, name: &str) -> Option<Arc<K>> {
        let key = ObjectRef::new(name);
        self.store.get(&match namespace {
            Some(namespace) => key.within(namespace),
            None => key,
        })
    }

    pub(crate) fn by_ref(&self, key: &ObjectRef<K>) -> Option<Arc<K>> {
        self.store.get(key)
    }

    pub(crate) fn all(&self) -> Vec<Arc<K>> {
        self.store.state()
    }

    pub(crate) fn filter(&self, predicate: impl Fn(&K) -> bool) -> Vec<Arc<K>> {
        self.store.state_filter(predicate)
    }

    /// Subscribes, and tells of everything that is there already. A listener that panics hears no more, which is said to
    /// the controller that it belongs to and costs the others nothing: they share the task that calls it.
    pub(crate) fn subscribe(&self, listener: impl Fn(&Change<K>) -> bool + Send + Sync + 'static) {
        let broken = self.broken.clone();
        let listener = Arc::new(move |change: &Change<K>| {
            catch_unwind(AssertUnwindSafe(|| listener(change))).unwrap_or_else(|_| {
                broken.cancel();
                false
            })
        });
        let kept = Arc::clone(&listener);
        // In this order an object that comes in between is told of twice, never not at all.
        self.listeners.write().push(Box::new(move |change| kept(change)));
        for new in self.store.state() {
            if !listener(&Change::Set { old: None, new }) {
                return;
            }
        }
    }
}

/// Which kinds are needed: a kind that nobody needs is not watched.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq)]
pub(crate) struct Needs {
    pub claims: bool,
    pub volumes: bool,
    pub classes: bool,
    pub attachments: bool,
    pub csi_nodes: bool,
    pub nodes: bool,
    pub snapshots: bool,
    /// Those of snapshots and of group snapshots.
    pub contents: bool,
}

/// See the module's documentation.
pub(crate) struct Cache {
    pub claims: Kind<PersistentVolumeClaim>,
    pub volumes: Kind<PersistentVolume>,
    pub classes: Kind<StorageClass>,
    pub attachments: Kind<VolumeAttachment>,
    pub csi_nodes: Kind<CSINode>,
    pub nodes: Kind<Node>,
    pub snapshots: Kind<VolumeSnapshot>,
    pub contents: Kind<VolumeSnapshotContent>,
    pub group_contents: Kind<VolumeGroupSnapshotContent>,
    attachment_index: Arc<AttachmentIndex>,
}

impl Cache {
    /// Begins the watches that `needs` asks for as tasks in `tasks`, and waits until each,
    /// those of snapshots aside, has seen everything once. Never gives up on an API server that is not there yet.
    pub(crate) async fn start(client: &Client, needs: Needs, tasks: &mut JoinSet<()>) -> Self {
        let (claims, claim_writer) = Kind::new();
        let (volumes, volume_writer) = Kind::new();
        let (classes, class_writer) = Kind::new();
        let (attachments, attachment_writer) = Kind::new();
        let (csi_nodes, csi_node_writer) = Kind::new();
        let (nodes, node_writer) = Kind::new();
        let (snapshots, snapshot_writer) = Kind::new();
        let (contents, content_writer) = Kind::new();
        let (group_contents, group_content_writer) = Kind::new();
        let attachment_index = Arc::new(AttachmentIndex::default());
        let index = Arc::clone(&attachment_index);
        attachments.subscribe(move |change| {
            index.apply(change);
            true
        });
        let cache = Self {
            claims,
            volumes,
            classes,
            attachments,
            csi_nodes,
            nodes,
            snapshots,
            contents,
            group_contents,
            attachment_index,
        };
        feed(needs.claims, client, &cache.claims, claim_writer, strip, tasks);
        feed(needs.volumes, client, &cache.volumes, volume_writer, strip, tasks);
        feed(needs.classes, client, &cache.classes, class_writer, strip, tasks);
        feed(needs.attachments, client, &cache.attachments, attachment_writer, strip, tasks);
        feed(needs.csi_nodes, client, &cache.csi_nodes, csi_node_writer, strip, tasks);
        feed(needs.nodes, client, &cache.nodes, node_writer, strip_node, tasks);
        feed(needs.snapshots, client, &cache.snapshots, snapshot_writer, strip, tasks);
        feed(needs.contents, client, &cache.contents, content_writer, strip, tasks);
        feed(needs.contents, client, &cache.group_contents, group_content_writer, strip, tasks);
        // The snapshot kinds are not waited for: in Kubernetes they are there only once somebody has
        // installed their definitions, and the other jobs need not stand still until then.
        ready(needs.claims, &cache.claims).await;
        ready(needs.volumes, &cache.volumes).await;
        ready(needs.classes, &cache.classes).await;
        ready(needs.attachments, &cache.attachments).await;
        ready(needs.csi_nodes, &cache.csi_nodes).await;
        ready(needs.nodes, &cache.nodes).await;
        cache
    }

    /// The same for one life of one controller: `broken` is cancelled when one of its listeners panics.
    pub(crate) fn seen_by(&self, broken: &CancellationToken) -> Self {
        Self {
            claims: self.claims.seen_by(broken),
            volumes: self.volumes.seen_by(broken),
            classes: self.classes.seen_by(broken),
            attachments: self.attachments.seen_by(broken),
            csi_nodes: self.csi_nodes.seen_by(broken),
            nodes: self.nodes.seen_by(broken),
            snapshots: self.snapshots.seen_by(broken),
            contents: self.contents.seen_by(broken),
            group_contents: self.group_contents.seen_by(broken),
            attachment_index: Arc::clone(&self.attachment_index),
        }
    }

    /// The nodes that a `VolumeAttachment` ties the volume to, by the volume's name.
    pub(crate) fn attached_to(&self, volume: &str) -> Vec<String> {
        self.attachment_index.nodes(volume)
    }
}

fn feed<K: Cached>(
    needed: bool,
    client: &Client,
    kind: &Kind<K>,
    writer: Writer<K>,
    strip: fn(&mut K),
    tasks: &mut JoinSet<()>,
) where
    ObjectRef<K>: Eq + Hash,
{
    if needed {
        let api: Api<K> = Api::all(client.clone());
        tasks.spawn(feed::feed(api, kind.store.clone(), writer, Arc::clone(&kind.listeners), strip));
    }
}

async fn ready<K: Cached>(needed: bool, kind: &Kind<K>) {
    if needed {
        // An error means that the feeding task is gone, which the supervisor sees by itself.
        let _ = kind.store.wait_until_ready().await;
    }
}

/// The annotation in which `kubectl apply` keeps a whole copy of the object.
const LAST_APPLIED: &str = "kubectl.kubernetes.io/last-applied-configuration";

/// Drops what no controller reads. Objects from the cache are therefore never written
/// back whole: all writes are patches of single fields.
fn strip<K: Resource>(object: &mut K) {
    object.managed_fields_mut().clear();
    if let Some(annotations) = object.meta_mut().annotations.as_mut() {
        annotations.remove(LAST_APPLIED);
    }
}

/// Of a node only its name and labels matter here; its status is large and changes often.
fn strip_node(node: &mut Node) {
    strip(node);
    node.spec = None;
    node.status = None;
    node.metadata.annotations = None;
}
