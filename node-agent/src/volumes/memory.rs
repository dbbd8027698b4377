//! What the volume loop remembers between decisions: the actual state, what is under way, what
//! failed, and what the caches do not show yet of our own writes.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use super::{
    action::Action,
    actual::Scan,
    api::Confirmed,
    apply::Change,
    decide::SLOW,
    desired::{self},
    view::{Actual, Failure, Lane, Life, OperationKey, PublicationId, Report, State, View, Wanted},
    world::World,
};
use crate::{error::Error, node::Identity};

/// Waits after failures: the first, and the longest, as kubelet's volume operations have them.
const BACKOFF: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(122));
/// A failure that was not repeated for so long is no longer of interest.
const FORGET: Duration = Duration::from_secs(600);

#[derive(Default)]
pub(crate) struct Memory {
    pub(crate) actual: Actual,
    confirmed: Option<Confirmed>,
    busy: BTreeMap<Lane, Instant>,
    failures: BTreeMap<OperationKey, (Failure, Duration)>,
    reported: BTreeMap<String, Report>,
    deleted: BTreeSet<String>,
    /// Claims (by UID) whose growth is done, and to how many bytes.
    grown: BTreeMap<String, i64>,
    /// Lanes that changed since the scan under way began; its findings on them are old.
    touched: BTreeSet<Lane>,
}

impl Memory {
    /// Everything a decision looks at, as of now.
    pub(crate) fn view(
        &self,
        world: &World,
        node: &str,
        identity: &Identity,
        drivers: BTreeSet<String>,
    ) -> View {
        let mut pods: Vec<_> =
            world.pods.state().iter().filter_map(|pod| desired::pod_view(pod, node, world)).collect();
        pods.sort_by(|a, b| a.key.cmp(&b.key));
        for pod in &mut pods {
            if let Some(report) = self.reported.get(&pod.key.uid) {
                pod.reported = Some(report.clone());
            }
            if self.deleted.contains(&pod.key.uid) {
                pod.life = Life::Left;
            }
            for volume in &mut pod.volumes {
                let Ok(Wanted::Csi(csi)) = &mut volume.wanted else { continue };
                let grown = |g: &super::view::Growth| {
                    self.grown.get(&g.claim_uid).is_some_and(|&bytes| bytes >= g.bytes)
                };
                if csi.growth.as_ref().is_some_and(grown) {
                    csi.growth = None;
                }
            }
        }
        let confirmed = self.confirmed.as_ref().filter(|c| identity.is_some() && c.node_uid == *identity);
        View {
            pods,
            actual: self.actual.clone(),
            has_node: identity.is_some(),
            in_use: confirmed.map(|c| c.volumes.clone()),
            drivers,
            busy: self.busy.clone(),
            failures: self
                .failures
                .iter()
                .map(|(key, (failure, _))| (key.clone(), failure.clone()))
                .collect(),
        }
    }

    pub(crate) fn begin(&mut self, action: &Action, now: Instant) {
        if matches!(action, Action::SetInUse { .. }) {
            // Until the server confirms it may have the former list or the new one, also after
            // an error. To go by the former would stage what the new one does not list.
            self.confirmed = None;
        }
        self.busy.insert(action.lane(), now);
    }

    /// Takes in what an operation made known and frees its lane.
    pub(crate) fn finish(
        &mut self,
        action: &Action,
        changes: Vec<Change>,
        result: &Result<(), Error>,
        now: Instant,
    ) {
        for change in changes {
            self.absorb(change);
        }
        let lane = action.lane();
        self.busy.remove(&lane);
        self.touched.insert(lane);
        let key = action.key();
        match result {
            Ok(()) => {
                self.failures.remove(&key);
            }
            Err(error) => {
                let attempt = action.attempt();
                let former = self.failures.get(&key).filter(|(f, _)| f.action == attempt);
                let wait = if error.is_retryable() {
                    former.map_or(BACKOFF.0, |(_, wait)| BACKOFF.1.min(*wait * 2))
                } else {
                    BACKOFF.1
                };
                let failure = Failure { action: attempt, retry_at: now + wait, error: error.to_string() };
                self.failures.insert(key, (failure, wait));
            }
        }
    }

    fn absorb(&mut self, change: Change) {
        match change {
            Change::Device(id, Some(device)) => {
                self.actual.devices.insert(id, device);
            }
            Change::Device(id, None) => {
                self.actual.devices.remove(&id);
            }
            Change::Publication(id, Some(publication)) => {
                self.actual.published.insert(id, publication);
            }
            Change::Publication(id, None) => {
                self.actual.published.remove(&id);
            }
            Change::InUse(confirmed) => self.confirmed = Some(confirmed),
            Change::Reported(uid, report) => {
                self.reported.insert(uid, report);
            }
            Change::Deleted(uid) => {
                self.deleted.insert(uid);
            }
            Change::Grown(growth) => {
                self.grown.insert(growth.claim_uid, growth.bytes);
            }
        }
    }

    /// When the next decision is due by itself.
    pub(crate) fn next_wake(&self, now: Instant) -> Option<Instant> {
        let retries = self.failures.values().map(|(f, _)| f.retry_at);
        let slow = self.busy.values().map(|&since| since + SLOW);
        retries.chain(slow).filter(|&at| at > now).min()
    }

    /// Something happened that may cure failures of this kind: try them now.
    pub(crate) fn retry_now(&mut self, which: impl Fn(&Lane) -> bool, now: Instant) {
        for ((lane, _, _), (failure, _)) in &mut self.failures {
            if which(lane) {
                failure.retry_at = failure.retry_at.min(now);
            }
        }
    }

    /// A scan begins: what changes from here on is newer than its findings.
    pub(crate) fn scan_begins(&mut self) -> Option<Confirmed> {
        self.touched.clear();
        self.confirmed.clone()
    }

    /// Takes over a scan's findings, except on lanes where something happened meanwhile.
    pub(crate) fn scan_ends(&mut self, scan: Scan, now: Instant) {
        let newer = |lane: &Lane| self.touched.contains(lane) || self.busy.contains_key(lane);
        let mut actual = scan.actual;
        actual.devices.retain(|id, _| !newer(&Lane::Volume(id.clone())));
        for (id, device) in &self.actual.devices {
            if newer(&Lane::Volume(id.clone())) {
                actual.devices.insert(id.clone(), device.clone());
            }
        }
        actual.published.retain(|id, p| !newer(&lane_of(id, p.volume.as_ref())));
        for (id, publication) in &self.actual.published {
            if newer(&lane_of(id, publication.volume.as_ref())) {
                actual.published.insert(id.clone(), publication.clone());
            } else if let Some(found) = actual.published.get_mut(id)
                && publication.volume.is_none()
            {
                // The folder alone does not say that an unfinished mount is finished.
                found.owner = publication.owner.clone();
                if publication.state == State::Uncertain {
                    found.state = State::Uncertain;
                }
            }
        }
        self.actual = actual;
        // By now the caches show our writes; if they do not, writing again does no harm.
        self.reported.clear();
        self.deleted.clear();
        self.grown.clear();
        self.failures.retain(|_, (f, _)| now.saturating_duration_since(f.retry_at) < FORGET);
    }

    /// The Node object does not list what was confirmed: somebody else wrote it.
    pub(crate) fn distrust(&mut self, asked: &Option<Confirmed>) {
        if self.confirmed == *asked {
            self.confirmed = None;
        }
    }

    /// A task ended without telling how: its lane is free again, its effect uncertain.
    pub(crate) fn lost(&mut self, action: &Action, error: &Error, now: Instant) {
        if let Lane::Volume(id) = action.lane()
            && let Some(device) = self.actual.devices.get_mut(&id)
        {
            device.state = State::Uncertain;
        }
        let result = Err(Error::Task(error.to_string()));
        self.finish(action, Vec::new(), &result, now);
    }

    pub(crate) fn is_idle(&self) -> bool {
        self.busy.is_empty()
    }
}

fn lane_of(id: &PublicationId, volume: Option<&super::view::VolumeId>) -> Lane {
    volume.map_or_else(|| Lane::Local(id.clone()), |v| Lane::Volume(v.clone()))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_list_under_way_or_failed_confirms_nothing() {
        let now = Instant::now();
        let mut memory = Memory::default();
        let listed = |volumes: &[&str]| Confirmed {
            node_uid: Some("n".to_owned()),
            volumes: volumes.iter().map(|&v| v.to_owned()).collect(),
        };
        let emptied = Action::SetInUse { volumes: Vec::new() };

        memory.absorb(Change::InUse(listed(&["v"])));
        memory.begin(&emptied, now);
        assert_eq!(memory.confirmed, None, "the server may list v or not");
        memory.finish(&emptied, Vec::new(), &Err(Error::Refused("no answer".to_owned())), now);
        assert_eq!(memory.confirmed, None, "an error does not mean that nothing was written");
        memory.begin(&emptied, now);
        memory.finish(&emptied, vec![Change::InUse(listed(&[]))], &Ok(()), now);
        assert_eq!(memory.confirmed, Some(listed(&[])));
    }
}
