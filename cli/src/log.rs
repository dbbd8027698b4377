//! The log of a command that runs on: to standard error, filtered by one flag.

use anyhow::{Context, Result};

/// The flags of the log.
#[derive(Debug, clap::Args)]
pub(crate) struct LogArgs {
    /// What is logged to standard error, as a filter such as `info` or `holdfast_sidecars=debug,warn`.
    #[arg(long, value_name = "FILTER", env = "RUST_LOG", default_value = "info")]
    log: String,
}

impl LogArgs {
    /// At least as much of holdfast's own log as klog's `-v` asks for: 4 is what programmers want to see, 6 everything.
    pub(crate) fn raise(&mut self, level: i64) {
        let more = match level {
            ..=3 => return,
            4 | 5 => "debug",
            _ => "trace",
        };
        for part in ["holdfast", "holdfast_sidecars"] {
            self.log = format!("{},{part}={more}", self.log);
        }
    }

    /// Starts the log; once in a process.
    pub(crate) fn start(&self) -> Result<()> {
        let filter = tracing_subscriber::EnvFilter::try_new(&self.log)
            .with_context(|| format!("--log {:?}: write a level such as info, or target=level", self.log))?;
        tracing_subscriber::fmt()
            .with_env_filter(filter)
            .with_writer(std::io::stderr)
            .with_ansi(std::io::IsTerminal::is_terminal(&std::io::stderr()))
            .init();
        Ok(())
    }
}
