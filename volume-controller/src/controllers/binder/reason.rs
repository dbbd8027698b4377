//! Why the binder does what it does; upstream's wording where upstream has one.

use std::fmt;

/// One reason; feeds the event, the object's status and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    // Claims.
    Bound { claim: String, volume: String },
    DefaultClass { class: String },
    WaitsForConsumer,
    WaitsForPod { pod: String },
    WaitsForVolume { volume: String },
    Misfit { volume: String, why: &'static str },
    TakenVolume { volume: String },
    NothingFits,
    NoClass { class: String },
    NoProvisioner { class: String },
    Provisioning { provisioner: String },
    VolumeGone { volume: String },
    VolumeOfAnother { volume: String },
    BadSelector { why: String },
    // Both.
    Contested,
    // Volumes.
    Free,
    ClaimGone { claim: String },
    NotNeeded { claim: String },
    NoDeleter,
    NoRecycler,
}

impl Reason {
    /// The event's `reason`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Bound { .. } => "Bound",
            Self::DefaultClass { .. } => "DefaultClassAssigned",
            Self::WaitsForConsumer => "WaitForFirstConsumer",
            Self::WaitsForPod { .. } => "WaitForPodScheduled",
            Self::WaitsForVolume { .. }
            | Self::TakenVolume { .. }
            | Self::NothingFits
            | Self::BadSelector { .. } => "FailedBinding",
            Self::Misfit { .. } => "VolumeMismatch",
            Self::NoClass { .. } | Self::NoProvisioner { .. } => "ProvisioningFailed",
            Self::Provisioning { .. } => "ExternalProvisioning",
            Self::VolumeGone { .. } => "ClaimLost",
            Self::VolumeOfAnother { .. } => "ClaimMisbound",
            Self::Contested => "Contested",
            Self::Free => "Available",
            Self::ClaimGone { .. } | Self::NotNeeded { .. } => "VolumeReleased",
            Self::NoDeleter => "VolumeFailedDelete",
            Self::NoRecycler => "VolumeFailedRecycle",
        }
    }

    /// Whether a person has to do something.
    pub(crate) fn is_warning(&self) -> bool {
        matches!(
            self,
            Self::Misfit { .. }
                | Self::TakenVolume { .. }
                | Self::NoClass { .. }
                | Self::NoProvisioner { .. }
                | Self::VolumeGone { .. }
                | Self::VolumeOfAnother { .. }
                | Self::BadSelector { .. }
                | Self::NoDeleter
                | Self::NoRecycler
        )
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Bound { claim, volume } => write!(f, "claim {claim} is bound to volume {volume}"),
            Self::DefaultClass { class } => write!(f, "the claim names no class and gets the default class {class:?}"),
            Self::WaitsForConsumer => f.write_str("waiting for first consumer to be created before binding"),
            Self::WaitsForPod { pod } => write!(f, "waiting for pod {pod} to be scheduled"),
            Self::WaitsForVolume { volume } => {
                write!(f, "volume {volume:?}, which the claim names, does not exist: create it, or leave volumeName out")
            }
            Self::Misfit { volume, why } => write!(f, "Cannot bind to requested volume {volume:?}: {why}"),
            Self::TakenVolume { volume } => write!(f, "volume {volume:?} already bound to a different claim."),
            Self::NothingFits => {
                f.write_str("no persistent volumes available for this claim and no storage class is set")
            }
            Self::NoClass { class } => write!(f, "storageclass.storage.k8s.io {class:?} not found"),
            Self::NoProvisioner { class } => write!(
                f,
                "no persistent volume of storageclass {class:?} fits this claim, and the class has no provisioner: \
                 create a volume for it"
            ),
            Self::Provisioning { provisioner } => write!(
                f,
                "Waiting for a volume to be created either by the external provisioner '{provisioner}' or manually by \
                 the system administrator. If volume creation is delayed, please verify that the provisioner is \
                 running and correctly registered."
            ),
            Self::VolumeGone { volume } => {
                write!(f, "Bound claim has lost its PersistentVolume {volume}. Data on the volume is lost!")
            }
            Self::VolumeOfAnother { volume } => {
                write!(f, "Two claims are bound to the same volume {volume}, this one is bound incorrectly")
            }
            Self::BadSelector { why } => write!(f, "the claim's selector cannot be read: {why}"),
            Self::Contested => f.write_str("what would fit is about to be bound to another"),
            Self::Free => f.write_str("no claim has the volume"),
            Self::ClaimGone { claim } => write!(f, "claim {claim}, to which the volume was bound, is gone"),
            Self::NotNeeded { claim } => write!(f, "claim {claim}, for which the volume was made, is bound to another one"),
            Self::NoDeleter => f.write_str(
                "nothing here can delete a volume of this kind: delete the data and then the volume yourself, or set \
                 persistentVolumeReclaimPolicy to Retain",
            ),
            Self::NoRecycler => f.write_str(
                "volumes are not recycled: delete the data and the volume yourself, or set \
                 persistentVolumeReclaimPolicy to Retain and clear claimRef to use it again",
            ),
        }
    }
}
