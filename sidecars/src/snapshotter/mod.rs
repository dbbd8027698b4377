//! Takes the snapshots that contents ask for, tells how they are, and deletes them.

mod apply;
mod decide;
#[cfg(test)]
mod order_tests;
mod parameters;
mod reason;

use std::{collections::HashSet, sync::Arc};

use holdfast_api::snapshot::{
    names,
    volume::{VolumeSnapshotContent, VolumeSnapshotContentSpec},
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::{
    decide::{Action, Class, Progress, View},
    reason::Reason,
};
use crate::{
    cache::Change,
    context::{Context, MOST_STEPS},
    queue::{Outcome, Queue, run_workers},
};

type Key = ObjectRef<VolumeSnapshotContent>;

struct Snapshotter {
    context: Arc<Context>,
    extra_create_metadata: bool,
    /// Contents (by UID) with an intent of this process, since which every CreateSnapshot was refused.
    clear: Mutex<HashSet<String>>,
}

/// Runs until cancelled; ends early only when a worker panics.
pub(crate) async fn run(
    context: Arc<Context>,
    extra_create_metadata: bool,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError> {
    let queue: Arc<Queue<Key>> = context.queue("snapshots");
    let me = Arc::new(Snapshotter { context, extra_create_metadata, clear: Mutex::default() });
    listen(&me, &queue);
    run_workers(queue, workers, cancel, move |key| {
        let me = Arc::clone(&me);
        async move { me.sync(&key).await }
    })
    .await
}

/// Which changes wake what. What we write ourselves does not: that would cut our own backoff short.
fn listen(me: &Arc<Snapshotter>, queue: &Arc<Queue<Key>>) {
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    me.context.cache.contents.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let content = change.object();
        if matches!(change, Change::Gone(_)) {
            me.clear.lock().remove(&content.uid().unwrap_or_default());
        } else if content.spec.driver == me.context.facts.name && change.touches(trigger) {
            queue.add(ObjectRef::from_obj(&**content));
        }
        true
    });
}

type Trigger = (VolumeSnapshotContentSpec, bool, Vec<Option<String>>);

fn trigger(content: &VolumeSnapshotContent) -> Trigger {
    let annotations = [names::BEING_DELETED, names::SECRET_NAME, names::SECRET_NAMESPACE];
    (
        content.spec.clone(),
        content.metadata.deletion_timestamp.is_some(),
        annotations.iter().map(|key| content.annotations().get(*key).cloned()).collect(),
    )
}

impl Snapshotter {
    #[tracing::instrument(name = "snapshot", skip_all, fields(content = %key.name))]
    async fn sync(&self, key: &Key) -> Outcome {
        let Some(content) = self.context.cache.contents.by_ref(key) else { return Outcome::Done };
        let uid = content.uid().unwrap_or_default();
        let mut view = View {
            facts: Arc::clone(&self.context.facts),
            extra_create_metadata: self.extra_create_metadata,
            content: Some(Arc::clone(&content)),
            live: false,
            class: Class::NotAsked,
            clear: self.clear.lock().contains(&uid),
            progress: Progress::Begun,
        };
        for _ in 0..MOST_STEPS {
            let action = decide::decide(&view);
            self.context.teller.tell(&*content, action.reason());
            let outcome = match &action {
                Action::Rest(_) => Some(Outcome::Done),
                Action::Retry(_) => Some(Outcome::Retry),
                _ => None,
            };
            if matches!(action, Action::Create { .. }) {
                // Also if this task ends before the answer comes.
                self.clear.lock().remove(&uid);
            }
            let applied = apply::apply(&self.context, &mut view, action).await;
            if view.clear {
                self.clear.lock().insert(uid.clone());
            } else {
                self.clear.lock().remove(&uid);
            }
            if let Err(error) = applied {
                self.context.teller.tell(&*content, &Reason::Blocked((&error).into()));
                return Outcome::Retry;
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Retry
    }
}
