//! Attaches volumes to nodes and detaches them, as `VolumeAttachment`s ask.

mod apply;
mod decide;
mod reason;

use std::sync::Arc;

use k8s_openapi::api::{
    core::v1::PersistentVolume,
    storage::v1::{CSINode, VolumeAttachment},
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::decide::{Action, Progress, View};
use crate::{
    cache::Change,
    context::{Context, MOST_STEPS},
    queue::{Outcome, Queue, run_workers},
};

/// What a worker looks at.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
enum Key {
    Attachment(ObjectRef<VolumeAttachment>),
    Volume(ObjectRef<PersistentVolume>),
}

struct Attacher {
    context: Arc<Context>,
    /// For a volume whose object names no file system.
    default_fs_type: Arc<str>,
}

/// Runs until cancelled; ends early only when a worker panics.
pub(crate) async fn run(
    context: Arc<Context>,
    default_fs_type: String,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError> {
    let queue: Arc<Queue<Key>> = context.queue("attachments");
    let me = Arc::new(Attacher { context, default_fs_type: default_fs_type.into() });
    listen(&me, &queue);
    run_workers(queue, workers, cancel, move |key| {
        let me = Arc::clone(&me);
        async move {
            match key {
                Key::Attachment(key) => me.sync_attachment(&key).await,
                Key::Volume(key) => me.sync_volume(&key).await,
            }
        }
    })
    .await
}

fn is_attached(attachment: &VolumeAttachment) -> bool {
    attachment.status.as_ref().is_some_and(|status| status.attached)
}

fn node_id(csi_node: &CSINode, driver: &str) -> Option<String> {
    let registered = csi_node.spec.drivers.iter().find(|entry| entry.name == driver)?;
    Some(registered.node_id.clone())
}

/// Which changes wake what. Errors that we write into a status wake nobody: they would
/// cut the backoff short that they belong to.
fn listen(me: &Arc<Attacher>, queue: &Arc<Queue<Key>>) {
    let cache = &me.context.cache;
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    cache.attachments.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let attachment = change.object();
        if attachment.spec.attacher != me.context.facts.name {
            return true;
        }
        match change {
            Change::Gone(_) => {
                if let Some(volume) = &attachment.spec.source.persistent_volume_name {
                    queue.add(Key::Volume(ObjectRef::new(volume)));
                }
            }
            Change::Set { .. } => {
                let part =
                    |a: &VolumeAttachment| (a.uid(), a.metadata.deletion_timestamp.is_some(), is_attached(a));
                if change.touches(part) {
                    queue.add(Key::Attachment(ObjectRef::from_obj(&**attachment)));
                }
            }
        }
        true
    });
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    cache.volumes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let volume = change.object();
        if decide::handle_of(volume, &me.context.facts.name).is_none() {
            return true;
        }
        if volume.metadata.deletion_timestamp.is_some() {
            queue.add(Key::Volume(ObjectRef::from_obj(&**volume)));
        } else if matches!(change, Change::Set { old: None, .. }) {
            let name = volume.name_any();
            me.wake(&queue, |a| a.spec.source.persistent_volume_name.as_deref() == Some(name.as_str()));
        }
        true
    });
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    cache.csi_nodes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let driver = &me.context.facts.name;
        if change.touches(|csi_node| node_id(csi_node, driver)) {
            let name = change.object().name_any();
            me.wake(&queue, |a| a.spec.node_name == name);
        }
        true
    });
}

impl Attacher {
    /// Wakes the attachments that still wait for something and that `which` picks.
    fn wake(&self, queue: &Queue<Key>, which: impl Fn(&VolumeAttachment) -> bool) {
        let waiting = self.context.cache.attachments.filter(|a| {
            let open = !is_attached(a) || a.metadata.deletion_timestamp.is_some();
            open && a.spec.attacher == self.context.facts.name && which(a)
        });
        for attachment in waiting {
            queue.add(Key::Attachment(ObjectRef::from_obj(&*attachment)));
        }
    }

    #[tracing::instrument(name = "attach", skip_all, fields(attachment = %key.name))]
    async fn sync_attachment(&self, key: &ObjectRef<VolumeAttachment>) -> Outcome {
        let cache = &self.context.cache;
        let Some(attachment) = cache.attachments.by_ref(key) else { return Outcome::Done };
        let volume_name = attachment.spec.source.persistent_volume_name.as_deref();
        let csi_node = cache.csi_nodes.get(None, &attachment.spec.node_name);
        let mut view = View {
            facts: Arc::clone(&self.context.facts),
            default_fs_type: Arc::clone(&self.default_fs_type),
            volume: volume_name.and_then(|name| cache.volumes.get(None, name)),
            node_id: csi_node.and_then(|csi_node| node_id(&csi_node, &self.context.facts.name)),
            attachment: Some(Arc::clone(&attachment)),
            progress: Progress::Begun,
        };
        for _ in 0..MOST_STEPS {
            let action = decide::decide(&view);
            self.context.teller.tell(&*attachment, action.reason());
            let outcome = match &action {
                Action::Rest(_) => Some(Outcome::Done),
                Action::Retry(_) => Some(Outcome::Retry),
                _ => None,
            };
            if let Err(error) = apply::apply(&self.context, &mut view, action).await {
                if !error.is_conflict() {
                    tracing::warn!(attachment = %key.name, %error, "cannot go on with the attachment: trying again");
                }
                return Outcome::Retry;
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Retry
    }

    /// A volume being deleted waits for us until nothing is attached any more.
    #[tracing::instrument(name = "release", skip_all, fields(volume = %key.name))]
    async fn sync_volume(&self, key: &ObjectRef<PersistentVolume>) -> Outcome {
        let cache = &self.context.cache;
        let Some(volume) = cache.volumes.by_ref(key) else { return Outcome::Done };
        if !decide::may_let_go(&volume, &self.context.facts.name, !cache.attached_to(&key.name).is_empty()) {
            return Outcome::Done;
        }
        match apply::let_go(&self.context, &volume).await {
            Ok(()) => Outcome::Done,
            Err(error) => {
                tracing::warn!(volume = %key.name, %error, "cannot take the attacher's finalizer off: trying again");
                Outcome::Retry
            }
        }
    }
}
