//! What to do next, from what is wanted and what is there. Pure, synchronous, total.
//!
//! Invariants:
//! - a volume is listed in `volumesInUse` before it is staged, and until it is unstaged;
//! - it is staged only while the API says that it is attached here;
//! - what may exist counts as existing: an uncertain publication keeps its volume staged, an
//!   uncertain staging keeps it listed;
//! - nothing of an active pod is taken away, also when its claim cannot be resolved any more;
//! - one operation per volume at a time.

use std::collections::{BTreeMap, BTreeSet};

use tokio::time::{Duration, Instant};

use super::{
    action::{Action, Planned},
    reason::Reason,
    report,
    serve::{self, Progress},
    view::{CsiVolume, Failure, Lane, Life, PodView, View, VolumeId, Wanted},
};

/// An operation that takes longer than this is worth telling.
pub(crate) const SLOW: Duration = Duration::from_secs(5);

/// What became of an action that a decision wanted.
#[derive(Debug, Clone, Copy)]
pub(crate) enum Offer<'a> {
    /// Planned, or its lane is at work.
    Underway { slow: bool },
    /// Not yet: it failed a moment ago.
    BackedOff(&'a Failure),
}

/// A plan in the making.
pub(crate) struct Plan<'a> {
    pub(crate) view: &'a View,
    now: Instant,
    taken: BTreeSet<Lane>,
    planned: Vec<Planned>,
    /// The volumes that active pods want, with the pods in the order in which they came.
    wanted: BTreeMap<&'a VolumeId, Vec<(&'a PodView, &'a CsiVolume)>>,
}

/// The actions for a view, at most one for each lane that is free.
pub(crate) fn decide(view: &View, now: Instant) -> Vec<Planned> {
    let mut plan = Plan::new(view, now);
    plan.release_publications();
    for pod in &view.pods {
        match pod.life {
            Life::Active => {
                let progress: Vec<(&str, Progress)> =
                    pod.volumes.iter().map(|v| (v.name.as_str(), serve::serve(&mut plan, pod, v))).collect();
                report::report(&mut plan, pod, &progress);
            }
            Life::Leaving => plan.let_go(pod),
            Life::Ended | Life::Left => {}
        }
    }
    plan.release_devices();
    plan.list_in_use();
    plan.planned
}

impl<'a> Plan<'a> {
    fn new(view: &'a View, now: Instant) -> Self {
        let mut wanted: BTreeMap<&VolumeId, Vec<(&PodView, &CsiVolume)>> = BTreeMap::new();
        for pod in view.pods.iter().filter(|p| p.life == Life::Active) {
            for volume in &pod.volumes {
                if let Ok(Wanted::Csi(csi)) = &volume.wanted {
                    wanted.entry(&csi.id).or_default().push((pod, csi));
                }
            }
        }
        for users in wanted.values_mut() {
            users.sort_by(|(a, _), (b, _)| (a.created, &a.key.uid).cmp(&(b.created, &b.key.uid)));
        }
        let taken = view.busy.keys().cloned().collect();
        Self { view, now, taken, planned: Vec::new(), wanted }
    }

    /// Plans an action unless its lane is at work or it failed a moment ago.
    pub(crate) fn offer(&mut self, action: Action, reason: Reason) -> Offer<'a> {
        let failure = self.view.failures.get(&action.key());
        if let Some(failure) = failure
            && failure.retry_at > self.now
            && failure.action == action.attempt()
        {
            return Offer::BackedOff(failure);
        }
        let lane = action.lane();
        let slow = self.view.busy.get(&lane).is_some_and(|&since| self.now.duration_since(since) >= SLOW);
        if self.taken.insert(lane) {
            self.planned.push(Planned { action, reason });
        }
        // An attempt that runs again says what it said before, until it has succeeded.
        failure.map_or(Offer::Underway { slow }, Offer::BackedOff)
    }

    /// The pod that may use a `ReadWriteOncePod` volume: the one that has it, else the first.
    pub(crate) fn holder(&self, pod: &PodView, id: &VolumeId) -> Option<String> {
        let mut have =
            self.view.actual.published.iter().filter(|(_, p)| p.volume.as_ref() == Some(id)).peekable();
        if have.peek().is_none() {
            let first = self.wanted.get(id).and_then(|users| users.first());
            return first.filter(|(p, _)| p.key.uid != pod.key.uid).map(|(p, _)| p.key.to_string());
        }
        let holders: Vec<_> = have.collect();
        if holders.iter().any(|(publication, _)| publication.pod == pod.key.uid) {
            return None;
        }
        holders.first().map(|(publication, p)| {
            if p.owner.name.is_empty() { publication.pod.clone() } else { p.owner.to_string() }
        })
    }

    fn is_published(&self, id: &VolumeId) -> bool {
        self.view.actual.published.values().any(|p| p.volume.as_ref() == Some(id))
    }

    /// Publications whose pod does not want anything any more.
    fn release_publications(&mut self) {
        let lives: BTreeMap<&str, Life> =
            self.view.pods.iter().map(|p| (p.key.uid.as_str(), p.life)).collect();
        for (id, publication) in &self.view.actual.published {
            let reason = match lives.get(id.pod.as_str()) {
                Some(Life::Active) => continue,
                Some(Life::Ended) => Reason::PodEnded,
                Some(Life::Leaving | Life::Left) => Reason::PodLeaving,
                None => Reason::PodGone,
            };
            let (id, publication) = (id.clone(), publication.clone());
            match &publication.volume {
                // Its driver will come; asking now would only fail.
                Some(volume) if !self.view.drivers.contains(&volume.driver) => {}
                Some(volume) => {
                    let volume = volume.clone();
                    self.offer(Action::Unpublish { id, publication, volume }, reason);
                }
                None => {
                    self.offer(Action::Unmount { id, publication }, reason);
                }
            }
        }
    }

    /// Stagings that nobody needs. A staging in another mode or under another volume's name than
    /// the one wanted now goes too: it cannot serve.
    fn release_devices(&mut self) {
        for (id, device) in &self.view.actual.devices {
            let wanted = self.wanted.get(id).is_some_and(|users| {
                users.iter().any(|(_, v)| v.pv == device.pv && v.shape.block == device.block)
            });
            if wanted || self.is_published(id) || !self.view.drivers.contains(&id.driver) {
                continue;
            }
            self.offer(Action::Unstage { id: id.clone(), device: device.clone() }, Reason::LastUserGone);
        }
    }

    fn list_in_use(&mut self) {
        let devices = self.view.actual.devices.keys();
        let published = self.view.actual.published.values().filter_map(|p| p.volume.as_ref());
        let mut volumes: BTreeSet<String> =
            self.wanted.keys().copied().chain(devices).chain(published).map(VolumeId::unique_name).collect();
        // What may still be staged stays listed: taken off, it would be detached under its mount.
        let listed = self.view.in_use.iter().flatten();
        volumes.extend(listed.filter(|name| self.view.actual.unread.may_be(name)).cloned());
        if self.view.has_node && self.view.in_use.as_ref() != Some(&volumes) {
            let volumes = volumes.into_iter().collect();
            self.offer(Action::SetInUse { volumes }, Reason::InUseStale);
        }
    }

    /// Deletes a leaving pod's object once nothing of it is left on this node.
    fn let_go(&mut self, pod: &PodView) {
        if self.view.actual.published.keys().any(|id| id.pod == pod.key.uid) {
            report::report_leaving(self, pod);
            return;
        }
        for volume in &pod.volumes {
            let Ok(Wanted::Csi(csi)) = &volume.wanted else { continue };
            if self.wanted.contains_key(&csi.id) || self.is_published(&csi.id) {
                continue; // others use it still
            }
            let listed = self.view.in_use.as_ref().is_none_or(|l| l.contains(&csi.id.unique_name()));
            if listed || self.view.actual.devices.contains_key(&csi.id) {
                report::report_leaving(self, pod);
                return;
            }
        }
        self.offer(Action::DeletePod { pod: pod.key.clone() }, Reason::Released);
    }
}
