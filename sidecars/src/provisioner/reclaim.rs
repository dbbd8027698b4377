//! What to do next for one volume object that this driver provisioned. Pure.
//!
//! The volume object keeps its finalizer until DeleteVolume has answered with success, so
//! a crash anywhere repeats DeleteVolume (idempotent) and never forgets it.

use std::{fmt, sync::Arc};

use holdfast_api::names;
use k8s_openapi::api::core::v1::PersistentVolume;
use kube::ResourceExt;

use crate::{
    csi::{CsiError, DriverFacts},
    events::{Explain, Headline},
    writes::Blocked,
};

/// Whether the claim that a volume belongs to is still there.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Owner {
    NotAsked,
    Gone,
    Lives,
}

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
    Begun,
    Deleted,
    DeleteFailed(CsiError),
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub facts: Arc<DriverFacts>,
    pub volume: Option<Arc<PersistentVolume>>,
    /// `volume` comes from the API itself and not from the cache.
    pub live: bool,
    /// The nodes of the attachments that are there.
    pub attached_to: Vec<String>,
    pub owner: Owner,
    pub progress: Progress,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Rest(Reason),
    Retry(Reason),
    /// Read the volume object from the API.
    ReadVolume(Reason),
    /// Ask the API whether the claim is still there.
    ReadOwner(Reason),
    /// Put the provisioner's finalizer on the volume object.
    Protect(Reason),
    /// Take it off.
    Unprotect(Reason),
    /// DeleteVolume.
    Delete(Reason),
    /// Delete the volume object.
    DeleteObject(Reason),
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::ReadVolume(reason)
            | Self::ReadOwner(reason)
            | Self::Protect(reason)
            | Self::Unprotect(reason)
            | Self::Delete(reason)
            | Self::DeleteObject(reason) => reason,
        }
    }
}

/// Why.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Gone,
    NotOurs,
    Kept,
    InUse,
    StillAttached { nodes: Vec<String> },
    ClaimLives,
    Protecting,
    Checking,
    Reclaiming,
    Deleted,
    Failed(CsiError),
    Blocked(Blocked),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the volume is gone"),
            Self::NotOurs => write!(f, "not provisioned by this driver"),
            Self::Kept => write!(f, "the reclaim policy keeps what the volume holds"),
            Self::InUse => write!(f, "the volume has its claim"),
            Self::StillAttached { nodes } => {
                write!(f, "the volume is still attached to {}", nodes.join(", "))
            }
            Self::ClaimLives => write!(f, "the volume's claim still exists: nothing is deleted"),
            Self::Protecting => write!(f, "the volume object must stay until its volume is deleted"),
            Self::Checking => write!(f, "making sure before deleting"),
            Self::Reclaiming => write!(f, "the claim is gone: deleting the volume"),
            Self::Deleted => write!(f, "the driver deleted the volume: removing its object"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Blocked(what) => write!(f, "{what}"),
        }
    }
}

impl Explain for Reason {
    fn headline(&self) -> Option<Headline> {
        match self {
            Self::Failed(_) | Self::Blocked(Blocked { passes: false, .. }) => {
                Some(Headline::warning("VolumeFailedDelete", "Delete"))
            }
            _ => None,
        }
    }
}

pub(crate) fn is_protected(volume: &PersistentVolume) -> bool {
    volume.finalizers().iter().any(|finalizer| finalizer == names::PROVISIONER_FINALIZER)
}

/// See the module's documentation.
pub(crate) fn decide(view: &View) -> Action {
    let Some(volume) = &view.volume else { return Action::Rest(Reason::Gone) };
    let spec = volume.spec.clone().unwrap_or_default();
    let by = volume.annotations().get(names::PROVISIONED_BY);
    let ours = by.is_some_and(|by| *by == view.facts.name)
        && spec.csi.as_ref().is_some_and(|csi| csi.driver == view.facts.name);
    if !ours {
        return Action::Rest(Reason::NotOurs);
    }
    let deleting = volume.metadata.deletion_timestamp.is_some();
    let protected = is_protected(volume);
    match &view.progress {
        Progress::Deleted if !deleting => return Action::DeleteObject(Reason::Deleted),
        Progress::Deleted if protected => return Action::Unprotect(Reason::Deleted),
        Progress::Deleted => return Action::Rest(Reason::Deleted),
        Progress::DeleteFailed(error) => return Action::Retry(Reason::Failed(error.clone())),
        Progress::Begun => {}
    }
    if spec.persistent_volume_reclaim_policy.as_deref() != Some("Delete") {
        // Retain: the object may go whenever it is deleted, the data stays.
        return if protected { Action::Unprotect(Reason::Kept) } else { Action::Rest(Reason::Kept) };
    }
    if deleting && !protected {
        // Too late to do anything in safety: somebody took the finalizer off on purpose, or
        // our own last step is done and others' finalizers remain.
        return Action::Rest(Reason::Kept);
    }
    if !protected {
        return Action::Protect(Reason::Protecting);
    }
    let phase = volume.status.as_ref().and_then(|status| status.phase.as_deref()).unwrap_or("Pending");
    let due = match phase {
        "Released" | "Failed" => true,
        // Never had a claim, and its object is deleted: nobody else will reclaim it.
        "Available" => deleting && spec.claim_ref.is_none(),
        _ => false,
    };
    if !due {
        return Action::Rest(Reason::InUse);
    }
    if !view.attached_to.is_empty() {
        // The end of the attachment wakes us.
        return Action::Rest(Reason::StillAttached { nodes: view.attached_to.clone() });
    }
    // What follows destroys data: a cache is no ground for it.
    if !view.live {
        return Action::ReadVolume(Reason::Checking);
    }
    match view.owner {
        Owner::NotAsked if spec.claim_ref.is_some() => Action::ReadOwner(Reason::Checking),
        Owner::Lives => Action::Retry(Reason::ClaimLives),
        Owner::NotAsked | Owner::Gone => Action::Delete(Reason::Reclaiming),
    }
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;
    use crate::csi::Origin;

    fn volume(phase: &str, changes: &Value) -> Arc<PersistentVolume> {
        let mut base = json!({
            "metadata": {
                "name": "pvc-1", "uid": "u1",
                "annotations": {"pv.kubernetes.io/provisioned-by": "d"},
                "finalizers": [names::PROVISIONER_FINALIZER],
            },
            "spec": {
                "persistentVolumeReclaimPolicy": "Delete",
                "csi": {"driver": "d", "volumeHandle": "h"},
                "claimRef": {"namespace": "dev", "name": "data", "uid": "c1"},
            },
            "status": {"phase": phase},
        });
        merge(&mut base, changes);
        Arc::new(serde_json::from_value(base).expect("a volume"))
    }

    fn merge(into: &mut Value, from: &Value) {
        match (into, from) {
            (Value::Object(into), Value::Object(from)) => {
                for (key, value) in from {
                    merge(into.entry(key.clone()).or_insert(Value::Null), value);
                }
            }
            (into, from) => *into = from.clone(),
        }
    }

    fn failed() -> CsiError {
        CsiError {
            method: "DeleteVolume",
            code: tonic::Code::FailedPrecondition,
            message: "in use".to_owned(),
            origin: Origin::Driver,
        }
    }

    #[test]
    fn table() {
        use Owner::{Gone, Lives, NotAsked};
        use Progress::{Begun, Deleted};
        let retain = json!({"spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        let deleting = json!({"metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let bare = json!({"metadata": {"finalizers": null}});
        let bare_deleting =
            json!({"metadata": {"finalizers": null, "deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let other = json!({"metadata": {"annotations": {"pv.kubernetes.io/provisioned-by": "e"}}});
        let unclaimed =
            json!({"spec": {"claimRef": null}, "metadata": {"deletionTimestamp": "2026-01-01T00:00:00Z"}});
        let bare_retain =
            json!({"metadata": {"finalizers": null}, "spec": {"persistentVolumeReclaimPolicy": "Retain"}});
        let none = json!({});
        let nodes = || vec!["n1".to_owned()];
        type Row<'a> = (u32, &'a str, &'a Value, bool, Vec<String>, Owner, Progress, Action);
        let table: Vec<Row<'_>> = vec![
            (1, "Bound", &none, false, vec![], NotAsked, Begun, Action::Rest(Reason::InUse)),
            (2, "Released", &none, false, vec![], NotAsked, Begun, Action::ReadVolume(Reason::Checking)),
            (3, "Released", &none, true, vec![], NotAsked, Begun, Action::ReadOwner(Reason::Checking)),
            (4, "Released", &none, true, vec![], Gone, Begun, Action::Delete(Reason::Reclaiming)),
            (5, "Released", &none, true, vec![], Lives, Begun, Action::Retry(Reason::ClaimLives)),
            (
                6,
                "Released",
                &none,
                true,
                nodes(),
                Gone,
                Begun,
                Action::Rest(Reason::StillAttached { nodes: nodes() }),
            ),
            (7, "Released", &none, true, vec![], Gone, Deleted, Action::DeleteObject(Reason::Deleted)),
            (8, "Released", &deleting, true, vec![], Gone, Deleted, Action::Unprotect(Reason::Deleted)),
            (9, "Released", &bare_deleting, true, vec![], Gone, Deleted, Action::Rest(Reason::Deleted)),
            (10, "Bound", &deleting, false, vec![], NotAsked, Begun, Action::Rest(Reason::InUse)),
            (11, "Released", &retain, false, vec![], NotAsked, Begun, Action::Unprotect(Reason::Kept)),
            (12, "Released", &bare_retain, false, vec![], NotAsked, Begun, Action::Rest(Reason::Kept)),
            (13, "Released", &other, false, vec![], NotAsked, Begun, Action::Rest(Reason::NotOurs)),
            (14, "Bound", &bare, false, vec![], NotAsked, Begun, Action::Protect(Reason::Protecting)),
            (15, "Released", &bare_deleting, false, vec![], NotAsked, Begun, Action::Rest(Reason::Kept)),
            (16, "Available", &unclaimed, true, vec![], NotAsked, Begun, Action::Delete(Reason::Reclaiming)),
            (17, "Available", &none, false, vec![], NotAsked, Begun, Action::Rest(Reason::InUse)),
            (
                18,
                "Released",
                &none,
                true,
                vec![],
                Gone,
                Progress::DeleteFailed(failed()),
                Action::Retry(Reason::Failed(failed())),
            ),
            (19, "Released", &deleting, false, vec![], NotAsked, Begun, Action::ReadVolume(Reason::Checking)),
            (20, "Released", &retain, true, vec![], Gone, Begun, Action::Unprotect(Reason::Kept)),
        ];
        let facts = Arc::new(DriverFacts::new("d".to_owned()));
        for (number, phase, changes, live, attached_to, owner, progress, wanted) in table {
            let view = View {
                facts: Arc::clone(&facts),
                volume: Some(volume(phase, changes)),
                live,
                attached_to,
                owner,
                progress,
            };
            assert_eq!(decide(&view), wanted, "row {number}");
        }
    }
}
