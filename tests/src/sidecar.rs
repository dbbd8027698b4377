//! `holdfast sidecar`: one process that works for a driver.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context, Result};
use rustix::process::Signal;
use tokio::{
    io::{AsyncReadExt, AsyncWriteExt},
    net::TcpStream,
};

use crate::{process::Process, wait};

/// Said in the log with the address at which diagnostics are served.
const SERVED: &str = "diagnostics are served address=";

/// A `holdfast sidecar` that may be ended and started again. Dropping it kills the process.
pub struct Sidecar {
    arguments: Vec<String>,
    process: Process,
}

impl Sidecar {
    /// Starts it with these words after `holdfast sidecar`; its log is the file `NAME.log` in `folder`.
    ///
    /// # Errors
    /// When the process cannot be started.
    pub fn start(folder: &Path, name: &str, arguments: &[&str]) -> Result<Self> {
        Self::start_with(folder, name, arguments, &[])
    }

    /// The same with something in its environment.
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub fn start_with(
        folder: &Path,
        name: &str,
        arguments: &[&str],
        environment: &[(&'static str, &str)],
    ) -> Result<Self> {
        let mut process = Process::new("holdfast sidecar", folder.join(format!("{name}.log")));
        for (key, value) in environment {
            process.environment(key, value);
        }
        let arguments = ["sidecar"].iter().chain(arguments).map(|&word| word.to_owned()).collect();
        let mut sidecar = Self { arguments, process };
        sidecar.start_again()?;
        Ok(sidecar)
    }

    /// Starts it anew after [`Sidecar::kill`] or [`Sidecar::end`].
    ///
    /// # Errors
    /// As [`Sidecar::start`].
    pub fn start_again(&mut self) -> Result<()> {
        self.process.start(&self.arguments)
    }

    /// As `kill -9` does; waits until it is gone.
    ///
    /// # Errors
    /// When it was not running any more.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks it to end, as kubelet does, and waits for it.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::TERM)?;
        self.end().await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        self.process.end().await
    }

    /// The number of the process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// What it wrote to its log, in all its lives.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }

    /// What it answers at `path` of its last server for diagnostics: the status and the body.
    ///
    /// # Errors
    /// When it serves none, or does not answer.
    pub async fn ask(&self, path: &str) -> Result<(u16, String)> {
        let address: SocketAddr = wait::until("diagnostics are served", || async {
            let log = self.log();
            let line = log.lines().rev().find_map(|line| Some(line.split_once(SERVED)?.1.trim().to_owned()));
            Ok(line.map(|address| address.parse()).transpose()?)
        })
        .await?;
        get(address, path).await
    }
}

impl Drop for Sidecar {
    fn drop(&mut self) {
        self.process.end_of_test();
    }
}

/// One request as kubelet's probes make it.
async fn get(address: SocketAddr, path: &str) -> Result<(u16, String)> {
    let mut stream = TcpStream::connect(address).await?;
    let request = format!("GET {path} HTTP/1.1\r\nHost: {address}\r\nConnection: close\r\n\r\n");
    stream.write_all(request.as_bytes()).await?;
    let mut answer = String::new();
    stream.read_to_string(&mut answer).await?;
    let (head, body) = answer.split_once("\r\n\r\n").context("an answer has a head")?;
    let status = head.split(' ').nth(1).context("an answer has a status")?.parse()?;
    Ok((status, body.to_owned()))
}

/// A folder for the sockets and logs of one test.
///
/// # Errors
/// When it cannot be made.
pub fn folder() -> Result<(tempfile::TempDir, PathBuf)> {
    let folder = tempfile::Builder::new().prefix("holdfast-test-").tempdir_in("/var/tmp")?;
    let path = folder.path().canonicalize()?;
    Ok((folder, path))
}
