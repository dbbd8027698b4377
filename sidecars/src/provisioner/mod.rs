//! Makes volumes for claims, and deletes them when their claims are gone.

mod apply;
mod cloning;
mod decide;
mod memory;
mod parameters;
mod plan;
mod reason;
mod reclaim;
mod source;
mod topology;

use std::{collections::HashMap, sync::Arc};

use holdfast_api::{access::claim_class, affinity, snapshot::volume::VolumeSnapshot};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim},
    storage::v1::CSINode,
};
use kube::{ResourceExt, runtime::reflector::ObjectRef};
use parking_lot::Mutex;
use tokio::task::JoinError;
use tokio_util::sync::CancellationToken;

use self::{
    decide::{Action, Progress, View, VolumeObject},
    memory::Memory,
    reason::Reason,
};
use crate::{
    cache::Change,
    context::{Context, MOST_STEPS},
    queue::{Outcome, Queue, run_workers},
};

pub(crate) use plan::Settings;

type ClaimKey = ObjectRef<PersistentVolumeClaim>;
type VolumeKey = ObjectRef<PersistentVolume>;

struct Provisioner {
    context: Arc<Context>,
    settings: Arc<Settings>,
    /// By claim UID; see [`Memory`].
    memory: Mutex<HashMap<String, Memory>>,
}

/// Runs until cancelled; ends early only when a worker panics.
pub(crate) async fn run(
    context: Arc<Context>,
    settings: Settings,
    workers: usize,
    cancel: CancellationToken,
) -> Result<(), JoinError> {
    let claims: Arc<Queue<ClaimKey>> = context.queue("claims");
    let volumes: Arc<Queue<VolumeKey>> = context.queue("volumes");
    let me = Arc::new(Provisioner { context, settings: Arc::new(settings), memory: Mutex::default() });
    listen(&me, &claims, &volumes);
    let on_claim = {
        let me = Arc::clone(&me);
        move |key| {
            let me = Arc::clone(&me);
            async move { me.sync_claim(&key).await }
        }
    };
    let on_volume = {
        let me = Arc::clone(&me);
        move |key| {
            let me = Arc::clone(&me);
            async move { me.sync_volume(&key).await }
        }
    };
    tokio::try_join!(
        run_workers(claims, workers, cancel.clone(), on_claim),
        run_workers(volumes, workers, cancel, on_volume),
    )?;
    Ok(())
}

/// Which changes wake what. Listeners end with the queues they feed.
fn listen(me: &Arc<Provisioner>, claims: &Arc<Queue<ClaimKey>>, volumes: &Arc<Queue<VolumeKey>>) {
    let cache = &me.context.cache;
    let (weak_me, queue) = (Arc::downgrade(me), Arc::downgrade(claims));
    cache.claims.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), queue.upgrade()) else { return false };
        let claim = change.object();
        let bound =
            claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some()) && !decide::has_intent(claim);
        if (matches!(change, Change::Gone(_)) || bound)
            && let Some(uid) = claim.uid()
        {
            me.memory.lock().remove(&uid);
        }
        if decide::is_ours(claim, &me.context.facts.name)
            && change.touches(|claim| (claim.spec.clone(), claim.annotations().clone(), is_deleting(claim)))
        {
            queue.add(ObjectRef::from_obj(&**claim));
        }
        if matches!(change, Change::Set { .. }) && cloning::is_kept(claim) && change.touches(cloning::is_kept)
        {
            queue.add(ObjectRef::from_obj(&**claim));
        }
        // What it was filled from may go now.
        if let Some(source) = cloning::source_of(claim)
            && (matches!(change, Change::Gone(_)) || cloning::is_finished(claim))
        {
            queue.add(ObjectRef::new(source).within(&claim.namespace().unwrap_or_default()));
        }
        true
    });
    let (weak_me, queue) = (Arc::downgrade(me), Arc::downgrade(volumes));
    cache.volumes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), queue.upgrade()) else { return false };
        let volume = change.object();
        if matches!(change, Change::Gone(_)) {
            // A claim not bound yet may lose its volume to an administrator: begin anew.
            let owner =
                volume.spec.as_ref().and_then(|spec| spec.claim_ref.as_ref()).and_then(|r| r.uid.as_ref());
            if let Some(uid) = owner {
                me.memory.lock().remove(uid);
            }
        }
        queue.add(ObjectRef::from_obj(&**volume));
        true
    });
    let queue = Arc::downgrade(volumes);
    cache.attachments.subscribe(move |change| {
        let Some(queue) = queue.upgrade() else { return false };
        if let (Change::Gone(_), Some(volume)) = (change, &change.object().spec.source.persistent_volume_name)
        {
            queue.add(ObjectRef::new(volume));
        }
        true
    });
    let (weak_me, queue) = (Arc::downgrade(me), Arc::downgrade(claims));
    cache.classes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), queue.upgrade()) else { return false };
        let class = change.object();
        if class.provisioner == me.context.facts.name {
            let name = class.name_any();
            me.wake(&queue, |claim| claim_class(claim) == Some(name.as_str()));
        }
        true
    });
    let (weak_me, queue) = (Arc::downgrade(me), Arc::downgrade(claims));
    cache.snapshots.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), queue.upgrade()) else { return false };
        let snapshot = change.object();
        let is_ready =
            |snapshot: &VolumeSnapshot| snapshot.status.as_ref().and_then(|status| status.ready_to_use);
        if change.touches(is_ready) {
            let (name, namespace) = (snapshot.name_any(), snapshot.namespace());
            me.wake(&queue, |claim| {
                claim.namespace() == namespace && source::wanted(claim) == source::Wanted::Snapshot(&name)
            });
        }
        true
    });
    let (weak_me, queue) = (Arc::downgrade(me), Arc::downgrade(claims));
    cache.csi_nodes.subscribe(move |change| {
        let (Some(me), Some(queue)) = (weak_me.upgrade(), queue.upgrade()) else { return false };
        let driver = &me.context.facts.name;
        if me.context.facts.topology && change.touches(|csi_node| keys_of(csi_node, driver)) {
            me.wake(&queue, |_| true);
        }
        true
    });
    let (weak_me, queue, weak_volumes) =
        (Arc::downgrade(me), Arc::downgrade(claims), Arc::downgrade(volumes));
    cache.nodes.subscribe(move |change| {
        let (Some(me), Some(queue), Some(volumes)) =
            (weak_me.upgrade(), queue.upgrade(), weak_volumes.upgrade())
        else {
            return false;
        };
        if change.touches(|node| node.labels().clone()) {
            me.wake(&queue, |_| true);
            if me.settings.how.node.as_deref() == Some(&change.object().name_any()) {
                for volume in me.context.cache.volumes.all() {
                    volumes.add(ObjectRef::from_obj(&*volume));
                }
            }
        }
        true
    });
}

fn is_deleting(claim: &PersistentVolumeClaim) -> bool {
    claim.metadata.deletion_timestamp.is_some()
}

fn keys_of(csi_node: &CSINode, driver: &str) -> Option<Vec<String>> {
    let registered = csi_node.spec.drivers.iter().find(|entry| entry.name == driver)?;
    registered.topology_keys.clone()
}

impl Provisioner {
    /// Wakes the claims of this driver that wait for something and that `which` picks.
    fn wake(&self, queue: &Queue<ClaimKey>, which: impl Fn(&PersistentVolumeClaim) -> bool) {
        let waiting = self.context.cache.claims.filter(|claim| {
            let bound = claim.spec.as_ref().is_some_and(|spec| spec.volume_name.is_some());
            !bound && decide::is_ours(claim, &self.context.facts.name) && which(claim)
        });
        for claim in waiting {
            queue.add(ObjectRef::from_obj(&*claim));
        }
    }

    fn view(&self, key: &ClaimKey) -> View {
        let cache = &self.context.cache;
        let claim = cache.claims.by_ref(key);
        let class = claim.as_ref().and_then(|claim| cache.classes.get(None, claim_class(claim)?));
        let volume = claim
            .as_ref()
            .and_then(|claim| cache.volumes.get(None, &self.settings.volume_name(claim)))
            .map_or(VolumeObject::NotSeen, VolumeObject::There);
        let places = if self.context.facts.topology && claim.is_some() {
            let node = |name: &str| cache.nodes.get(None, name);
            topology::places(&self.context.facts.name, &cache.csi_nodes.all(), node)
        } else {
            Vec::new()
        };
        let memory = claim.as_ref().and_then(|claim| self.memory.lock().get(&claim.uid()?).cloned());
        View {
            facts: Arc::clone(&self.context.facts),
            settings: Arc::clone(&self.settings),
            claim,
            live: false,
            class,
            volume,
            places,
            source: source::Source::NotAsked,
            memory,
            progress: Progress::Begun,
        }
    }

    #[tracing::instrument(name = "provision", skip_all, fields(claim = %key))]
    async fn sync_claim(&self, key: &ClaimKey) -> Outcome {
        let mut view = self.view(key);
        let Some(claim) = view.claim.clone() else { return Outcome::Done };
        if cloning::is_kept(&claim)
            && cloning::may_go(&claim, &self.context.cache.claims.all())
            && let Err(error) = apply::release_source(&self.context, &claim).await
        {
            self.context.teller.tell(&*claim, &Reason::Blocked((&error).into()));
            return Outcome::Retry;
        }
        let uid = claim.uid().unwrap_or_default();
        for _ in 0..MOST_STEPS {
            let action = decide::decide(&view);
            // The claim may be gone by the last step; what it was is still told of.
            self.context.teller.tell(&**view.claim.as_ref().unwrap_or(&claim), action.reason());
            let outcome = match &action {
                Action::Rest(_) => Some(Outcome::Done),
                Action::Retry(_) => Some(Outcome::Retry),
                _ => None,
            };
            let creating = matches!(action, Action::Create(..));
            let applied = apply::apply(&self.context, &mut view, action).await;
            if creating {
                // That may have taken minutes. A claim deleted meanwhile needs no volume object first.
                self.catch_up(&mut view, key);
            }
            self.remember(&uid, view.memory.clone());
            match (applied, outcome) {
                (Err(error), _) => {
                    self.context.teller.tell(&*claim, &Reason::Blocked((&error).into()));
                    return Outcome::Retry;
                }
                (Ok(()), Some(outcome)) => return outcome,
                (Ok(()), None) => {}
            }
        }
        Outcome::Retry
    }

    /// Takes over from the cache that the claim is being deleted by now.
    fn catch_up(&self, view: &mut View, key: &ClaimKey) {
        let seen = self.context.cache.claims.by_ref(key);
        let same =
            |seen: &PersistentVolumeClaim| view.claim.as_ref().is_some_and(|claim| claim.uid() == seen.uid());
        if let Some(seen) = seen.filter(|seen| is_deleting(seen) && same(seen)) {
            view.claim = Some(seen);
        }
    }

    fn remember(&self, uid: &str, memory: Option<Memory>) {
        let mut all = self.memory.lock();
        match memory {
            Some(memory) => all.insert(uid.to_owned(), memory),
            None => all.remove(uid),
        };
    }

    /// Whether a volume is for this provisioner to delete: with one on each node, what can be reached from its node. A node
    /// that is not known reaches nothing.
    fn reaches(&self, volume: &PersistentVolume) -> bool {
        let Some(node) = &self.settings.how.node else { return true };
        let object = self.context.cache.nodes.get(None, node);
        object.is_some_and(|object| affinity::volume_fits_node(volume, node, object.labels()))
    }

    #[tracing::instrument(name = "reclaim", skip_all, fields(volume = %key))]
    async fn sync_volume(&self, key: &VolumeKey) -> Outcome {
        let cache = &self.context.cache;
        let mut view = reclaim::View {
            facts: Arc::clone(&self.context.facts),
            volume: cache.volumes.by_ref(key),
            live: false,
            attached_to: cache.attached_to(&key.name),
            owner: reclaim::Owner::NotAsked,
            progress: reclaim::Progress::Begun,
        };
        let Some(volume) = view.volume.clone() else { return Outcome::Done };
        if !self.reaches(&volume) {
            return Outcome::Done;
        }
        for _ in 0..MOST_STEPS {
            let action = reclaim::decide(&view);
            self.context.teller.tell(&**view.volume.as_ref().unwrap_or(&volume), action.reason());
            let outcome = match &action {
                reclaim::Action::Rest(_) => Some(Outcome::Done),
                reclaim::Action::Retry(_) => Some(Outcome::Retry),
                _ => None,
            };
            if let Err(error) = apply::apply_reclaim(&self.context, &mut view, action).await {
                self.context.teller.tell(&*volume, &reclaim::Reason::Blocked((&error).into()));
                return Outcome::Retry;
            }
            if let Some(outcome) = outcome {
                return outcome;
            }
        }
        Outcome::Retry
    }
}
