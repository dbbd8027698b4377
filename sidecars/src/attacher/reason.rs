//! Why the attacher does what it does, for the log, the attachment's status and the reader.

use std::fmt;

use crate::{
    csi::{CapabilityError, CsiError},
    events::{Explain, Headline},
};

/// See the module's documentation.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    Gone,
    NotOurs,
    NoAttachNeeded,
    Attaching,
    Attached,
    AttachedNow,
    Detaching,
    Detached,
    NoVolume {
        volume: String,
    },
    VolumeDeleting {
        volume: String,
    },
    OtherDriver {
        volume: String,
    },
    BadSource,
    BadModes(CapabilityError),
    NodeUnknown {
        node: String,
    },
    NoSecret(String),
    AttachFailed(CsiError),
    DetachFailed(CsiError),
    /// The reason within is in the status by now; told already.
    Noted(Box<Reason>),
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Gone => write!(f, "the attachment is gone"),
            Self::NotOurs => write!(f, "not for this driver"),
            Self::NoAttachNeeded => write!(f, "the driver needs no attaching"),
            Self::Attaching => write!(f, "attaching"),
            Self::Attached => write!(f, "attached already"),
            Self::AttachedNow => write!(f, "the driver attached the volume"),
            Self::Detaching => write!(f, "detaching"),
            Self::Detached => write!(f, "the volume is detached"),
            Self::NoVolume { volume } => write!(f, "persistentvolume {volume:?} not found"),
            Self::VolumeDeleting { volume } => {
                write!(f, "PersistentVolume {volume:?} is marked for deletion")
            }
            Self::OtherDriver { volume } => {
                write!(f, "PersistentVolume {volume:?} is not of the driver that the attachment names")
            }
            Self::BadSource => {
                write!(f, "the attachment must name either a PersistentVolume or an inline volume, not both")
            }
            Self::BadModes(error) => write!(f, "{error}"),
            Self::NodeUnknown { node } => {
                write!(f, "the driver is not registered on node {node:?}: is its node agent running?")
            }
            Self::NoSecret(what) => write!(f, "{what}"),
            Self::AttachFailed(error) | Self::DetachFailed(error) => write!(f, "{error}"),
            Self::Noted(reason) => reason.fmt(f),
        }
    }
}

impl Explain for Reason {
    // The attach-detach controller tells pods of what attachments' statuses say; an event on
    // the attachment itself helps whoever describes it.
    fn headline(&self) -> Option<Headline> {
        match self {
            Self::NoVolume { .. }
            | Self::VolumeDeleting { .. }
            | Self::OtherDriver { .. }
            | Self::BadSource
            | Self::BadModes(_)
            | Self::NodeUnknown { .. }
            | Self::NoSecret(_)
            | Self::AttachFailed(_) => Some(Headline::warning("FailedAttachVolume", "Attach")),
            Self::DetachFailed(_) => Some(Headline::warning("FailedDetachVolume", "Detach")),
            _ => None,
        }
    }
}
