//! What `holdfast up` and `holdfast server` take for the life of nodes.

use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_volume_controller::controllers::Patience;

/// A shorter time would make a lost node of every node that is busy for a moment.
const LEAST: Duration = Duration::from_secs(2);

#[derive(clap::Args)]
pub(crate) struct NodeArgs {
    /// How long a node may give no sign of life before it counts as not ready, such as 50s or 2m. Only time counts in
    /// which this process could have heard it
    #[arg(long, value_name = "DURATION", default_value = "50s")]
    node_monitor_grace_period: String,
}

impl NodeArgs {
    pub(crate) fn patience(&self) -> Result<Patience> {
        let grace = duration(&self.node_monitor_grace_period).context("--node-monitor-grace-period")?;
        ensure!(grace >= LEAST, "--node-monitor-grace-period must be at least {LEAST:?}");
        Ok(Patience::new(grace))
    }
}

/// A duration as Kubernetes' flags have it: `90s`, `1m30s`.
fn duration(text: &str) -> Result<Duration> {
    let parsed = text.parse::<jiff::SignedDuration>();
    let parsed = parsed.with_context(|| format!("{text:?} is not a duration such as 50s or 1m30s"))?;
    Duration::try_from(parsed).with_context(|| format!("{text:?} is negative"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn durations() {
        assert_eq!(duration("1m30s").unwrap(), Duration::from_secs(90));
        assert_eq!(duration("50s").unwrap(), Duration::from_secs(50));
        assert_eq!(duration("1h").unwrap(), Duration::from_secs(3600));
        for wrong in ["", "50", "-3s", "soon"] {
            assert!(duration(wrong).is_err(), "{wrong}");
        }
        let args = |text: &str| NodeArgs { node_monitor_grace_period: text.to_owned() };
        assert!(args("1s").patience().is_err());
        assert_eq!(args("50s").patience().unwrap(), Patience::default());
    }
}
