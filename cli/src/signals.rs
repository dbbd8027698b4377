//! The signals that end a command that runs on, and how it ends.

use std::time::Duration;

use anyhow::{Context, Result};
use tokio::signal::unix::{Signal, SignalKind, signal};

/// Ctrl-C and SIGTERM. From the moment this is made they no longer kill the process.
pub(crate) struct Signals {
    interrupt: Signal,
    terminate: Signal,
}

impl Signals {
    /// Needs the runtime.
    pub(crate) fn listen() -> Result<Self> {
        Ok(Self {
            interrupt: signal(SignalKind::interrupt()).context("cannot listen for Ctrl-C")?,
            terminate: signal(SignalKind::terminate()).context("cannot listen for SIGTERM")?,
        })
    }

    /// Waits for the first of them.
    pub(crate) async fn recv(&mut self) {
        tokio::select! {
            _ = self.interrupt.recv() => {}
            _ = self.terminate.recv() => {}
        }
    }
}

/// How long what is under way may take to come to an end after a signal: less than the 30 s that
/// Kubernetes gives a pod. Mounts stay in any case, so nothing is lost when it does not end.
pub(crate) const LEAVE: Duration = Duration::from_secs(20);

/// Runs a command on a runtime of its own. A call that waits for storage which hangs cannot be
/// ended; it goes with the process, and does not keep it.
pub(crate) fn run_to_the_end(command: impl Future<Output = Result<()>>) -> Result<()> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    let runtime = builder.enable_all().build().context("cannot start the runtime")?;
    let ended = runtime.block_on(command);
    runtime.shutdown_background();
    ended
}

/// Ends the process as `kill -9` would, which loses nothing: somebody has asked for the second time.
pub(crate) fn at_once() -> ! {
    tracing::warn!("ended by a second signal; what is mounted stays mounted");
    std::process::exit(1)
}
