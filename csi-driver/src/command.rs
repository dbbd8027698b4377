//! The one runner for outside commands (mkfs, blkid, resize2fs, …): no shell, the
//! C locale, a timeout that kills, and errors that carry stderr's last lines.

mod ends;
pub(crate) mod pipe;

use std::{
    ffi::{OsStr, OsString},
    fs::File,
    io,
    path::PathBuf,
    process::{Output, Stdio},
    time::Duration,
};

use rustix::process::{Pid, Signal, kill_process_group};
use tokio::{
    io::{AsyncRead, AsyncReadExt as _},
    process::{Child, Command},
    runtime::Handle,
    time::timeout,
};

use crate::step;

/// Searched after the driver's own search path: a daemon's PATH often lacks them.
const SYSTEM_PATHS: &str = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin";
/// How long a killed command may take to be gone.
const KILL_GRACE: Duration = Duration::from_secs(10);
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
        source: io::Error,
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
    pub(crate) const TUNE2FS: Self = Self { name: "tune2fs", package: "e2fsprogs", seconds: 900 };
    pub(crate) const XFS_ADMIN: Self = Self { name: "xfs_admin", package: "xfsprogs", seconds: 300 };
    pub(crate) const BTRFSTUNE: Self = Self { name: "btrfstune", package: "btrfs-progs", seconds: 300 };
    /// Copies as much as people have.
    pub(crate) const CP: Self = Self { name: "cp", package: "coreutils", seconds: 14 * 24 * 3600 };
    pub(crate) const BTRFS: Self = Self { name: "btrfs", package: "btrfs-progs", seconds: 300 };
    /// The same where it copies: as long as [`Tool::CP`].
    pub(crate) const BTRFS_COPY: Self = Self { seconds: Self::CP.seconds, ..Self::BTRFS };
}

/// What a command that did its work left.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Finished {
    /// The exit code; one of those that the caller accepts.
    pub(crate) code: i32,
    /// What it wrote to stdout, unless that was somebody else's.
    pub(crate) stdout: String,
}

/// Finds and runs tools. To be used on a thread that may block.
#[derive(Debug, Clone)]
pub(crate) struct Runner {
    path: OsString,
    handle: Handle,
    /// No tool may take longer, whatever it may take by itself.
    at_most: Duration,
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
        Self { path, handle, at_most: Duration::MAX }
    }

    /// The same runner, with which no tool takes longer.
    pub(crate) fn with_limit(self, at_most: Option<Duration>) -> Self {
        Self { at_most: at_most.unwrap_or(self.at_most), ..self }
    }

    /// Where the tool is, or [`CommandError::Missing`].
    pub(crate) fn find(&self, tool: Tool) -> Result<PathBuf, CommandError> {
        std::env::split_paths(&self.path)
            .map(|folder| folder.join(tool.name))
            .find(|file| file.is_file())
            .ok_or(CommandError::Missing { tool: tool.name, package: tool.package })
    }

    /// Says of each tool that is not here that it is not.
    pub(crate) fn missing(&self, tools: &[Tool]) -> Vec<String> {
        tools.iter().filter_map(|tool| self.find(*tool).err()).map(|error| error.to_string()).collect()
    }

    /// Runs the tool to its end; any exit code but 0 is an error.
    pub(crate) fn run<A: AsRef<OsStr>>(&self, tool: Tool, args: &[A]) -> Result<Finished, CommandError> {
        self.start(tool, args, &[0], [Stdio::null(), Stdio::piped()])
    }

    /// Runs the tool on a device to its end; an exit code that is not in `accepted` is
    /// an error.
    ///
    /// The tool inherits the open device as its standard input, which none of them
    /// reads: should this process be killed, the device cannot be given to another file
    /// while the tool that was told its path lives on.
    pub(crate) fn run_on<A: AsRef<OsStr>>(
        &self,
        tool: Tool,
        args: &[A],
        accepted: &[i32],
        device: File,
    ) -> Result<Finished, CommandError> {
        self.start(tool, args, accepted, [device.into(), Stdio::piped()])
    }

    fn start<A: AsRef<OsStr>>(
        &self,
        tool: Tool,
        args: &[A],
        accepted: &[i32],
        [stdin, stdout]: [Stdio; 2],
    ) -> Result<Finished, CommandError> {
        let (mut command, line) = self.prepare(tool, args)?;
        command.stdin(stdin).stdout(stdout);
        let limit = self.limit(tool);
        let output =
            self.handle.block_on(async { attend(&mut spawn(command, &line)?, &line, limit).await })?;
        step::passed(tool.name);
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

    /// The command, not started yet, and its line for messages.
    fn prepare<A: AsRef<OsStr>>(&self, tool: Tool, args: &[A]) -> Result<(Command, String), CommandError> {
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
            .stdout(Stdio::piped())
            .stderr(Stdio::piped())
            // A group of its own: a tool that is killed leaves nobody behind.
            .process_group(0)
            .kill_on_drop(true);
        Ok((command, line))
    }

    fn limit(&self, tool: Tool) -> Duration {
        self.at_most.min(Duration::from_secs(tool.seconds))
    }
}

fn spawn(mut command: Command, line: &str) -> Result<Child, CommandError> {
    let child = command.spawn().map_err(|source| CommandError::Start { line: line.to_owned(), source })?;
    step::passed("outside command started");
    Ok(child)
}

/// Waits for the end. One that takes too long is killed, with what it started, and, unless
/// the kernel itself holds it, gone when this returns.
async fn attend(child: &mut Child, line: &str, limit: Duration) -> Result<Output, CommandError> {
    let failed = |source| CommandError::Start { line: line.to_owned(), source };
    let (mut stdout, mut stderr) = (Vec::new(), Vec::new());
    let (out, err) = (child.stdout.take(), child.stderr.take());
    let read = async |pipe: Option<&mut (dyn AsyncRead + Unpin + Send)>, text: &mut Vec<u8>| match pipe {
        Some(pipe) => pipe.read_to_end(text).await.map(|_| ()),
        None => Ok(()),
    };
    let ended = {
        let (mut out, mut err) = (out, err);
        let all = async {
            tokio::try_join!(
                read(out.as_mut().map(|pipe| pipe as _), &mut stdout),
                read(err.as_mut().map(|pipe| pipe as _), &mut stderr),
                child.wait()
            )
        };
        timeout(limit, all).await
    };
    match ended {
        Ok(Ok(((), (), status))) => Ok(Output { status, stdout, stderr }),
        Ok(Err(source)) => Err(failed(source)),
        Err(_) => {
            kill_group(child, line);
            if let Ok(Err(error)) = timeout(KILL_GRACE, child.kill()).await {
                tracing::warn!(command = %line, %error, "cannot kill");
            }
            Err(CommandError::TimedOut { line: line.to_owned(), seconds: limit.as_secs() })
        }
    }
}

/// Kills the command and whatever it started. Its number is still its own: nobody has waited
/// for it to the end.
fn kill_group(child: &Child, line: &str) {
    let Some(leader) = child.id().and_then(|id| i32::try_from(id).ok()).and_then(Pid::from_raw) else {
        return;
    };
    if let Err(error) = kill_process_group(leader, Signal::KILL) {
        tracing::warn!(command = %line, error = %io::Error::from(error), "cannot kill what it started");
    }
}

fn last_lines(text: &str) -> String {
    let lines: Vec<&str> = text.lines().map(str::trim).filter(|line| !line.is_empty()).collect();
    lines.get(lines.len().saturating_sub(TAIL_LINES)..).unwrap_or_default().join("; ")
}

#[cfg(test)]
mod tests {
    use super::*;
    use std::{fs, os::unix::fs::PermissionsExt as _, time::Instant};

    const GOOD: Tool = Tool { name: "good", package: "none", seconds: 60 };
    const BAD: Tool = Tool { name: "bad", package: "none", seconds: 60 };
    const SLOW: Tool = Tool { name: "slow", package: "none", seconds: 1 };
    const ABSENT: Tool = Tool { name: "absent", package: "the-package", seconds: 1 };

    const SCRIPTS: [(&str, &str); 3] = [
        ("good", "echo \"$LC_ALL,$HOME,$1\"; exit ${2:-0}"),
        ("bad", "for n in 1 2 3 4 5 6; do echo line $n >&2; done; exit 7"),
        // What it starts holds its output open, and has to go as well.
        ("slow", "sleep 600 & echo $! > \"$1\"; wait"),
    ];

    /// Runs `work` where the driver does: on a thread that may block.
    pub(super) fn with_tools(
        scripts: &[(&str, &str)],
        work: impl FnOnce(&Runner, &std::path::Path) + Send + 'static,
    ) {
        let scratch = tempfile::tempdir().unwrap();
        for (name, script) in scripts {
            let path = scratch.path().join(name);
            fs::write(&path, format!("#!/bin/sh\n{script}\n")).unwrap();
            fs::set_permissions(&path, fs::Permissions::from_mode(0o755)).unwrap();
        }
        let mut path = scratch.path().as_os_str().to_owned();
        path.push(":/usr/bin:/bin");
        let runtime = tokio::runtime::Builder::new_multi_thread().enable_all().build().unwrap();
        let runner = Runner::new(Some(path), runtime.handle().clone());
        let folder = scratch.path().to_owned();
        runtime
            .block_on(async { tokio::task::spawn_blocking(move || work(&runner, &folder)).await })
            .unwrap();
    }

    #[test]
    fn a_tool_gets_the_c_locale_and_no_environment() {
        with_tools(&SCRIPTS, |runner, _| {
            assert_eq!(runner.run(GOOD, &["a b"]).unwrap().stdout, "C,,a b\n");
            assert!(runner.run(GOOD, &["x", "2"]).is_err());
            let null = File::open("/dev/null").unwrap();
            assert_eq!(runner.run_on(GOOD, &["x", "2"], &[0, 2], null).unwrap().code, 2);
        });
    }

    #[test]
    fn errors_carry_the_last_lines() {
        with_tools(&SCRIPTS, |runner, _| {
            let error = runner.run(BAD, &["--flag"]).unwrap_err();
            let text = error.to_string();
            assert!(error.is_retryable() && text.contains("bad --flag") && text.contains('7'), "{text}");
            assert!(text.contains("line 3; line 4; line 5; line 6") && !text.contains("line 2"), "{text}");
            let error = runner.run(ABSENT, &[""]).unwrap_err();
            assert!(!error.is_retryable() && error.to_string().contains("the-package"), "{error}");
        });
    }

    #[test]
    fn a_slow_tool_is_killed() {
        with_tools(&SCRIPTS, |runner, folder| {
            let pid_file = folder.join("pid");
            let started = Instant::now();
            let error = runner.run(SLOW, &[&pid_file]).unwrap_err();
            assert!(matches!(error, CommandError::TimedOut { .. }), "{error}");
            assert!(started.elapsed() < Duration::from_secs(60));
            // Gone, not only told to go; nobody may have waited for it yet (Z).
            let pid = fs::read_to_string(pid_file).unwrap();
            let stat = PathBuf::from(format!("/proc/{}/stat", pid.trim()));
            let lives = || fs::read_to_string(&stat).is_ok_and(|stat| stat.contains("(sleep) S"));
            let told = Instant::now();
            while lives() && told.elapsed() < Duration::from_secs(10) {
                std::thread::yield_now();
            }
            assert!(!lives(), "it lives on");
        });
    }
}
