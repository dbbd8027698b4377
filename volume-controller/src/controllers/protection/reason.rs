//! Why a protection ends.

use std::fmt;

/// One reason, for the log.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    ClaimUnused,
    VolumeUnbound,
    AttributesUnused,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::ClaimUnused => "the claim is being deleted and no pod uses it any more",
            Self::AttributesUnused => "the class is being deleted and no claim or volume has it any more",
            Self::VolumeUnbound => "the volume is being deleted and no claim is bound to it any more",
        })
    }
}
