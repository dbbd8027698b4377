//! The driver alone: one `holdfast driver` with one pool.

use std::{
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::Result;
use rustix::process::Signal;

use crate::process::Process;

/// A running `holdfast driver`. Dropping it kills the process; what is mounted stays.
pub struct Driver {
    folder: PathBuf,
    process: Process,
}

impl Driver {
    /// Starts it with this text as its configuration, its files in `folder`.
    ///
    /// # Errors
    /// When the process cannot be started. That it is ready is for its clients to see.
    pub fn start(folder: &Path, config: &str) -> Result<Self> {
        fs::write(folder.join("pools.toml"), config)?;
        let process = Process::new("holdfast driver", folder.join("log"));
        let mut driver = Self { folder: folder.to_owned(), process };
        driver.start_again()?;
        Ok(driver)
    }

    /// Kills the process as `kill -9` does, waits until it is gone, and starts another; after
    /// [`Driver::terminate`], only the latter.
    ///
    /// # Errors
    /// When it had ended by itself, or as [`Driver::start`].
    pub fn restart(&mut self) -> Result<()> {
        if self.process.id().is_some() {
            self.process.kill()?;
        }
        self.start_again()
    }

    /// Asks the process to end, as an init system does, and waits for it.
    ///
    /// # Errors
    /// When it does not end, or was not running.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.end().await
    }

    /// Its socket.
    #[must_use]
    pub fn socket(&self) -> PathBuf {
        self.folder.join("csi.sock")
    }

    /// What it wrote to its log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    fn start_again(&mut self) -> Result<()> {
        let endpoint = format!("unix://{}", self.socket().display());
        let config = self.folder.join("pools.toml");
        self.process.start([
            "driver".as_ref(),
            "--config".as_ref(),
            config.as_os_str(),
            "--endpoint".as_ref(),
            endpoint.as_ref(),
            "--node-id".as_ref(),
            "here".as_ref(),
        ])
    }
}
