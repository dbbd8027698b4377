//! What is told of a volume's condition, with upstream's reasons.

use std::fmt;

use crate::events::{Explain, Headline};

#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Reason {
    /// In the driver's words.
    Abnormal {
        message: String,
    },
    Recovered,
}

impl fmt::Display for Reason {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Abnormal { message } if message.is_empty() => f.write_str(
                "the driver says that something is wrong with the volume, and not what: see its log",
            ),
            Self::Abnormal { message } => f.write_str(message),
            // Upstream's words, which people look for.
            Self::Recovered => f.write_str("The Volume returns to the healthy state"),
        }
    }
}

impl Explain for Reason {
    fn headline(&self) -> Option<Headline> {
        Some(match self {
            Self::Abnormal { .. } => Headline::warning("VolumeConditionAbnormal", "Monitor"),
            Self::Recovered => Headline::normal("VolumeConditionNormal", "Monitor"),
        })
    }
}
