//! The one runner for outside commands (mkfs, blkid, resize2fs, …): no shell, the
//! C locale, a timeout that kills, and errors that carry stderr's last lines.

use std::{
    ffi::{OsStr, OsString},
    path::PathBuf,
    process::Stdio,
    time::Duration,
};

use tokio::{process::Command, runtime::Handle, time::timeout};

/// Searched after the driver's own search path: a daemon's PATH often lacks them.
const SYSTEM_PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How many lines of stderr an error carries.
const TAIL_LINES: usize = 4;

/// Why an outside command did not do its work.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum CommandError {
    /// The tool is not installed.
    #[error("{tool} is not installed on this machine; install the package {package} (Debian's name)")]
    Missing {
        /// The tool's name.
        tool: &'static str,
        /// Debian's package that has it.
        package: &'static str,
    },
    /// The tool could not be started or waited for.
    #[error("cannot run {line}: {source}")]
    Start {
        /// The command line.
        line: String,
        /// The system's answer.
        source: std::io::Error,
    },
    /// The tool ran longer than it may, and was killed.
    #[error("{line} was killed after {seconds} s without an end")]
    TimedOut {
        /// The command line.
        line: String,
        /// How long it had, in seconds.
        seconds: u64,
    },
    /// The tool said no.
    #[error("{line} failed ({status}): {stderr}")]
    Failed {
        /// The command line.
        line: String,
        /// The exit code, or the signal that ended it.
        status: String,
        /// The last lines of what it wrote to stderr.
        stderr: String,
    },
}

impl CommandError {
    /// Whether the same command may succeed later.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        !matches!(self, Self::Missing { .. })
    }
}

/// An outside tool that this driver may run.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Tool {
    name: &'static str,
    package: &'static str,
    /// After so many seconds it is killed.
    seconds: u64,
}

impl Tool {
    pub(crate) const BLKID: Self = Self { name: "blkid", package: "util-linux", seconds: 60 };
    pub(crate) const MKFS_EXT4: Self = Self { name: "mkfs.ext4", package: "e2fsprogs", seconds: 900 };
    pub(crate) const MKFS_XFS: Self = Self { name: "mkfs.xfs", package: "xfsprogs", seconds: 900 };
    pub(crate) const MKFS_BTRFS: Self = Self { name: "mkfs.btrfs", package: "btrfs-progs", seconds: 900 };
    pub(crate) const E2FSCK: Self = Self { name: "e2fsck", package: "e2fsprogs", seconds: 3600 };
    pub(crate) const RESIZE2FS: Self = Self { name: "resize2fs", package: "e2fsprogs", seconds: 900 };
    pub(crate) const XFS_GROWFS: Self = Self { name: "xfs_growfs", package: "xfsprogs", seconds: 900 };
    pub(crate) const BTRFS: Self = Self { name: "btrfs", package: "btrfs-progs", seconds: 300 };
}

/// What a command that did its work left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The exit code; one of those that the caller accepts.
    pub(crate) code: i32,
    /// What it wrote to stdout.
    pub(crate) stdout: String,
}

/// Finds and runs tools. To be used on a thread that may block.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    path: OsString,
    handle: Handle,
}

impl Runner {
    /// `path` is where tools are searched, as in PATH; without it PATH itself and
    /// the system's usual folders.
    pub(crate) fn new(path: Option<OsString>, handle: Handle) -> Self {
        let path = path.unwrap_or_else(|| {
            let mut path = std::env::var_os("PATH").unwrap_or_default();
            if !path.is_empty() {
                path.push(":");
            }
            path.push(SYSTEM_PATHS);
            path
        });
        Self { path, handle }
    }

    /// Where the tool is, or [`CommandError::Missing`].
    pub(crate) fn find(&self, tool: Tool) -> Result<PathBuf, CommandError> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(tool.name))
            .find(|file| file.is_file())
            .ok_or(CommandError::Missing { tool: tool.name, package: tool.package })
    }

    /// Runs the tool to its end; any exit code but 0 is an error.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, tool: Tool, args: &[A]) -> Result<Finished, CommandError> {
        self.run_accepting(tool, args, &[0])
    }

    /// Runs the tool to its end; an exit code that is not in `accepted` is an error.
    pub(crate) fn run_accepting<A: AsRef<OsStr>>(
        &self,
        tool: Tool,
        args: &[A],
        accepted: &[i32],
    ) -> Result<Finished, CommandError> {
        let program = self.find(tool)?;
        let line = std::iter::once(tool.name.to_owned())
            .chain(args.iter().map(|arg| arg.as_ref().to_string_lossy().into_owned()))
            .collect::<Vec<_>>()
            .join(" ");
        tracing::debug!(command = %line, "running");
        let mut command = Command::new(program);
        command
            .args(args)
            .env_clear()
            .env("PATH", &self.path)
            .env("LC_ALL", "C")
            .stdin(Stdio::null())
            .kill_on_drop(true);
        let ended = self
            .handle
            .block_on(async { timeout(Duration::from_secs(tool.seconds), command.output()).await });
        let output = match ended {
            Err(_) => return Err(CommandError::TimedOut { line, seconds: tool.seconds }),
            Ok(Err(source)) => return Err(CommandError::Start { line, source }),
            Ok(Ok(output)) => output,
        };
        match output.status.code() {
            Some(code) if accepted.contains(&code) => {
                Ok(Finished { code, stdout: String::from_utf8_lossy(&output.stdout).into_owned() })
            }
            _ => Err(CommandError::Failed {
                line,
                status: output.status.to_string(),
                stderr: last_lines(&String::from_utf8_lossy(&output.stderr)),
            }),
        }
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("; ")
}
