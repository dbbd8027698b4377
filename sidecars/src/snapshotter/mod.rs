//! Takes the snapshots and group snapshots that contents ask for, tells how they are, and deletes them.

mod apply;
mod content;
mod decide;
mod group;
#[cfg(test)]
mod order_tests;
mod parameters;
mod reason;
mod single;

use std::{collections::HashSet, hash::Hash, marker::PhantomData, sync::Arc};

use holdfast_api::snapshot::{group::VolumeGroupSnapshotContent, volume::VolumeSnapshotContent};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::{
    content::Content,
    decide::{Action, Class, Progress, View},
    reason::Reason,
};
use crate::{
    cache::Change,
    context::{Context, MOST_STEPS},
    queue::{Outcome, Queue, run_workers},
};

struct Snapshotter<C> {
    context: Arc<Context>,
    extra_create_metadata: bool,
    /// Contents (by UID) with an intent of this process, since which every call that takes them was refused.
    clear: Mutex<HashSet<String>>,
    of: PhantomData<fn() -> C>,
}

/// Runs until cancelled; ends early only when a worker panics.
pub(crate) async fn run(
    context: Arc<Context>,
    extra_create_metadata: bool,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError> {
    let snapshots =
        run_of::<VolumeSnapshotContent>(Arc::clone(&context), extra_create_metadata, workers, cancel.clone());
    // Also for a driver that takes none: then that is said.
    let groups = run_of::<VolumeGroupSnapshotContent>(context, extra_create_metadata, workers, cancel);
    tokio::try_join!(snapshots, groups).map(|_| ())
}

async fn run_of<C: Content>(
    context: Arc<Context>,
    extra_create_metadata: bool,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError>
where
    ObjectRef<C>: Clone + Eq + Hash + Send + Sync,
{
    let queue: Arc<Queue<ObjectRef<C>>> = context.queue(C::WORDS.queue);
    let clear = Mutex::default();
    let me = Arc::new(Snapshotter { context, extra_create_metadata, clear, of: PhantomData });
    listen(&me, &queue);
    run_workers(queue, workers, cancel, move |key| {
        let me = Arc::clone(&me);
        async move { me.sync(&key).await }
    })
    .await
}

/// Which changes wake what. What we write ourselves does not: that would cut our own backoff short.
fn listen<C: Content>(me: &Arc<Snapshotter<C>>, queue: &Arc<Queue<ObjectRef<C>>>)
where
    ObjectRef<C>: Clone + Eq + Hash + Send + Sync,
{
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    C::cached(&me.context.cache).subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let content = change.object();
        if matches!(change, Change::Gone(_)) {
            me.clear.lock().remove(&content.uid().unwrap_or_default());
        } else if content.driver() == me.context.facts.name && change.touches(trigger) {
            queue.add(ObjectRef::from_obj(&**content));
        }
        true
    });
}

type Trigger<S> = (S, bool, Vec<Option<String>>);

fn trigger<C: Content>(content: &C) -> Trigger<C::Spec> {
    let [name, namespace] = C::WORDS.secret;
    let annotations = [C::WORDS.deleted, name, namespace];
    (
        content.wish().clone(),
        content.meta().deletion_timestamp.is_some(),
        annotations.iter().map(|key| content.annotations().get(*key).cloned()).collect(),
    )
}

impl<C: Content> Snapshotter<C> {
    #[tracing::instrument(name = "snapshot", skip_all, fields(of = C::WORDS.noun, content = %key.name))]
    async fn sync(&self, key: &ObjectRef<C>) -> Outcome {
        let Some(content) = C::cached(&self.context.cache).by_ref(key) else { return Outcome::Done };
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
            self.context.teller.tell(&*content, &action.reason().in_words(C::WORDS));
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
                let blocked = Reason::Blocked((&error).into());
                self.context.teller.tell(&*content, &blocked.in_words(C::WORDS));
                return Outcome::Retry;
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Retry
    }
}
