//! Waiting for a driver that may start after us.

use std::{path::Path, time::Duration};

use tokio::time::Instant;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use super::CsiClient;

const FIRST_PAUSE: Duration = Duration::from_millis(50);
const LONGEST_PAUSE: Duration = Duration::from_secs(2);
/// A driver that starts beside us may take this long before anything is said.
const PATIENCE: Duration = Duration::from_secs(1);
const REMIND_EVERY: Duration = Duration::from_secs(30);

/// Waits until the plugin behind `client` is there and ready. Returns false when
/// cancelled first. Says after a second, and then every 30 s, what it is waiting for.
pub(crate) async fn connect(client: &CsiClient, socket: &Path, cancel: &CancellationToken) -> bool {
    let began = Instant::now();
    let mut pause = FIRST_PAUSE;
    let mut said: Option<(String, Instant)> = None;
    loop {
        let trouble = if !socket.exists() {
            format!("socket {} is not there: is the driver running?", socket.display())
        } else {
            match client.probe().await {
                Ok(true) => {
                    if said.is_some() {
                        info!(socket = %socket.display(), "the driver is ready");
                    }
                    return true;
                }
                Ok(false) => format!("the driver at {} answers but is not ready yet", socket.display()),
                Err(error) => format!("the driver at {} does not answer: {error}", socket.display()),
            }
        };
        let remind = said.as_ref().is_none_or(|(last, at)| *last != trouble || at.elapsed() > REMIND_EVERY);
        if remind && began.elapsed() > PATIENCE {
            warn!("{trouble}");
            said = Some((trouble, Instant::now()));
        }
        tokio::select! {
            () = cancel.cancelled() => return false,
            () = tokio::time::sleep(pause) => pause = (pause * 2).min(LONGEST_PAUSE),
        }
    }
}
