//! What a run is told.

use std::{collections::HashMap, fmt, path::PathBuf, sync::Arc, time::Duration};

use futures::future::BoxFuture;
use tokio_util::sync::CancellationToken;

/// What a run is told. Start from [`Options::new`] and change what is different.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Options {
    /// The plugin's socket, as a path.
    pub socket: PathBuf,
    /// Runs only the checks whose id contains this text.
    pub filter: Option<String>,
    /// `parameters` of every CreateVolume.
    pub parameters: HashMap<String, String>,
    /// `parameters` with which a volume of the same name would be another one. Without
    /// them what concerns such a volume is skipped.
    pub other_parameters: Option<HashMap<String, String>>,
    /// Parameters for ControllerModifyVolume that the plugin accepts.
    pub mutable_parameters: HashMap<String, String>,
    /// Attributes of inline ephemeral volumes, as a pod has them. Without them what concerns
    /// such volumes is skipped.
    pub ephemeral: Option<HashMap<String, String>>,
    /// Attributes with which the plugin makes no inline volume.
    pub bad_ephemeral: Option<HashMap<String, String>>,
    /// Bytes of each volume.
    pub size: i64,
    /// The file system to ask for; empty: the plugin's default.
    pub fs_type: String,
    /// An existing folder in which volumes are staged and published. The plugin has to see
    /// it under the same path, and what it mounts there has to be seen here.
    pub staging_dir: Option<PathBuf>,
    /// Leaves out the Node service.
    pub controller_only: bool,
    /// How the plugin is restarted; without it, what needs a restart is skipped.
    pub restart: Option<Restart>,
    /// How long one call may take.
    pub call_timeout: Duration,
    /// Ends the run early: the check under way ends and is cleaned up, the others are skipped.
    pub stop: CancellationToken,
}

impl Options {
    /// The usual options for the plugin at `socket`.
    pub fn new(socket: impl Into<PathBuf>) -> Self {
        Self {
            socket: socket.into(),
            filter: None,
            parameters: HashMap::new(),
            other_parameters: None,
            mutable_parameters: HashMap::new(),
            ephemeral: None,
            bad_ephemeral: None,
            size: 64 << 20,
            fs_type: String::new(),
            staging_dir: None,
            controller_only: false,
            restart: None,
            call_timeout: Duration::from_secs(60),
            stop: CancellationToken::new(),
        }
    }
}

/// How the plugin is restarted. It may come back later than the restart returns.
#[derive(Clone)]
pub enum Restart {
    /// A command line for `sh -c`; it fails when its exit status is not 0.
    Command(String),
    /// A function of the caller.
    Hook(Arc<dyn Fn() -> BoxFuture<'static, Result<(), String>> + Send + Sync>),
}

impl Restart {
    pub(crate) async fn run(&self) -> Result<(), String> {
        match self {
            Self::Hook(hook) => hook().await,
            Self::Command(line) => {
                let mut command = tokio::process::Command::new("sh");
                // The plugin may outlive the command and must not hold a pipe of ours open.
                let status = command.arg("-c").arg(line).stdin(std::process::Stdio::null()).status().await;
                match status {
                    Ok(status) if status.success() => Ok(()),
                    Ok(status) => Err(format!("the restart command {line:?} ended with {status}")),
                    Err(error) => Err(format!("the restart command {line:?} cannot be run: {error}")),
                }
            }
        }
    }
}

impl fmt::Debug for Restart {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Command(line) => f.debug_tuple("Command").field(line).finish(),
            Self::Hook(_) => f.write_str("Hook"),
        }
    }
}
