//! Tells the owners of claims when the driver says that something is wrong with their volumes, and when it is well again.
//!
//! Reads only, and writes events: what is done about a volume is for people to decide.

mod decide;
mod reason;

use std::{
    collections::{HashMap, HashSet},
    sync::Arc,
    time::Duration,
};

use futures::{StreamExt, stream};
use holdfast_proto::csi::{ControllerGetVolumeRequest, VolumeCondition};
use k8s_openapi::api::core::v1::{Event, PersistentVolume, PersistentVolumeClaim};
use kube::{Api, ResourceExt, api::ListParams};
use parking_lot::Mutex;
use tokio::time::{MissedTickBehavior, interval};
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::{
    decide::{Condition, Way, judge, watched, way},
    reason::Reason,
};
use crate::context::Context;

/// How often the driver is asked.
#[derive(Debug, Clone, Copy)]
pub(crate) struct Intervals {
    /// After all volumes, where it can list them.
    pub(crate) list: Duration,
    /// After each, where it cannot.
    pub(crate) volume: Duration,
}

struct Monitor {
    context: Arc<Context>,
    workers: usize,
    /// The claims, by UID, whose owners were told that the volume is abnormal, and not yet that it is well again.
    ill: Mutex<HashSet<String>>,
}

/// Runs until cancelled.
pub(crate) async fn run(
    context: Arc<Context>,
    intervals: Intervals,
    workers: usize,
    cancel: CancellationToken,
) {
    let way = way(&context.facts);
    let every = match way {
        Way::List => intervals.list,
        Way::Each => intervals.volume,
        Way::NotAtAll => {
            warn!(
                driver = context.facts.name,
                "the driver tells no conditions (VOLUME_CONDITION with LIST_VOLUMES or GET_VOLUME): nothing to monitor"
            );
            return cancel.cancelled().await;
        }
    };
    let me = Monitor { ill: Mutex::new(told_before(&context).await), context, workers };
    let mut ticks = interval(every.max(Duration::from_millis(1)));
    ticks.set_missed_tick_behavior(MissedTickBehavior::Delay);
    loop {
        tokio::select! {
            () = cancel.cancelled() => return,
            _ = ticks.tick() => {}
        }
        tokio::select! {
            () = cancel.cancelled() => return,
            () = me.look(way) => {}
        }
    }
}

/// The claims that earlier lives told of, as far as their events are still there.
async fn told_before(context: &Context) -> HashSet<String> {
    let headline = crate::events::Explain::headline(&Reason::Abnormal { message: String::new() });
    let fields = format!("reason={}", headline.map(|headline| headline.reason).unwrap_or_default());
    let events: Api<Event> = Api::all(context.client.clone());
    match events.list(&ListParams::default().fields(&fields)).await {
        Ok(events) => events.items.into_iter().filter_map(|event| event.involved_object.uid).collect(),
        Err(error) => {
            // Costs the news that a volume is well again.
            info!(%error, "cannot read what was told of volumes before");
            HashSet::new()
        }
    }
}

impl Monitor {
    async fn look(&self, way: Way) {
        let driver = &self.context.facts.name;
        let volumes = self.context.cache.volumes.filter(|volume| watched(volume, driver).is_some());
        match way {
            Way::List => match self.context.csi.list_conditions().await {
                Ok(listed) => {
                    let listed: HashMap<String, Condition> =
                        listed.into_iter().map(|(handle, told)| (handle, condition(told))).collect();
                    for volume in volumes {
                        let told = watched(&volume, driver).and_then(|handle| listed.get(handle));
                        self.tell(&volume, told);
                    }
                }
                Err(error) => warn!(%error, "the volumes' conditions are not known now"),
            },
            Way::Each => {
                stream::iter(volumes)
                    .for_each_concurrent(self.workers.max(1), |volume| async move {
                        let Some(handle) = watched(&volume, driver) else { return };
                        let request = ControllerGetVolumeRequest { volume_id: handle.to_owned() };
                        match self.context.csi.volume_condition(request).await {
                            Ok(told) => self.tell(&volume, told.map(condition).as_ref()),
                            Err(error) => {
                                warn!(volume = volume.name_any(), %error, "its condition is not known now");
                            }
                        }
                    })
                    .await;
            }
            Way::NotAtAll => {}
        }
    }

    fn tell(&self, volume: &PersistentVolume, condition: Option<&Condition>) {
        let owner = volume.spec.as_ref().and_then(|spec| spec.claim_ref.clone()).unwrap_or_default();
        let (namespace, name) = (owner.namespace.as_deref(), owner.name.as_deref().unwrap_or_default());
        let claim = self.context.cache.claims.get(namespace, name);
        // Another claim under that name has nothing to do with this volume.
        let Some(claim) = claim.filter(|claim: &Arc<PersistentVolumeClaim>| claim.uid() == owner.uid) else {
            return;
        };
        let Some(uid) = claim.uid() else { return };
        let mut ill = self.ill.lock();
        let Some(reason) = judge(condition, ill.contains(&uid)) else { return };
        match reason {
            Reason::Abnormal { .. } => ill.insert(uid),
            Reason::Recovered => ill.remove(&uid),
        };
        drop(ill);
        self.context.teller.tell(&*claim, &reason);
    }
}

fn condition(told: VolumeCondition) -> Condition {
    Condition { abnormal: told.abnormal, message: told.message }
}
