//! What a node has become, and what follows for its taints and pods.

use std::collections::BTreeSet;

use holdfast_api::nodes::{self, NO_EXECUTE, NO_SCHEDULE, NOT_READY, UNREACHABLE, UNSCHEDULABLE};
use k8s_openapi::api::core::v1::{Node, Taint};

use super::{patience::Patience, pods, pulse::Heard, reason::Reason, zone};
use crate::{
    controllers::view::{At, Relation, Seen, View},
    store::Key,
};

/// The conditions that a node renews, so that they are unknown when it is silent.
const RENEWED: [&str; 4] = ["Ready", "MemoryPressure", "DiskPressure", "PIDPressure"];

/// Which state of a condition keeps new pods away, and by which taint.
const TAINTED: [(&str, &str, &str); 6] = [
    ("Ready", "False", NOT_READY),
    ("Ready", "Unknown", UNREACHABLE),
    ("MemoryPressure", "True", "node.kubernetes.io/memory-pressure"),
    ("DiskPressure", "True", "node.kubernetes.io/disk-pressure"),
    ("PIDPressure", "True", "node.kubernetes.io/pid-pressure"),
    ("NetworkUnavailable", "True", "node.kubernetes.io/network-unavailable"),
];

/// A taint's key and effect.
pub(crate) type Named = (&'static str, &'static str);

/// Why a pod may be removed although its node does not say that it has let go of it: what must still be so
/// when that is written.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Proof {
    /// There is no such node.
    Gone { node: Key },
    /// Somebody says that it is shut down.
    OutOfService { node: At },
}

/// One step for one node.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Bring the node's conditions and taints up to date, in one write.
    Mark {
        node: At,
        /// The lease whose silence it rests on.
        lease: Option<At>,
        /// The conditions that are unknown from now on.
        unknown: Vec<&'static str>,
        add: Vec<Named>,
        remove: Vec<Named>,
        /// The zone, where pods begin to be driven away.
        evicts: Option<String>,
        /// What is told once it is written.
        news: Vec<(Key, Reason)>,
    },
    /// Begin the deletion of a pod that does not tolerate the node's taints.
    Evict { pod: At, node: At, reason: Reason },
    /// End a pod's object without its node's word.
    Remove { pod: At, proof: Proof, reason: Reason },
}

/// What follows from one look.
#[derive(Debug, Default, PartialEq)]
pub(crate) struct Decision {
    pub(crate) actions: Vec<Action>,
    /// What is told once, as long as it is so.
    pub(crate) tells: BTreeSet<(Key, Reason)>,
}

/// What to do for one node, or for the pods on a name without a node; `None` where there is neither.
pub(crate) fn decide(view: &View, key: &Key, heard: &Heard, patience: &Patience) -> Option<Decision> {
    let Some(node) = view.nodes.at(key) else {
        if !is_remembered(view, key) {
            return None;
        }
        let is_gone = heard.gone >= patience.quarantine();
        return Some(if is_gone { pods::orphaned(view, key) } else { Decision::default() });
    };
    // What follows for pods rests on the node as it is then.
    if let Some(mark) = mark(view, node, heard, patience) {
        return Some(Decision { actions: vec![mark], ..Decision::default() });
    }
    let mut decision = pods::of(view, node, heard);
    let is_alive = matches!(nodes::condition(node, "Ready"), Some("True" | "False"));
    if is_alive && nodes::says_out_of_service(node) {
        decision.tells.insert((key.clone(), Reason::Alive { node: key.name.to_string() }));
    }
    Some(decision)
}

/// Whether there are pods or attachments on the node, whether it is there or not.
pub(super) fn is_remembered(view: &View, node: &Key) -> bool {
    [Relation::Runs, Relation::Attached].iter().any(|relation| view.related(*relation, node).next().is_some())
}

fn mark(view: &View, node: &Seen<Node>, heard: &Heard, patience: &Patience) -> Option<Action> {
    let unknown = unknown(node, heard, patience);
    let status = |kind: &str| {
        if unknown.contains(&kind) { Some("Unknown") } else { nodes::condition(node, kind) }
    };
    let ready = status("Ready");
    let mut wanted: BTreeSet<Named> = TAINTED
        .iter()
        .filter(|(kind, state, _)| status(kind) == Some(state))
        .map(|(_, _, key)| (*key, NO_SCHEDULE))
        .collect();
    if node.spec.as_ref().and_then(|spec| spec.unschedulable) == Some(true) {
        wanted.insert((UNSCHEDULABLE, NO_SCHEDULE));
    }
    let has = |named: &Named| nodes::taints(node).iter().any(|taint| is(taint, named));
    let drives = [(NOT_READY, NO_EXECUTE), (UNREACHABLE, NO_EXECUTE)];
    let has_driven = drives.iter().any(has);
    let mut evicts = None;
    if let Some(key) = match ready {
        Some("False") => Some(NOT_READY),
        Some("Unknown") => Some(UNREACHABLE),
        _ => None,
    } {
        let zones = zone::survey(view);
        let zone = zone::of(node);
        if has_driven {
            // Where all are silent, nobody is driven away from anywhere.
            if !zone::is_all_dark(&zones) {
                wanted.insert((key, NO_EXECUTE));
            }
        } else if (key == NOT_READY || heard.silent >= patience.eviction())
            && let Some(pace) = zone::pace(&zones, zone, patience)
            && heard.paced.is_none_or(|since| since >= pace)
        {
            wanted.insert((key, NO_EXECUTE));
            evicts = Some(zone.to_owned());
        }
    }
    let ours = TAINTED
        .iter()
        .map(|(_, _, key)| (*key, NO_SCHEDULE))
        .chain([(UNSCHEDULABLE, NO_SCHEDULE)])
        .chain(drives);
    // One that never said how it is has the taints that it came with.
    let ours = ours.filter(|(key, _)| ready.is_some() || ![NOT_READY, UNREACHABLE].contains(key));
    let remove: Vec<Named> = ours.filter(|named| has(named) && !wanted.contains(named)).collect();
    let add: Vec<Named> = wanted.into_iter().filter(|named| !has(named)).collect();
    if unknown.is_empty() && add.is_empty() && remove.is_empty() {
        return None;
    }
    let lease = view.leases.get(nodes::LEASES, &node.key.name);
    let lease = lease.filter(|_| ready == Some("Unknown")).map(|lease| lease.at());
    let news = news(view, node, &add, &remove);
    Some(Action::Mark { node: node.at(), lease, unknown, add, remove, evicts, news })
}

pub(crate) fn is(taint: &Taint, (key, effect): &Named) -> bool {
    taint.key == *key && taint.effect == *effect
}

/// The conditions of which nothing is known, now that the node has been silent for too long.
fn unknown(node: &Node, heard: &Heard, patience: &Patience) -> Vec<&'static str> {
    let is_new = nodes::condition(node, "Ready").is_none();
    let limit = if is_new { patience.startup() } else { patience.grace() };
    if heard.silent < limit {
        return Vec::new();
    }
    let is_stale = |kind: &&&str| match nodes::condition(node, kind) {
        Some(status) => status != "Unknown",
        None => **kind == "Ready",
    };
    RENEWED.iter().filter(is_stale).copied().collect()
}

/// What to tell when the node ceases to be ready, or is again.
fn news(view: &View, node: &Seen<Node>, add: &[Named], remove: &[Named]) -> Vec<(Key, Reason)> {
    let name = || node.key.name.to_string();
    let is_state = |named: &&Named| [NOT_READY, UNREACHABLE].contains(&named.0) && named.1 == NO_SCHEDULE;
    match (add.iter().find(is_state), remove.iter().any(|named| is_state(&named))) {
        (Some((key, _)), false) => {
            let reason = Reason::NotReady { node: name(), is_silent: *key == UNREACHABLE };
            let pods = view.related(Relation::Runs, &node.key);
            let pods = pods.map(|pod| (pod.clone(), Reason::PodsNode { node: name() }));
            std::iter::once((node.key.clone(), reason)).chain(pods).collect()
        }
        // From silent to not ready, or back.
        (Some((key, _)), true) => {
            vec![(node.key.clone(), Reason::NotReady { node: name(), is_silent: *key == UNREACHABLE })]
        }
        (None, true) => vec![(node.key.clone(), Reason::Ready { node: name() })],
        (None, false) => Vec::new(),
    }
}
