//! Grows volumes whose claims ask for more than they have.

mod apply;
mod decide;
mod reason;
mod status;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
};

use holdfast_api::access;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::{Resource, ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::{
    decide::{Action, INFEASIBLE_PAUSE, NodeTry, Progress, View},
    reason::Reason,
};
use crate::{
    cache::Change,
    context::{Context, MOST_STEPS},
    queue::{Outcome, Queue, run_workers},
};

type Key = ObjectRef<PersistentVolumeClaim>;

struct Resizer {
    context: Arc<Context>,
    /// Claims (by UID) whose last ControllerExpandVolume ended for certain: nothing is under way.
    ended: Mutex<HashSet<String>>,
    /// By claim UID; see [`NodeTry`].
    node_tries: Mutex<HashMap<String, NodeTry>>,
}

/// Runs until cancelled; ends early only when a worker panics.
pub(crate) async fn run(
    context: Arc<Context>,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError> {
    let queue: Arc<Queue<Key>> = context.queue("resizes");
    let me = Arc::new(Resizer { context, ended: Mutex::default(), node_tries: Mutex::default() });
    listen(&me, &queue);
    run_workers(queue, workers, cancel, move |key| {
        let me = Arc::clone(&me);
        async move { me.sync(&key).await }
    })
    .await
}

/// Which changes wake what. Of the status only what a node agent writes counts: what we
/// write ourselves would cut our own backoff short.
fn listen(me: &Arc<Resizer>, queue: &Arc<Queue<Key>>) {
    let cache = &me.context.cache;
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    cache.claims.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let claim = change.object();
        let uid = claim.uid().unwrap_or_default();
        if matches!(change, Change::Gone(_)) {
            me.ended.lock().remove(&uid);
            me.node_tries.lock().remove(&uid);
        } else if !wants_more(claim) {
            me.node_tries.lock().remove(&uid);
        } else if change.touches(trigger) || (node_cannot(claim) && change.touches(node_cannot)) {
            queue.add(ObjectRef::from_obj(&**claim));
        }
        true
    });
    let (weak_me, weak_queue) = (Arc::downgrade(me), Arc::downgrade(queue));
    cache.volumes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), weak_queue.upgrade()) else { return false };
        let Change::Set { old: None, new } = change else { return true };
        // A claim may be seen as bound before its volume is seen.
        let owner = new.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let claim = me
            .context
            .cache
            .claims
            .get(owner.namespace.as_deref(), owner.name.as_deref().unwrap_or_default());
        if let Some(claim) = claim.filter(|claim| wants_more(claim)) {
            queue.add(ObjectRef::from_obj(&*claim));
        }
        true
    });
}

fn wants_more(claim: &PersistentVolumeClaim) -> bool {
    let asked = access::claim_request(claim).unwrap_or_default();
    matches!(access::claim_capacity(claim), Ok(Some(has)) if asked > has)
}

/// Only its coming wakes: it goes by our own hand, in the middle of a look.
fn node_cannot(claim: &PersistentVolumeClaim) -> bool {
    status::of(claim) == Some(status::NODE_INFEASIBLE)
}

type Trigger = (Option<String>, Option<String>, i64, i64);

fn trigger(claim: &PersistentVolumeClaim) -> Trigger {
    (
        claim.spec.as_ref().and_then(|spec| spec.volume_name.clone()),
        claim.status.as_ref().and_then(|status| status.phase.clone()),
        access::claim_request(claim).unwrap_or_default(),
        access::claim_capacity(claim).ok().flatten().unwrap_or_default(),
    )
}

impl Resizer {
    #[tracing::instrument(name = "resize", skip_all, fields(claim = %key))]
    async fn sync(&self, key: &Key) -> Outcome {
        let cache = &self.context.cache;
        let Some(claim) = cache.claims.by_ref(key) else { return Outcome::Done };
        let uid = claim.uid().unwrap_or_default();
        let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref());
        let mut view = View {
            facts: Arc::clone(&self.context.facts),
            volume: volume.and_then(|name| cache.volumes.get(None, name)),
            claim: Some(Arc::clone(&claim)),
            ended: self.ended.lock().contains(&uid),
            node_try: self.node_tries.lock().get(&uid).copied(),
            now: Timestamp::now(),
            progress: Progress::Begun,
        };
        for _ in 0..MOST_STEPS {
            let action = decide::decide(&view);
            self.context.teller.tell(&*claim, action.reason());
            let outcome = match &action {
                Action::Rest(_) => Some(Outcome::Done),
                Action::Retry(Reason::Infeasible(_)) => Some(Outcome::After(INFEASIBLE_PAUSE)),
                Action::Retry(Reason::NodeInfeasible { wait }) => Some(Outcome::After(*wait)),
                Action::Retry(_) => Some(Outcome::Retry),
                _ => None,
            };
            if let Err(error) = apply::apply(&self.context, &mut view, action).await {
                let kind = PersistentVolumeClaim::kind(&());
                tracing::debug!(%kind, %error, "a step of growing the volume did not succeed");
                self.context.teller.tell(&*claim, &Reason::Blocked((&error).into()));
                return Outcome::Retry;
            }
            if view.ended {
                self.ended.lock().insert(uid.clone());
            } else {
                self.ended.lock().remove(&uid);
            }
            if let Some(last) = view.node_try {
                self.node_tries.lock().insert(uid.clone(), last);
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Retry
    }
}
