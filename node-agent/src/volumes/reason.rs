//! Why something is done, or is not done yet: one source for the log line, the event and the
//! pod's condition.

use std::fmt;

use super::view::VolumeId;

/// A reason, with what a person needs to act on it.
#[derive(Debug, Clone, PartialEq, Eq, Hash)]
pub(crate) enum Reason {
    // Why a pod's volume is not published yet.
    ClaimNotFound { claim: String },
    ClaimBeingDeleted { claim: String },
    ClaimNotBound { claim: String },
    ClaimLost { claim: String, volume: String },
    VolumeNotFound { claim: String, volume: String },
    VolumeNotOfClaim { claim: String, volume: String },
    ClaimForAnotherPod { claim: String },
    Unsupported { kind: String },
    ModeMismatch { mode: &'static str, field: &'static str },
    MarkingInUse,
    WaitingForAttach { volume: VolumeId },
    DriverNotRegistered { driver: String },
    HeldByOtherPod { pod: String },
    ReleasingFormerUse,
    Working,
    Slow { operation: &'static str },
    Failing { operation: &'static str, error: String },

    // Why an action is taken.
    PodNeeds,
    MayBeIncomplete,
    Grown,
    PodGone,
    PodEnded,
    PodLeaving,
    LastUserGone,
    ReportStale,
    Released,
    InUseStale,
}

impl Reason {
    /// The word for a condition's reason.
    pub(crate) fn code(&self) -> &'static str {
        match self {
            Self::ClaimNotFound { .. } => "ClaimNotFound",
            Self::ClaimBeingDeleted { .. } => "ClaimBeingDeleted",
            Self::ClaimNotBound { .. } => "ClaimNotBound",
            Self::ClaimLost { .. } => "ClaimLost",
            Self::VolumeNotFound { .. } => "VolumeNotFound",
            Self::VolumeNotOfClaim { .. } => "VolumeNotOfClaim",
            Self::ClaimForAnotherPod { .. } => "ClaimForAnotherPod",
            Self::Unsupported { .. } => "UnsupportedVolume",
            Self::ModeMismatch { .. } => "VolumeModeMismatch",
            Self::MarkingInUse => "MarkingInUse",
            Self::WaitingForAttach { .. } => "WaitingForAttach",
            Self::DriverNotRegistered { .. } => "DriverNotRegistered",
            Self::HeldByOtherPod { .. } => "HeldByOtherPod",
            Self::ReleasingFormerUse => "ReleasingFormerUse",
            Self::Working | Self::Slow { .. } => "Mounting",
            Self::Failing { .. } => "FailedMount",
            Self::PodNeeds => "PodNeeds",
            Self::MayBeIncomplete => "MayBeIncomplete",
            Self::Grown => "VolumeGrown",
            Self::PodGone => "PodGone",
            Self::PodEnded => "PodEnded",
            Self::PodLeaving => "PodLeaving",
            Self::LastUserGone => "LastUserGone",
            Self::ReportStale => "ReportStale",
            Self::Released => "Released",
            Self::InUseStale => "InUseStale",
        }
    }

    /// Whether a person has to do something, so that an event is due.
    pub(crate) fn needs_attention(&self) -> bool {
        matches!(
            self,
            Self::ClaimNotFound { .. }
                | Self::ClaimLost { .. }
                | Self::VolumeNotFound { .. }
                | Self::VolumeNotOfClaim { .. }
                | Self::ClaimForAnotherPod { .. }
                | Self::Unsupported { .. }
                | Self::ModeMismatch { .. }
                | Self::HeldByOtherPod { .. }
        )
    }

    /// Whether it passes within moments and is not worth a write of its own.
    pub(crate) fn is_passing(&self) -> bool {
        matches!(self, Self::Working | Self::MarkingInUse)
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::ClaimNotFound { claim } => write!(f, "claim {claim} does not exist"),
            Self::ClaimBeingDeleted { claim } => {
                write!(f, "claim {claim} is being deleted; a new pod cannot use it")
            }
            Self::ClaimNotBound { claim } => write!(f, "claim {claim} is not bound to a volume yet"),
            Self::ClaimLost { claim, volume } => {
                write!(f, "claim {claim} lost its volume {volume}; its data may still be there")
            }
            Self::VolumeNotFound { claim, volume } => {
                write!(f, "volume {volume} of claim {claim} does not exist")
            }
            Self::VolumeNotOfClaim { claim, volume } => {
                write!(f, "volume {volume} belongs to another claim than {claim}")
            }
            Self::ClaimForAnotherPod { claim } => {
                write!(f, "claim {claim} exists but was not made for this pod's ephemeral volume")
            }
            Self::Unsupported { kind } => {
                write!(f, "volumes of type {kind} are not supported by this version of holdfast")
            }
            Self::ModeMismatch { mode, field } => {
                write!(f, "the claim has volumeMode {mode} but a container names it in {field}")
            }
            Self::MarkingInUse => write!(f, "being listed in the node's volumesInUse"),
            Self::WaitingForAttach { volume } => {
                write!(f, "waiting for volume {} to be attached to this node", volume.handle)
            }
            Self::DriverNotRegistered { driver } => {
                write!(f, "CSI driver {driver} is not registered on this node")
            }
            Self::HeldByOtherPod { pod } => {
                write!(f, "the claim is ReadWriteOncePod and pod {pod} on this node uses it")
            }
            Self::ReleasingFormerUse => write!(f, "a former use of the volume is still being released"),
            Self::Working => write!(f, "being mounted"),
            Self::Slow { operation } => write!(f, "{operation} is under way and takes long"),
            Self::Failing { operation, error } => write!(f, "{operation} failed: {error}"),
            Self::PodNeeds => write!(f, "a pod needs it"),
            Self::MayBeIncomplete => write!(f, "an earlier attempt may have left it incomplete"),
            Self::Grown => write!(f, "the volume was grown"),
            Self::PodGone => write!(f, "its pod is gone"),
            Self::PodEnded => write!(f, "its pod has ended"),
            Self::PodLeaving => write!(f, "its pod is being deleted"),
            Self::LastUserGone => write!(f, "no pod uses it any more"),
            Self::ReportStale => write!(f, "the pod's status does not say how its volumes are"),
            Self::Released => write!(f, "everything that the pod used is released"),
            Self::InUseStale => write!(f, "the node's volumesInUse differs from what is used"),
        }
    }
}
