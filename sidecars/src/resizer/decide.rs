//! What to do next for one claim that may want more. Pure.
//!
//! `allocatedResources` is the recorded intent: the size that the driver may have been
//! asked for. It is saved before ControllerExpandVolume, and as long as it is not certain
//! that this call ended, the same size is asked for again, whatever the user asks for
//! meanwhile (the rules of Kubernetes' recovery from volume expansion failure).

use std::{sync::Arc, time::Duration};

use holdfast_api::access;
use holdfast_proto::csi::{CapacityRange, ControllerExpandVolumeRequest};
use jiff::Timestamp;
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::{reason::Reason, status};
use crate::{
    csi::{self, CsiError, DriverFacts, Verdict},
    writes::SecretKey,
};

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
    Begun,
    /// The status says that `bytes` is under way.
    Recorded {
        bytes: i64,
    },
    Expanded {
        bytes: i64,
        node: bool,
    },
    Failed(CsiError),
    /// The volume object has the new size.
    Saved {
        bytes: i64,
        node: bool,
    },
    /// The failure is in the status.
    Noted(Reason),
    /// The last write of the status is done.
    Finished,
}

/// How long a size that the driver or the node calls impossible is left alone; a new size
/// comes at once.
pub(super) const INFEASIBLE_PAUSE: Duration = Duration::from_secs(300);

/// The last time that a node which could not was asked again. Known to this process only: a
/// restart costs one attempt more.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct NodeTry {
    /// What the claim asked for then, bytes.
    pub asked: i64,
    pub at: Timestamp,
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub facts: Arc<DriverFacts>,
    pub claim: Option<Arc<PersistentVolumeClaim>>,
    pub volume: Option<Arc<PersistentVolume>>,
    /// The last call for this claim ended for certain.
    pub ended: bool,
    pub node_try: Option<NodeTry>,
    pub now: Timestamp,
    pub progress: Progress,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Rest(Reason),
    Retry(Reason),
    /// status: growing to `bytes` is under way.
    RecordIntent {
        bytes: i64,
        reason: Reason,
    },
    Expand {
        request: Box<ControllerExpandVolumeRequest>,
        secret: Option<SecretKey>,
        reason: Reason,
    },
    /// The controller has no part in it: go on as if it had done its own.
    SkipController {
        bytes: i64,
        reason: Reason,
    },
    /// The volume object's capacity.
    SaveVolume {
        bytes: i64,
        node: bool,
        reason: Reason,
    },
    /// status: the node's turn.
    HandToNode(Reason),
    /// status: done.
    Finish {
        bytes: i64,
        reason: Reason,
    },
    /// status: why not.
    NoteFailure {
        infeasible: bool,
        reason: Reason,
    },
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::RecordIntent { reason, .. }
            | Self::Expand { reason, .. }
            | Self::SkipController { reason, .. }
            | Self::SaveVolume { reason, .. }
            | Self::HandToNode(reason)
            | Self::Finish { reason, .. }
            | Self::NoteFailure { reason, .. } => reason,
        }
    }
}

/// See the module's documentation.
pub(crate) fn decide(view: &View) -> Action {
    let Some(claim) = &view.claim else { return Action::Rest(Reason::Gone) };
    match &view.progress {
        Progress::Begun | Progress::Recorded { .. } => {}
        Progress::Expanded { bytes, node } => {
            let (bytes, node) = (*bytes, *node);
            return Action::SaveVolume { bytes, node, reason: Reason::Expanded { bytes } };
        }
        Progress::Saved { node: true, .. } => return Action::HandToNode(Reason::NodesTurn),
        Progress::Saved { bytes, node: false } => {
            return Action::Finish { bytes: *bytes, reason: Reason::Succeeded };
        }
        Progress::Failed(error) => {
            return match error.verdict() {
                // It may still be growing: the status stays as it is, and the same size is asked for again.
                Verdict::Unknown => Action::Retry(Reason::Failed(error.clone())),
                verdict => {
                    let infeasible = verdict == Verdict::Infeasible;
                    Action::NoteFailure { infeasible, reason: Reason::Failed(error.clone()) }
                }
            };
        }
        Progress::Noted(reason) => {
            let infeasible = status::of(claim) == Some(status::INFEASIBLE);
            let noted = Box::new(reason.clone());
            return Action::Retry(if infeasible { Reason::Infeasible(noted) } else { Reason::Noted(noted) });
        }
        Progress::Finished => return Action::Rest(Reason::Done),
    }
    let (Ok(asked), Ok(Some(has))) = (access::claim_request(claim), access::claim_capacity(claim)) else {
        return Action::Rest(Reason::NotBound);
    };
    let bound = claim.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    if !bound {
        return Action::Rest(Reason::NotBound);
    }
    if asked <= has {
        return Action::Rest(Reason::LargeEnough);
    }
    let Some(volume) = &view.volume else { return Action::Rest(Reason::NoVolume) };
    let spec = volume.spec.clone().unwrap_or_default();
    let ours = spec.csi.as_ref().is_some_and(|csi| csi.driver == view.facts.name);
    let owner = spec.claim_ref.as_ref().and_then(|owner| owner.uid.as_ref());
    if !ours || owner != claim.metadata.uid.as_ref() {
        return Action::Rest(Reason::NotOurs);
    }
    if !view.facts.expand && !view.facts.node_expand {
        return Action::Rest(Reason::NotSupported);
    }
    let Ok(volume_has) = access::volume_capacity(volume) else { return Action::Rest(Reason::NoVolume) };
    if status::of(claim) == Some(status::NODE_INFEASIBLE)
        && let Some(wait) = node_pause(view, asked)
    {
        return Action::Retry(Reason::NodeInfeasible { wait });
    }
    let bytes = match &view.progress {
        Progress::Recorded { bytes } => *bytes,
        _ => match target(view, claim, asked, volume_has) {
            Some(bytes) => bytes,
            None => return Action::Rest(Reason::NodesTurn),
        },
    };
    let recorded = status::of(claim) == Some(status::IN_PROGRESS) && status::allocated(claim) == Some(bytes);
    if !recorded {
        return Action::RecordIntent { bytes, reason: Reason::Resizing { volume: volume.name_any() } };
    }
    if !view.facts.expand {
        return Action::SkipController { bytes, reason: Reason::NodeOnly };
    }
    let capability = match csi::for_volume(&spec, "", view.facts.single_node_multi_writer) {
        Ok(capability) => capability,
        Err(error) => {
            return Action::NoteFailure { infeasible: true, reason: Reason::BadModes(error) };
        }
    };
    let csi = spec.csi.unwrap_or_default();
    let secret = csi.controller_expand_secret_ref.as_ref().map(SecretKey::from);
    let request = ControllerExpandVolumeRequest {
        volume_id: csi.volume_handle,
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capability: Some(capability),
        ..ControllerExpandVolumeRequest::default()
    };
    Action::Expand { request: Box::new(request), secret, reason: Reason::Expanding { bytes } }
}

/// How long a node that could not is left alone yet. Without it the controller's part, which
/// succeeds at once, and the node's refusal would chase each other without end.
fn node_pause(view: &View, asked: i64) -> Option<Duration> {
    let last = view.node_try.filter(|last| last.asked == asked)?;
    // A clock set back must not make the pause longer than it is.
    let passed = Duration::try_from(view.now.duration_since(last.at)).unwrap_or_default();
    INFEASIBLE_PAUSE.checked_sub(passed).filter(|left| !left.is_zero())
}

/// The size to grow to now; `None` while the node is at it.
fn target(view: &View, claim: &PersistentVolumeClaim, asked: i64, volume_has: i64) -> Option<i64> {
    let allocated = status::allocated(claim);
    match status::of(claim) {
        Some(status::NODE_PENDING | status::NODE_IN_PROGRESS) => {
            let under_way = allocated.unwrap_or(asked);
            // The node first finishes what it has begun.
            (volume_has < under_way).then_some(under_way)
        }
        // The node cannot: the controller makes sure of the size once more, which lets the node try again.
        Some(status::NODE_INFEASIBLE) => Some(allocated.unwrap_or(asked)),
        Some(status::IN_PROGRESS) => {
            // Of an earlier life of this process nothing is known: what was begun comes first.
            if view.ended && volume_has < asked { Some(asked) } else { Some(allocated.unwrap_or(asked)) }
        }
        Some(status::INFEASIBLE) if volume_has >= asked => Some(allocated.unwrap_or(asked)),
        _ => Some(asked),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
