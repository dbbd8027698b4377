//! A holdfast process under test, with a log.

use std::{
    ffi::OsStr,
    fs,
    future::Future,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use rustix::process::{Pid, Signal, kill_process};

use crate::wait;

/// The binary under test: `HOLDFAST_BIN`, or the one that was built beside the tests.
///
/// # Panics
/// When there is none: the tests would otherwise test nothing.
#[must_use]
#[expect(clippy::panic, reason = "without the binary there is nothing to test")]
pub fn binary() -> PathBuf {
    if let Some(path) = std::env::var_os("HOLDFAST_BIN") {
        return path.into();
    }
    let beside = std::env::current_exe()
        .ok()
        .and_then(|exe| exe.ancestors().nth(2).map(|profile| profile.join("holdfast")))
        .filter(|path| path.exists());
    beside.unwrap_or_else(|| {
        panic!("no holdfast binary: run `cargo build -p holdfast` first, or set HOLDFAST_BIN")
    })
}

/// `holdfast up`, `server`, `driver` or `sidecar`, which may be ended and started again. Dropping it kills the process.
pub(crate) struct Process {
    /// What it is called in errors.
    name: &'static str,
    log: PathBuf,
    environment: Vec<(&'static str, String)>,
    child: Option<Child>,
}

impl Process {
    /// None yet, with a log that all that come append to.
    pub(crate) fn new(name: &'static str, log: PathBuf) -> Self {
        Self { name, log, environment: Vec::new(), child: None }
    }

    /// Sets a variable for all that come.
    pub(crate) fn environment(&mut self, key: &'static str, value: &str) {
        self.environment.push((key, value.to_owned()));
    }

    pub(crate) fn start(&mut self, arguments: impl IntoIterator<Item = impl AsRef<OsStr>>) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(&self.log)?;
        let child = Command::new(binary())
            .args(arguments)
            .env_remove("RUST_LOG")
            .envs(self.environment.iter().map(|(key, value)| (key, value)))
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn();
        self.child = Some(child.with_context(|| format!("cannot start {}", self.name))?);
        Ok(())
    }

    /// Waits until `is_ready`; if it ends instead, the end of its log is part of the error.
    pub(crate) async fn ready<F: Future<Output = Result<bool>>>(
        &mut self,
        mut is_ready: impl FnMut() -> F,
    ) -> Result<()> {
        let what = format!("{} is ready", self.name);
        let ended = wait::until(&what, || {
            let ended = self.child.as_mut().and_then(|child| child.try_wait().ok().flatten());
            let is_ready = is_ready();
            async move {
                match ended {
                    Some(status) => Ok(Some(Err(status))),
                    None => Ok(is_ready.await?.then_some(Ok(()))),
                }
            }
        });
        match ended.await {
            Ok(Ok(())) => Ok(()),
            Ok(Err(status)) => bail!("{} ended with {status}:\n{}", self.name, self.log_end()),
            Err(error) => Err(error.context(self.log_end())),
        }
    }

    /// As `kill -9` does; waits until it is gone. It must have been running until then.
    pub(crate) fn kill(&mut self) -> Result<()> {
        let mut child = self.child.take().with_context(|| self.is_not_running())?;
        child.kill()?;
        let status = child.wait()?;
        ensure!(
            status.signal() == Some(9),
            "{} had ended before the kill: {status}\n{}",
            self.name,
            self.log_end()
        );
        Ok(())
    }

    pub(crate) fn signal(&self, signal: Signal) -> Result<()> {
        let child = self.child.as_ref().with_context(|| self.is_not_running())?;
        let pid = Pid::from_raw(i32::try_from(child.id())?).context("a process has a pid")?;
        Ok(kill_process(pid, signal)?)
    }

    /// Waits for the end.
    pub(crate) async fn end(&mut self) -> Result<ExitStatus> {
        let what = format!("{} ends", self.name);
        let not_running = self.is_not_running();
        let child = self.child.as_mut().context(not_running)?;
        let status = wait::until(&what, || {
            let status = child.try_wait();
            async move { Ok(status?) }
        })
        .await?;
        self.child = None;
        Ok(status)
    }

    fn is_not_running(&self) -> String {
        format!("{} is not running", self.name)
    }

    pub(crate) fn id(&self) -> Option<u32> {
        self.child.as_ref().map(Child::id)
    }

    pub(crate) fn log_path(&self) -> &Path {
        &self.log
    }

    pub(crate) fn log(&self) -> String {
        fs::read_to_string(&self.log).unwrap_or_default()
    }

    pub(crate) fn log_end(&self) -> String {
        let log = self.log();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }

    /// Ends it where a test has left it running, which has failed, or is one of those that do not stop the
    /// process; the harness shows the log only for those that failed.
    pub(crate) fn end_of_test(&mut self) {
        if self.stop() {
            #[expect(clippy::print_stderr, reason = "a failed test shows what holdfast said")]
            {
                eprintln!("--- the end of {} ---\n{}", self.log.display(), self.log_end());
            }
        }
    }

    /// Whether there was something to stop.
    fn stop(&mut self) -> bool {
        let Some(mut child) = self.child.take() else { return false };
        child.kill().ok();
        child.wait().ok();
        true
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.stop();
    }
}
