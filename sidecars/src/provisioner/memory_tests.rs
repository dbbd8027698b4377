//! No order of refusals, lost answers, crashes and deletions lets the claim go while a volume
//! exists that no volume object tells of; and when the driver gets well, everything settles.

use std::{
    collections::{BTreeMap, BTreeSet},
    sync::Arc,
};

use holdfast_api::names;
use holdfast_proto::csi::Volume;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use proptest::prelude::*;
use serde_json::json;
use tonic::Code;

use super::*;
use crate::{
    csi::DriverFacts,
    provisioner::{
        decide::{Action, INTENT, Progress, View, VolumeObject, decide, has_intent},
        source::Source,
        topology::NodePlace,
    },
};

const NODES: [&str; 2] = ["n1", "n2"];

/// What the world does to one step.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// It works.
    Good,
    /// The driver refuses, also when it has the volume already.
    Refused(Code),
    /// The driver does it, and the answer is lost.
    DoneUnanswered,
    /// No answer, and the driver may do it at any time from now on.
    Pending,
    /// No connection.
    Unsent,
    /// The driver does it, and the process dies before it knows.
    Killed,
    /// The process dies before the step.
    KilledBefore,
    /// What is pending happens.
    Late,
    /// The user deletes the claim.
    Deleted,
}

fn turn() -> impl Strategy<Value = Turn> {
    let codes = prop::sample::select(vec![
        Code::ResourceExhausted,
        Code::InvalidArgument,
        Code::Internal,
        Code::Unauthenticated,
        Code::NotFound,
        Code::AlreadyExists,
        Code::Aborted,
    ]);
    prop_oneof![
        6 => Just(Turn::Good),
        4 => codes.prop_map(Turn::Refused),
        1 => Just(Turn::DoneUnanswered),
        1 => Just(Turn::Pending),
        1 => Just(Turn::Unsent),
        1 => Just(Turn::Killed),
        1 => Just(Turn::KilledBefore),
        1 => Just(Turn::Late),
        1 => Just(Turn::Deleted),
    ]
}

/// Claim, volume object, driver and process. Volumes are kept by node: a driver that looks for
/// a name only there is the one that forgetting hurts most.
struct World {
    claim: Option<PersistentVolumeClaim>,
    object: Option<PersistentVolume>,
    volumes: BTreeSet<String>,
    pending: BTreeSet<String>,
    memory: Option<Memory>,
    look: Option<View>,
    chosen: usize,
}

fn error(code: Code, origin: Origin) -> CsiError {
    CsiError { method: "CreateVolume", code, message: String::new(), origin }
}

impl World {
    fn new() -> Self {
        let claim = serde_json::from_value(json!({
            "metadata": {"name": "data", "namespace": "dev", "uid": "1",
                "annotations": {names::STORAGE_PROVISIONER: "d", names::SELECTED_NODE: NODES[0]}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "1Gi"}}},
        }));
        Self {
            claim: Some(claim.expect("a claim")),
            object: None,
            volumes: BTreeSet::new(),
            pending: BTreeSet::new(),
            memory: None,
            look: None,
            chosen: 0,
        }
    }

    fn view(&self) -> View {
        let mut facts = DriverFacts::new("d".to_owned());
        (facts.controller, facts.create_delete, facts.topology) = (true, true, true);
        let class = serde_json::from_value(json!({"metadata": {"name": "fast"}, "provisioner": "d",
            "volumeBindingMode": "WaitForFirstConsumer"}));
        let place = |node: &str| NodePlace {
            node: node.to_owned(),
            segments: BTreeMap::from([("z".to_owned(), node.to_owned())]),
        };
        View {
            facts: Arc::new(facts),
            settings: Arc::default(),
            claim: self.claim.clone().map(Arc::new),
            live: false,
            class: Some(Arc::new(class.expect("a class"))),
            volume: VolumeObject::NotSeen,
            places: NODES.map(place).to_vec(),
            source: Source::NotAsked,
            memory: self.memory.clone(),
            progress: Progress::Begun,
        }
    }

    /// What the API server does when the last finalizer goes.
    fn intend(&mut self, wanted: bool) {
        let Some(claim) = &mut self.claim else { return };
        claim.metadata.finalizers = wanted.then(|| vec![INTENT.to_owned()]);
        if !wanted && claim.metadata.deletion_timestamp.is_some() {
            self.claim = None;
        }
    }

    fn create(&mut self, plan: Box<Plan>, turn: Turn, view: &mut View) {
        let places = plan.request.accessibility_requirements.clone().unwrap_or_default().preferred;
        let node = places[0].segments["z"].clone();
        let before = view.memory.replace(Memory::Unanswered(plan.clone()));
        let failed = match turn {
            Turn::Refused(Code::AlreadyExists) if !self.volumes.contains(&node) => {
                error(Code::ResourceExhausted, Origin::Driver)
            }
            Turn::Refused(code) => error(code, Origin::Driver),
            Turn::DoneUnanswered => {
                self.volumes.insert(node);
                error(Code::DeadlineExceeded, Origin::Way)
            }
            Turn::Pending => {
                self.pending.insert(node);
                error(Code::Unavailable, Origin::Way)
            }
            Turn::Unsent => error(Code::Unavailable, Origin::Unsent),
            _ => {
                // A success ends what was under way on this name.
                self.pending.remove(&node);
                self.volumes.insert(node.clone());
                let made = Volume { volume_id: node, capacity_bytes: plan.bytes, ..Volume::default() };
                view.progress = Progress::Created { made: Box::new(made), plan };
                return;
            }
        };
        view.memory = after_failure(before, plan, &failed);
        view.progress = Progress::CreateFailed(failed);
    }

    fn delete(&mut self, id: &str, turn: Turn, view: &mut View) {
        if let Turn::Refused(code) = turn {
            view.progress = Progress::DeleteFailed(error(code, Origin::Driver));
            return;
        }
        self.volumes.remove(id);
        view.memory = Some(Memory::Nothing);
        view.progress = Progress::Deleted;
    }

    /// One step, as `apply` does it.
    fn step(&mut self, turn: Turn) {
        match turn {
            Turn::Late => self.volumes.append(&mut self.pending),
            Turn::KilledBefore => (self.memory, self.look) = (None, None),
            Turn::Deleted => {
                let gone = self.claim.as_ref().is_some_and(|claim| !has_intent(claim));
                match &mut self.claim {
                    Some(_) if gone => self.claim = None,
                    Some(claim) => {
                        let now = serde_json::from_value(json!("2026-01-01T00:00:00Z"));
                        claim.metadata.deletion_timestamp = Some(now.expect("a time"));
                    }
                    None => {}
                }
            }
            _ => self.act(turn),
        }
    }

    fn act(&mut self, turn: Turn) {
        let mut view = self.look.take().unwrap_or_else(|| self.view());
        let mut ended = false;
        match decide(&view) {
            Action::Rest(_) | Action::Retry(_) => ended = true,
            Action::ReadClaim(_) => view.live = true,
            Action::ReadVolume(_) => {
                view.volume = self
                    .object
                    .clone()
                    .map_or(VolumeObject::Absent, |there| VolumeObject::There(Arc::new(there)));
            }
            // The claim names none.
            Action::ProtectSource(_) | Action::ReadSource(_) => {
                view.source = Source::Snapshot { snapshot: None, content: None }
            }
            Action::RecordIntent(_) => {
                view.live = true;
                if self.claim.as_ref().is_some_and(|claim| claim.metadata.deletion_timestamp.is_none()) {
                    self.intend(true);
                    view.memory = Some(after_intent(view.memory.take()));
                }
            }
            Action::Create(plan, _) => self.create(plan, turn, &mut view),
            Action::Save(object, _) => {
                view.progress = Progress::Saved { volume: "pvc-1".to_owned() };
                view.volume = VolumeObject::There(Arc::new((*object).clone()));
                self.object = Some(*object);
            }
            Action::Delete { id, .. } => self.delete(&id, turn, &mut view),
            Action::DropIntent(_) => {
                self.intend(false);
                let saved = matches!(view.progress, Progress::Saved { .. });
                view.memory = saved.then_some(Memory::Finished);
            }
            Action::Reschedule(_) => {
                self.intend(false);
                (view.memory, view.progress) = (None, Progress::Begun);
                // The scheduler answers with the other node.
                self.chosen = 1 - self.chosen;
                if let Some(annotations) =
                    self.claim.as_mut().and_then(|claim| claim.metadata.annotations.as_mut())
                {
                    annotations.insert(names::SELECTED_NODE.to_owned(), NODES[self.chosen].to_owned());
                }
            }
        }
        view.claim = self.claim.clone().map(Arc::new);
        self.memory = view.memory.clone();
        self.look = (!ended).then_some(view);
        if matches!(turn, Turn::Killed) {
            (self.memory, self.look) = (None, None);
        }
    }

    /// What exists or may come to exist, and no volume object tells of.
    fn untold(&self) -> Vec<&String> {
        let told = self.object.as_ref().and_then(|object| object.spec.as_ref()?.csi.as_ref());
        let told = told.map(|csi| &csi.volume_handle);
        self.volumes.union(&self.pending).filter(|volume| Some(*volume) != told).collect()
    }

    fn intended(&self) -> bool {
        self.claim.as_ref().is_some_and(has_intent)
    }
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 1500, ..ProptestConfig::default() })]
    #[test]
    fn the_intent_stays_as_long_as_something_may_exist_untold(
        turns in prop::collection::vec(turn(), 1..60)
    ) {
        let mut world = World::new();
        for turn in turns {
            world.step(turn);
            prop_assert!(world.intended() || world.untold().is_empty(), "after {turn:?}: {:?}", world.untold());
        }
        for _ in 0..60 {
            world.step(Turn::Good);
        }
        prop_assert!(!world.intended() && world.untold().is_empty(), "never settled: {:?}", world.untold());
        prop_assert!(world.claim.is_none() || world.object.is_some());
    }
}
