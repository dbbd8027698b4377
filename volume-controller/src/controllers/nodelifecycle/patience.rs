//! How long nodes may be silent.

use std::time::Duration;

/// All times of the node lifecycle, from one: how long a node may be silent before it counts as lost. The others
/// stand to it as the defaults of Kubernetes' flags do.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Patience {
    grace: Duration,
}

impl Default for Patience {
    fn default() -> Self {
        Self::new(Duration::from_secs(50))
    }
}

impl Patience {
    /// `grace` is `--node-monitor-grace-period`.
    #[must_use]
    pub fn new(grace: Duration) -> Self {
        Self { grace }
    }

    /// How long the lease of a node should last, so that one or two renewals that get lost are no news (40 s).
    #[must_use]
    pub fn lease(&self) -> Duration {
        self.grace * 4 / 5
    }

    /// How often a node is looked at when nothing is heard of it (5 s).
    pub(super) fn period(&self) -> Duration {
        self.grace / 10
    }

    /// How long a node that was ready may be silent.
    pub(super) fn grace(&self) -> Duration {
        self.grace
    }

    /// How long one may be silent that never said anything of itself (60 s).
    pub(super) fn startup(&self) -> Duration {
        self.grace * 6 / 5
    }

    /// How long a node is silent before its pods are driven away. Longer than [`Patience::grace`] by the time in which
    /// others are noticed that fell silent for the same reason.
    pub(super) fn eviction(&self) -> Duration {
        self.grace * 5 / 4
    }

    /// How long a node has no object before its pods are removed: one whose object was deleted by mistake has made it
    /// anew by then (40 s).
    pub(super) fn quarantine(&self) -> Duration {
        self.grace * 4 / 5
    }

    /// The least time between two nodes of a zone from which pods are driven away (10 s).
    pub(super) fn pace(&self) -> Duration {
        self.grace / 5
    }
}
