//! No order of refusals, lost answers, crashes, stale caches and deletions lets the content go while a
//! snapshot exists, or forgets one; and when the driver gets well, everything settles.

use std::sync::Arc;

use holdfast_api::snapshot::{group::VolumeGroupSnapshotContent, volume::VolumeSnapshotContent};
use holdfast_proto::csi::{Snapshot, VolumeGroupSnapshot};
use kube::ResourceExt;
use proptest::prelude::*;
use serde_json::json;
use tonic::Code;

use super::{
    content::{Content, has_intent, is_held},
    decide::{Action, Class, Progress, View, decide},
    reason::Task,
};
use crate::csi::{CsiError, DriverFacts, Origin};

/// What the world does next.
#[derive(Debug, Clone, Copy)]
enum Turn {
    /// One step, and it works.
    Good,
    /// One step; the driver refuses, also when it has the snapshot already.
    Refused,
    /// One step; the driver does it, and the answer is lost.
    DoneUnanswered,
    /// One step; no answer, and the driver may do it at any time from now on.
    Pending,
    /// One step; no connection.
    Unsent,
    /// One step; the driver does it, and the process dies before it knows.
    DoneAndDead,
    /// The process dies.
    Dead,
    /// What was pending is done now.
    Lands,
    /// The snapshot object is deleted, and the content with it.
    Deleted,
    /// A look begins with what the cache had before the last change.
    Stale,
}

fn turns() -> impl Strategy<Value = Vec<Turn>> {
    let turn = prop_oneof![
        8 => Just(Turn::Good),
        3 => Just(Turn::Refused),
        2 => Just(Turn::DoneUnanswered),
        2 => Just(Turn::Pending),
        1 => Just(Turn::Unsent),
        2 => Just(Turn::DoneAndDead),
        1 => Just(Turn::Dead),
        1 => Just(Turn::Lands),
        1 => Just(Turn::Deleted),
        2 => Just(Turn::Stale),
    ];
    proptest::collection::vec(turn, 0..60)
}

/// Both sorts of contents go the same ways.
trait Sample: Content {
    /// As the snapshot controller makes it.
    fn sample() -> Self;
    /// What the driver says of it.
    fn told() -> Self::Told;
}

impl Sample for VolumeSnapshotContent {
    fn sample() -> Self {
        let content = json!({
            "metadata": {"name": "snapcontent-s", "uid": "c", "finalizers": [Self::WORDS.bound]},
            "spec": {
                "driver": "d", "deletionPolicy": "Delete", "source": {"volumeHandle": "h"},
                "volumeSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
            },
        });
        serde_json::from_value(content).expect("a content")
    }

    fn told() -> Snapshot {
        Snapshot { snapshot_id: "x".to_owned(), ready_to_use: true, ..Snapshot::default() }
    }
}

impl Sample for VolumeGroupSnapshotContent {
    fn sample() -> Self {
        let content = json!({
            "metadata": {"name": "groupsnapcontent-s", "uid": "c", "finalizers": [Self::WORDS.bound]},
            "spec": {
                "driver": "d", "deletionPolicy": "Delete", "source": {"volumeHandles": ["h"]},
                "volumeGroupSnapshotRef": {"namespace": "dev", "name": "monday", "uid": "s"},
            },
        });
        serde_json::from_value(content).expect("a content")
    }

    fn told() -> VolumeGroupSnapshot {
        let snapshots = vec![VolumeSnapshotContent::told()];
        let group_snapshot_id = "g".to_owned();
        VolumeGroupSnapshot {
            group_snapshot_id,
            snapshots,
            ready_to_use: true,
            ..VolumeGroupSnapshot::default()
        }
    }
}

struct World<C: Content> {
    /// As the API has it.
    content: Option<C>,
    /// As it was before its last change.
    before: Option<C>,
    /// The driver has the snapshot.
    exists: bool,
    /// The driver may come to have it.
    pending: bool,
    clear: bool,
    look: Option<View<C>>,
}

impl<C: Sample> World<C> {
    fn new() -> Self {
        let content = C::sample();
        let before = Some(content.clone());
        Self { content: Some(content), before, exists: false, pending: false, clear: false, look: None }
    }

    fn view(&self, content: Option<&C>) -> View<C> {
        let facts = DriverFacts {
            controller: true,
            create_snapshot: true,
            group_snapshots: true,
            ..DriverFacts::new("d".to_owned())
        };
        View {
            facts: Arc::new(facts),
            extra_create_metadata: false,
            content: content.cloned().map(Arc::new),
            live: false,
            class: Class::NotAsked,
            clear: self.clear,
            progress: Progress::Begun,
        }
    }

    /// A write, unless it rests on `read` and that is not what there is.
    fn write(&mut self, read: Option<&C>, edit: impl FnOnce(&mut C)) -> bool {
        let Some(content) = &mut self.content else { return false };
        if read.is_some_and(|read| read != content) {
            return false;
        }
        self.before = Some(content.clone());
        edit(content);
        if content.meta().deletion_timestamp.is_some() && !is_held(content) {
            self.content = None;
        }
        true
    }

    fn take(&mut self, turn: Turn) {
        match turn {
            Turn::Dead => self.die(),
            Turn::Lands => self.exists |= std::mem::take(&mut self.pending),
            Turn::Deleted => {
                self.write(None, |content| {
                    let since = serde_json::from_value(json!("2026-01-01T00:00:00Z"));
                    content.meta_mut().deletion_timestamp = Some(since.expect("a time"));
                    content.annotations_mut().insert(C::WORDS.deleted.to_owned(), "yes".to_owned());
                });
            }
            Turn::Stale => self.look = Some(self.view(self.before.as_ref())),
            turn => self.step(turn),
        }
        self.check();
    }

    fn die(&mut self) {
        (self.look, self.clear) = (None, false);
    }

    fn step(&mut self, turn: Turn) {
        let mut view = self.look.take().unwrap_or_else(|| self.view(self.content.as_ref()));
        let read = view.content.as_deref().cloned();
        let mut ended = false;
        match decide(&view) {
            Action::Rest(_) | Action::Retry(_) => ended = true,
            Action::ReadClass { .. } | Action::Ask { .. } | Action::Trust { .. } => {
                panic!("not of this world")
            }
            Action::ReadContent(_) => {}
            Action::RecordIntent(_) => {
                let written = self.write(read.as_ref(), |content| {
                    content.annotations_mut().insert(C::WORDS.created.to_owned(), "yes".to_owned());
                });
                if written && read.as_ref().is_some_and(|read| !has_intent(read)) {
                    view.clear = true;
                }
            }
            Action::Create { .. } => {
                assert!(self.content.as_ref().is_some_and(|now| has_intent(now) || now.handle().is_some()));
                if self.create(turn, &mut view) {
                    return;
                }
            }
            Action::Save { told, .. } => {
                self.write(None, |content| {
                    let mut value = serde_json::to_value(&*content).expect("JSON");
                    value["status"] = C::status_of(&told);
                    *content = serde_json::from_value(value).expect("a content");
                });
                view.progress = Progress::Saved { ready: true };
            }
            Action::DropIntent(_) => {
                self.write(None, without_intent);
                view.clear = false;
            }
            Action::NoteFailure(reason) => view.progress = Progress::Noted(Box::new(reason)),
            Action::Delete { .. } => {
                if self.delete(turn, &mut view) {
                    return;
                }
            }
            Action::Unprotect(_) => {
                let written = self.write(read.as_ref(), |content| {
                    without_intent(content);
                    content.meta_mut().finalizers = None;
                });
                view.clear &= !written;
            }
        }
        // Whatever is written or read answers with what there is.
        (view.content, view.live) = (self.content.clone().map(Arc::new), true);
        self.clear = view.clear;
        self.look = (!ended).then_some(view);
    }

    /// Whether the process died of it.
    fn create(&mut self, turn: Turn, view: &mut View<C>) -> bool {
        let was_clear = std::mem::take(&mut view.clear);
        match turn {
            Turn::Good => {
                (self.exists, self.pending) = (true, false);
                view.progress = Progress::Told(Box::new(C::told()));
                return false;
            }
            Turn::DoneUnanswered | Turn::DoneAndDead => self.exists = true,
            Turn::Pending => self.pending = true,
            _ => {}
        }
        let error = error("CreateSnapshot", turn);
        view.clear = was_clear && error.is_final();
        view.progress = Progress::Failed(Task::Create, error);
        self.dies(turn)
    }

    fn delete(&mut self, turn: Turn, view: &mut View<C>) -> bool {
        match turn {
            Turn::Good => {
                self.exists = false;
                view.progress = Progress::Deleted;
                return false;
            }
            Turn::DoneUnanswered | Turn::DoneAndDead => self.exists = false,
            _ => {}
        }
        view.progress = Progress::Failed(Task::Delete, error("DeleteSnapshot", turn));
        self.dies(turn)
    }

    fn dies(&mut self, turn: Turn) -> bool {
        let dead = matches!(turn, Turn::DoneAndDead);
        if dead {
            self.die();
        }
        dead
    }

    fn check(&self) {
        let Some(content) = &self.content else {
            assert!(!self.exists && !self.pending, "a snapshot that nothing tells of");
            return;
        };
        let told = content.handle().is_some() || has_intent(content);
        assert!(told || !(self.exists || self.pending), "neither its id nor the intent is there");
    }
}

fn without_intent<C: Content>(content: &mut C) {
    content.annotations_mut().remove(C::WORDS.created);
}

fn error(method: &'static str, turn: Turn) -> CsiError {
    let (code, origin) = match turn {
        Turn::Refused => (Code::Internal, Origin::Driver),
        Turn::Unsent => (Code::Unavailable, Origin::Unsent),
        _ => (Code::DeadlineExceeded, Origin::Way),
    };
    CsiError { method, code, message: "no".to_owned(), origin }
}

fn settles<C: Sample>(turns: Vec<Turn>) -> Result<(), TestCaseError> {
    let mut world = World::<C>::new();
    for turn in turns {
        world.take(turn);
    }
    world.take(Turn::Dead);
    for _ in 0..20 {
        world.take(Turn::Good);
    }
    let is_settled = |content: &C| content.handle().is_some() && !has_intent(content);
    prop_assert!(world.content.as_ref().is_none_or(is_settled), "{:?}", world.content);
    world.take(Turn::Deleted);
    for _ in 0..20 {
        world.take(Turn::Good);
    }
    prop_assert!(world.content.is_none() && !world.exists, "{:?}", world.content);
    Ok(())
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(2048))]

    #[test]
    fn nothing_is_forgotten_and_everything_settles(turns in turns()) {
        settles::<VolumeSnapshotContent>(turns)?;
    }

    #[test]
    fn no_group_is_forgotten_and_everything_settles(turns in turns()) {
        settles::<VolumeGroupSnapshotContent>(turns)?;
    }
}
