//! Why the resizer does what it does, for the log, the Events and the reader.

use std::{fmt, time::Duration};

use super::decide::INFEASIBLE_PAUSE;
use crate::{
    csi::{CapabilityError, CsiError},
    events::{Explain, Headline},
    writes::Blocked,
};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Gone,
    NotBound,
    LargeEnough,
    NoVolume,
    NotOurs,
    NotSupported,
    Resizing {
        volume: String,
    },
    Expanding {
        bytes: i64,
    },
    NodeOnly,
    Expanded {
        bytes: i64,
    },
    NodesTurn,
    Succeeded,
    Done,
    BadModes(CapabilityError),
    Failed(CsiError),
    /// In the status by now; told already.
    Noted(Box<Reason>),
    /// As `Noted`, and this size will never be.
    Infeasible(Box<Reason>),
    /// The node cannot, and was asked again lately.
    NodeInfeasible {
        wait: Duration,
    },
    Blocked(Blocked),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the claim is gone"),
            Self::NotBound => write!(f, "the claim is not bound"),
            Self::LargeEnough => write!(f, "the claim has what it asks for"),
            Self::NoVolume => write!(f, "the claim's volume is not seen yet"),
            Self::NotOurs => write!(f, "not a volume of this driver and claim"),
            Self::NotSupported => write!(f, "the driver cannot grow volumes"),
            Self::Resizing { volume } => write!(f, "External resizer is resizing volume {volume}"),
            Self::Expanding { bytes } => write!(f, "asking the driver to grow the volume to {bytes} bytes"),
            Self::NodeOnly => write!(f, "the driver grows volumes on the node alone"),
            Self::Expanded { bytes } => write!(f, "the driver grew the volume to {bytes} bytes"),
            Self::NodesTurn => write!(f, "Require file system resize of volume on node"),
            Self::Succeeded => write!(f, "Resize volume succeeded"),
            Self::Done => write!(f, "the controller's part is done"),
            Self::BadModes(error) => write!(f, "{error}"),
            Self::Failed(error) => write!(f, "{error}"),
            Self::Noted(reason) | Self::Infeasible(reason) => reason.fmt(f),
            // Without the seconds: one Event counts up instead of one for each look.
            Self::NodeInfeasible { .. } => write!(
                f,
                "the file system cannot be grown on its node (see the claim's condition NodeResizeError): \
                 trying again every {} s, or at once when the claim asks for another size",
                INFEASIBLE_PAUSE.as_secs()
            ),
            Self::Blocked(what) => write!(f, "{what}"),
        }
    }
}

impl Explain for Reason {
    fn headline(&self) -> Option<Headline> {
        match self {
            Self::Resizing { .. } => Some(Headline::normal("Resizing", "Resize")),
            Self::Succeeded => Some(Headline::normal("VolumeResizeSuccessful", "Resize")),
            Self::Failed(_)
            | Self::BadModes(_)
            | Self::NodeInfeasible { .. }
            | Self::Blocked(Blocked { passes: false, .. }) => {
                Some(Headline::warning("VolumeResizeFailed", "Resize"))
            }
            Self::NodesTurn => Some(Headline::normal("FileSystemResizeRequired", "Resize")),
            _ => None,
        }
    }
}
