//! Why a pod was placed, or waits; upstream's wording where upstream has one.

use std::fmt;

/// Why one node was refused.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) enum Refusal {
    NotReady,
    Unschedulable,
    Taint(String),
    Affinity,
    VolumeAffinity,
    NoDriver(String),
    Topology,
    NoCandidate,
    OtherPodHasClaim,
}

impl fmt::Display for Refusal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::NotReady => f.write_str("were not ready"),
            Self::Unschedulable => f.write_str("were unschedulable"),
            Self::Taint(taint) => write!(f, "had untolerated taint {{{taint}}}"),
            Self::Affinity => f.write_str("didn't match Pod's node affinity/selector"),
            Self::VolumeAffinity => f.write_str("didn't match PersistentVolume's node affinity"),
            Self::NoDriver(driver) => write!(f, "did not have the CSI driver {driver} registered"),
            Self::Topology => f.write_str("didn't match the allowedTopologies of the class"),
            Self::NoCandidate => f.write_str("didn't find available persistent volumes to bind"),
            Self::OtherPodHasClaim => {
                f.write_str("had a pod that uses the same ReadWriteOncePod PersistentVolumeClaim")
            }
        }
    }
}

/// One reason; feeds the condition `PodScheduled`, the event and the log line alike.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Assigned { pod: String, node: String },
    Chosen { claims: Vec<String>, node: String },
    NodeGone { claim: String, node: String },
    NothingThere { claim: String, node: String },
    ClaimMissing { claim: String },
    ClaimDeleting { claim: String },
    ClaimLost { claim: String, volume: String },
    EphemeralMissing { claim: String },
    UnboundImmediate,
    Provisioning { claims: Vec<String>, node: String },
    NoNode { nodes: usize, refusals: Vec<(Refusal, usize)> },
}

impl Reason {
    /// The event's `reason`.
    pub(crate) fn name(&self) -> &'static str {
        match self {
            Self::Assigned { .. } => "Scheduled",
            Self::Chosen { .. } => "NodeSelected",
            Self::Provisioning { .. } => "WaitForVolumes",
            Self::NodeGone { .. }
            | Self::NothingThere { .. }
            | Self::ClaimMissing { .. }
            | Self::ClaimDeleting { .. }
            | Self::ClaimLost { .. }
            | Self::EphemeralMissing { .. }
            | Self::UnboundImmediate
            | Self::NoNode { .. } => "FailedScheduling",
        }
    }
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Assigned { pod, node } => write!(f, "Successfully assigned {pod} to {node}"),
            Self::Chosen { claims, node } => {
                write!(f, "volumes for {} are to be made on node {node}", claims.join(", "))
            }
            Self::NodeGone { claim, node } => {
                write!(
                    f,
                    "node {node:?}, chosen for persistentvolumeclaim {claim:?}, is gone: choosing again"
                )
            }
            Self::NothingThere { claim, node } => write!(
                f,
                "node {node:?}, chosen for persistentvolumeclaim {claim:?}, has no free volume for it any more: \
                 choosing again"
            ),
            Self::ClaimMissing { claim } => write!(f, "persistentvolumeclaim {claim:?} not found"),
            Self::ClaimDeleting { claim } => write!(f, "persistentvolumeclaim {claim:?} is being deleted"),
            Self::ClaimLost { claim, volume } => {
                write!(f, "persistentvolumeclaim {claim:?} bound to non-existent persistentvolume {volume:?}")
            }
            Self::EphemeralMissing { claim } => write!(
                f,
                "waiting for ephemeral volume controller to create the persistentvolumeclaim {claim:?}"
            ),
            Self::UnboundImmediate => f.write_str("pod has unbound immediate PersistentVolumeClaims"),
            Self::Provisioning { claims, node } => {
                write!(f, "waiting for the volumes of {} to be made on node {node}", claims.join(", "))
            }
            Self::NoNode { nodes: 0, .. } => f.write_str("no nodes available to schedule pods"),
            Self::NoNode { nodes, refusals } => {
                let parts: Vec<String> =
                    refusals.iter().map(|(refusal, count)| format!("{count} node(s) {refusal}")).collect();
                write!(f, "0/{nodes} nodes are available: {}.", parts.join(", "))
            }
        }
    }
}
