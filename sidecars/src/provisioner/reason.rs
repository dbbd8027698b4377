//! Why the provisioner does what it does, for the log, the Events and the reader.

use std::fmt;

use super::plan::PlanError;
use crate::{
    csi::CsiError,
    events::{Explain, Headline},
    writes::Blocked,
};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    ClaimGone,
    NotOurs,
    AlreadyProvisioned,
    NoClass {
        class: String,
    },
    WaitsForConsumer,
    /// Something other than a CSI driver fills the volume.
    Populator {
        source: String,
    },
    ReadingSource,
    CannotPlan {
        class: String,
        error: PlanError,
    },
    Provisioning {
        claim: String,
    },
    AskingAgain,
    Creating,
    Saving,
    Provisioned {
        volume: String,
    },
    CreateFailed {
        class: String,
        error: CsiError,
    },
    NoRoom {
        class: String,
        node: String,
        error: CsiError,
    },
    NameTaken {
        volume: String,
    },
    TooSmall {
        got: i64,
        wanted: i64,
    },
    Undone,
    Abandoning {
        claim: String,
    },
    Abandoned,
    CannotAbandon {
        why: String,
    },
    NothingBegun,
    /// Refused, after an earlier call that was never answered.
    InDoubt {
        volume: String,
        error: CsiError,
    },
    DeleteFailed(CsiError),
    /// The API or a secret stood in the way of a step.
    Blocked(Blocked),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimGone => write!(f, "the claim is gone"),
            Self::NotOurs => write!(f, "not for this driver"),
            Self::AlreadyProvisioned => write!(f, "the claim has its volume"),
            Self::NoClass { class } => {
                write!(f, "storageclass {class:?} is not there: create it, or use another")
            }
            Self::WaitsForConsumer => write!(f, "waits for the first pod that uses the claim"),
            Self::Populator { source } => {
                write!(f, "Assuming an external populator will provision the volume: data source {source}")
            }
            Self::ReadingSource => write!(f, "looking at what the volume is to be filled with"),
            Self::CannotPlan { class, error } => {
                write!(f, "failed to provision volume with StorageClass {class:?}: {error}")
            }
            Self::Provisioning { claim } => {
                write!(f, "External provisioner is provisioning volume for claim {claim:?}")
            }
            Self::AskingAgain => write!(f, "an earlier attempt may have begun: asking the driver again"),
            Self::Creating => write!(f, "asking the driver for a volume"),
            Self::Saving => write!(f, "the driver made the volume: saving it"),
            Self::Provisioned { volume } => write!(f, "Successfully provisioned volume {volume}"),
            Self::CreateFailed { class, error } => {
                write!(f, "failed to provision volume with StorageClass {class:?}: {error}")
            }
            Self::NoRoom { class, node, error } => write!(
                f,
                "failed to provision volume with StorageClass {class:?} for node {node}, asking for another node: {error}"
            ),
            Self::NameTaken { volume } => {
                write!(f, "volume {volume} exists but belongs to another claim: delete it if nobody needs it")
            }
            Self::TooSmall { got, wanted } => write!(
                f,
                "the driver made a volume of {got} bytes where {wanted} were asked for: deleting it again"
            ),
            Self::Undone => write!(f, "what did not fit is deleted: trying again"),
            Self::Abandoning { claim } => {
                write!(f, "claim {claim:?} is not wanted any more: deleting what may have been made for it")
            }
            Self::Abandoned => write!(f, "what was made for the claim is deleted"),
            Self::CannotAbandon { why } => write!(
                f,
                "a volume may exist for this claim, and whether it does cannot be asked: {why}. \
                 The claim stays until it can; when you are sure that there is none, remove its finalizer {}",
                super::decide::INTENT
            ),
            // The way out comes first: a driver's long message must not cut it off.
            Self::InDoubt { volume, error } => write!(
                f,
                "an earlier attempt to provision a volume for this claim was never answered, so a volume may \
                 exist, and what the driver answers now does not tell. The claim waits until the driver \
                 succeeds: remedy what it says. When you are sure that the driver has no volume {volume}, delete the \
                 claim and remove its finalizer {intent}. The driver says: {error}",
                intent = super::decide::INTENT
            ),
            Self::NothingBegun => write!(f, "nothing was made for the claim"),
            Self::DeleteFailed(error) => write!(f, "cannot delete what was made for the claim: {error}"),
            Self::Blocked(what) => write!(f, "{what}"),
        }
    }
}

impl Explain for Reason {
    fn headline(&self) -> Option<Headline> {
        match self {
            Self::Provisioning { .. } => Some(Headline::normal("Provisioning", "Provision")),
            Self::Populator { .. } => Some(Headline::normal("Provisioning", "Provision")),
            Self::Provisioned { .. } => Some(Headline::normal("ProvisioningSucceeded", "Provision")),
            Self::CannotPlan { .. }
            | Self::CreateFailed { .. }
            | Self::NoRoom { .. }
            | Self::NameTaken { .. }
            | Self::TooSmall { .. }
            | Self::CannotAbandon { .. }
            | Self::InDoubt { .. }
            | Self::Blocked(Blocked { passes: false, .. }) => {
                Some(Headline::warning("ProvisioningFailed", "Provision"))
            }
            Self::DeleteFailed(_) => Some(Headline::warning("VolumeFailedDelete", "Delete")),
            _ => None,
        }
    }
}
