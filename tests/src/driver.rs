//! The driver alone: one `holdfast driver` with one pool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Stdio},
};

use anyhow::{Context, Result};
use rustix::process::{Pid, Signal, kill_process};

use crate::{machine::binary, wait};

/// A running `holdfast driver`. Dropping it kills the process; what is mounted stays.
pub struct Driver {
    folder: PathBuf,
    process: Option<Child>,
}

impl Driver {
    /// Starts it with this text as its configuration, its files in `folder`.
    ///
    /// # Errors
    /// When the process cannot be started. That it is ready is for its clients to see.
    pub fn start(folder: &Path, config: &str) -> Result<Self> {
        fs::write(folder.join("pools.toml"), config)?;
        let mut driver = Self { folder: folder.to_owned(), process: None };
        driver.start_again()?;
        Ok(driver)
    }

    /// Kills the process as `kill -9` does, waits until it is gone, and starts another.
    ///
    /// # Errors
    /// As [`Driver::start`].
    pub fn restart(&mut self) -> Result<()> {
        self.kill();
        self.start_again()
    }

    /// Asks the process to end, as an init system does, and waits for it.
    ///
    /// # Errors
    /// When it does not end, or was not running.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        let process = self.process.as_mut().context("holdfast driver is not running")?;
        let pid = Pid::from_raw(i32::try_from(process.id())?).context("a process has a pid")?;
        kill_process(pid, Signal::TERM)?;
        let status = wait::until("holdfast driver ends after SIGTERM", || {
            let status = process.try_wait();
            async move { Ok(status?) }
        })
        .await?;
        self.process = None;
        Ok(status)
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("csi.sock")
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        fs::read_to_string(self.log_path()).unwrap_or_default()
    }

    fn log_path(&self) -> PathBuf {
        self.folder.join("log")
    }

    fn start_again(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let process = Command::new(binary())
            .arg("driver")
            .arg("--config")
            .arg(self.folder.join("pools.toml"))
            .arg("--endpoint")
            .arg(format!("unix://{}", self.socket().display()))
            .args(["--node-id", "here"])
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start holdfast driver")?;
        self.process = Some(process);
        Ok(())
    }

    fn kill(&mut self) {
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.kill();
    }
}
