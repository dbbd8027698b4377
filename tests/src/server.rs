//! `holdfast server`: processes on one database, each with a root of its own.

use std::{
    ffi::OsStr,
    fs,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::{Context, Result};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::process::Signal;

use crate::process::Process;

/// One server. Dropping it ends the process and removes its root.
pub struct Server {
    folder: tempfile::TempDir,
    /// Of the database; none for a file in the root.
    url: Option<String>,
    process: Process,
}

impl Server {
    /// A root that no server has run on.
    ///
    /// # Errors
    /// When the folder cannot be made.
    pub fn new(url: &str) -> Result<Self> {
        Self::at(Some(url))
    }

    /// The same for a server whose objects are in a file.
    ///
    /// # Errors
    /// As [`Server::new`].
    pub fn on_file() -> Result<Self> {
        Self::at(None)
    }

    fn at(url: Option<&str>) -> Result<Self> {
        let folder = tempfile::Builder::new().prefix("holdfast-test-").tempdir_in("/var/tmp")?;
        let process = Process::new("holdfast server", folder.path().join("log"));
        Ok(Self { folder, url: url.map(str::to_owned), process })
    }

    /// A root with what the documentation says has to be copied from that of another server.
    ///
    /// # Errors
    /// When something of it is not there.
    pub fn joining(other: &Self) -> Result<Self> {
        let new = Self::at(other.url.as_deref())?;
        fs::create_dir_all(new.root().join("pki"))?;
        for file in ["store", "encryption.keys"] {
            fs::copy(other.root().join(file), new.root().join(file))?;
        }
        for entry in fs::read_dir(other.root().join("pki"))? {
            let entry = entry?;
            if entry.file_type()?.is_file() {
                fs::copy(entry.path(), new.root().join("pki").join(entry.file_name()))?;
            }
        }
        Ok(new)
    }

    /// Starts the process.
    ///
    /// # Errors
    /// When that is not possible.
    pub fn spawn(&mut self) -> Result<()> {
        self.spawn_with(&[])
    }

    /// Starts the process with further arguments.
    ///
    /// # Errors
    /// As [`Server::spawn`].
    pub fn spawn_with(&mut self, more: &[&str]) -> Result<()> {
        let mut arguments = vec!["server".as_ref(), "--root".as_ref(), self.folder.path().as_os_str()];
        arguments.extend(more.iter().map(OsStr::new));
        if let Some(url) = &self.url {
            arguments.push("--store".as_ref());
            arguments.push(url.as_ref());
        }
        self.process.start(arguments)
    }

    /// Waits until it serves.
    ///
    /// # Errors
    /// When it ends instead; the end of its log is part of the error.
    pub async fn ready(&mut self) -> Result<()> {
        let root = self.root().to_owned();
        // It says so itself once others know it by its keys, which is a moment after it is asked first.
        let is_announced =
            || fs::read_to_string(root.join("log")).is_ok_and(|log| log.contains("serves https://"));
        let is_ready = || async {
            Ok(client(&root).await?.request_text(get("/readyz")?).await? == "ok" && is_announced())
        };
        self.process.ready(is_ready).await
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

    /// Presses Ctrl-C and waits for the end.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub async fn interrupt(&mut self) -> Result<ExitStatus> {
        self.signal(Signal::INT)?;
        self.end().await
    }

    /// Waits for the end.
    ///
    /// # Errors
    /// When it was not running, or does not end.
    pub async fn end(&mut self) -> Result<ExitStatus> {
        self.process.end().await
    }

    /// Whether it runs.
    #[must_use]
    pub fn is_running(&self) -> bool {
        self.process.id().is_some()
    }

    /// The number of the process, while it runs.
    #[must_use]
    pub fn id(&self) -> Option<u32> {
        self.process.id()
    }

    /// The root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        self.folder.path()
    }

    /// A client by its kubeconfig, which is told of every answer and tries nothing again.
    ///
    /// # Errors
    /// When there is no kubeconfig yet.
    pub async fn client(&self) -> Result<Client> {
        client(self.root()).await
    }

    /// Whether the controllers run here, as its metrics say.
    ///
    /// # Errors
    /// When it does not answer.
    pub async fn is_leading(&self) -> Result<bool> {
        let text = self.client().await?.request_text(get("/metrics")?).await?;
        let metric = r#"leader_election_master_status{name="holdfast-controllers"} "#;
        let value = text.lines().find_map(|line| line.strip_prefix(metric));
        Ok(value.context("no metric of the election")? == "1")
    }

    /// The whole log.
    #[must_use]
    pub fn log(&self) -> String {
        self.process.log()
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        self.process.end_of_test();
    }
}

/// A request without a body.
///
/// # Errors
/// When the path is none.
pub fn get(path: &str) -> Result<http::Request<Vec<u8>>> {
    Ok(http::Request::get(path).body(Vec::new())?)
}

/// A client by the kubeconfig of this root.
///
/// # Errors
/// When there is none.
pub async fn client(root: &Path) -> Result<Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let path: PathBuf = root.join("kubeconfig");
    let kubeconfig = Kubeconfig::read_from(path)?;
    let mut config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    config.default_retry = false;
    Ok(Client::try_from(config)?)
}
