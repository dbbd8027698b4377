//! What is remembered of nodes between two looks: since when each is silent, gone, or tainted.
//!
//! Only time counts in which this process ran and could have heard them. A process that was stopped, a machine that
//! slept, a database that did not answer: all nodes are silent then, and none is lost. For the same reason nothing of
//! this is stored: after a restart every node has its whole time again.

use std::{
    collections::{BTreeMap, BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use holdfast_api::nodes;
use jiff::Timestamp;
use k8s_openapi::api::core::v1::Node;
use parking_lot::Mutex;
use tokio::time::Instant;

use super::{
    decide::is_remembered,
    patience::Patience,
    reason::Reason,
    zone::{self, Zones},
};
use crate::{
    controllers::view::{Seen, View},
    store::Key,
};

/// How much of the time between two looks counts, as a multiple of the usual time between them.
const MOST: u32 = 2;

/// What is known of one node besides its object, in time that counts.
#[derive(Debug, Clone, Default, PartialEq)]
pub(crate) struct Heard {
    /// Since its last sign of life, or since it was seen first.
    pub(crate) silent: Duration,
    /// How long it has had each taint that drives pods away.
    pub(crate) taints: BTreeMap<String, Duration>,
    /// How long it has had no object.
    pub(crate) gone: Duration,
    /// Since pods began to be driven away from a node of its zone; `None`: never.
    pub(crate) paced: Option<Duration>,
}

/// What changes with every sign of life. Compared and not ordered: the clocks of nodes differ.
#[derive(Debug, Clone, PartialEq, Eq)]
struct Sign {
    uid: Box<str>,
    renewed: Option<Timestamp>,
    heartbeat: Option<Timestamp>,
}

#[derive(Debug)]
struct Known {
    sign: Option<Sign>,
    heard: Duration,
    taints: BTreeMap<String, Duration>,
    gone: Option<Duration>,
    told: BTreeSet<(Key, Reason)>,
}

/// Counts the time in which nodes could be heard.
#[derive(Debug, Default)]
struct Clock {
    counted: Duration,
    at: Option<Instant>,
}

impl Clock {
    fn tick(&mut self, now: Instant, most: Duration, can_hear: bool) -> Duration {
        let passed = self.at.map_or(Duration::ZERO, |at| now.saturating_duration_since(at));
        self.at = Some(self.at.map_or(now, |at| at.max(now)));
        if can_hear {
            self.counted += passed.min(most);
        }
        self.counted
    }
}

#[derive(Debug, Default)]
struct State {
    clock: Clock,
    nodes: HashMap<Key, Known>,
    /// When pods began to be driven away from a node, by zone.
    paces: BTreeMap<String, Duration>,
    surveyed: Option<Duration>,
    was_all_dark: bool,
}

/// Cheap to clone.
#[derive(Clone)]
pub(crate) struct Pulses {
    patience: Patience,
    state: Arc<Mutex<State>>,
}

impl Default for Pulses {
    fn default() -> Self {
        Self::new(Patience::default())
    }
}

impl Pulses {
    pub(crate) fn new(patience: Patience) -> Self {
        Self { patience, state: Arc::default() }
    }

    pub(crate) fn patience(&self) -> &Patience {
        &self.patience
    }

    /// Takes in how a node looks at `time`. `can_hear`: whether a sign of life would have got here.
    pub(crate) fn hear(&self, view: &View, key: &Key, time: Instant, can_hear: bool) -> Heard {
        let mut state = self.state.lock();
        let now = state.clock.tick(time, self.patience.period() * MOST, can_hear);
        let Some(node) = view.nodes.at(key) else { return state.absent(view, key, now) };
        let paced = state.paces.get(zone::of(node)).map(|at| now - *at);
        let known = state.nodes.entry(key.clone()).or_insert_with(|| Known::new(now));
        let sign = sign(view, node);
        if known.sign.as_ref() != Some(&sign) {
            if known.sign.as_ref().is_some_and(|old| old.uid != sign.uid) {
                *known = Known::new(now);
            }
            known.heard = now;
            known.sign = Some(sign);
        }
        known.gone = None;
        let tainted = nodes::taints(node).iter().filter(|taint| taint.effect == nodes::NO_EXECUTE);
        let tainted: BTreeMap<String, Duration> = tainted
            .map(|taint| (taint.key.clone(), known.taints.get(&taint.key).copied().unwrap_or(now)))
            .collect();
        known.taints = tainted;
        let taints = known.taints.iter().map(|(taint, at)| (taint.clone(), now - *at)).collect();
        Heard { silent: now - known.heard, taints, gone: Duration::ZERO, paced }
    }

    /// The zones, whenever it is time to count them again. When the first nodes come back of which all were silent, the others get
    /// their whole time again.
    pub(crate) fn survey(&self, view: &View) -> Option<Zones> {
        let mut state = self.state.lock();
        let now = state.clock.counted;
        if state.surveyed.is_some_and(|at| now - at < self.patience.period()) {
            return None;
        }
        state.surveyed = Some(now);
        let zones = zone::survey(view);
        let is_all_dark = zone::is_all_dark(&zones);
        if std::mem::replace(&mut state.was_all_dark, is_all_dark) && !is_all_dark {
            tracing::info!("nodes answer again, of which none did: the others are given time to");
            state.nodes.values_mut().for_each(|known| known.heard = now);
        }
        Some(zones)
    }

    /// Pods begin to be driven away from a node of this zone.
    pub(crate) fn evicts(&self, zone: &str) {
        let mut state = self.state.lock();
        let now = state.clock.counted;
        state.paces.insert(zone.to_owned(), now);
    }

    /// Of what there is to tell about a node and its pods, what was not told since it began to be so.
    pub(crate) fn news(&self, node: &Key, all: BTreeSet<(Key, Reason)>) -> Vec<(Key, Reason)> {
        let mut state = self.state.lock();
        let Some(known) = state.nodes.get_mut(node) else { return all.into_iter().collect() };
        let news = all.difference(&known.told).cloned().collect();
        known.told = all;
        news
    }
}

impl State {
    /// A name without a node, which matters as long as something says that it is on it.
    fn absent(&mut self, view: &View, key: &Key, now: Duration) -> Heard {
        if !is_remembered(view, key) {
            self.nodes.remove(key);
            return Heard::default();
        }
        let known = self.nodes.entry(key.clone()).or_insert_with(|| Known::new(now));
        let gone = *known.gone.get_or_insert(now);
        Heard { gone: now - gone, ..Heard::default() }
    }
}

impl Known {
    fn new(now: Duration) -> Self {
        Self { sign: None, heard: now, taints: BTreeMap::new(), gone: None, told: BTreeSet::new() }
    }
}

fn sign(view: &View, node: &Seen<Node>) -> Sign {
    let lease = view.leases.get(nodes::LEASES, &node.key.name);
    let renewed = lease.and_then(|lease| lease.spec.as_ref()?.renew_time.as_ref().map(|time| time.0));
    let conditions = node.status.as_ref().and_then(|status| status.conditions.as_deref()).unwrap_or_default();
    let ready = conditions.iter().find(|condition| condition.type_ == "Ready");
    let heartbeat = ready.and_then(|ready| ready.last_heartbeat_time.as_ref().map(|time| time.0));
    Sign { uid: node.uid.clone(), renewed, heartbeat }
}
