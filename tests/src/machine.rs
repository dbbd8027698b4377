//! One `holdfast up` on a root folder of its own.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{Command, ExitStatus, Output},
};

use anyhow::{Context, Result, bail};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::process::Signal;

use crate::{leftovers, process::Process};

/// A machine that runs `holdfast up`. Dropping it ends the process and removes
/// whatever a failed test left behind.
pub struct Machine {
    root: PathBuf,
    arguments: Vec<String>,
    process: Process,
}

impl Machine {
    /// Starts `holdfast up` in a fresh root and waits until its driver is registered.
    ///
    /// # Errors
    /// When it ends instead; the end of its log is part of the error.
    pub async fn start(arguments: &[&str]) -> Result<Self> {
        // Not /tmp: on many machines that is a tmpfs, which has no direct I/O.
        let root = tempfile::Builder::new().prefix("holdfast-test-").tempdir_in("/var/tmp")?.keep();
        let arguments = arguments.iter().map(|&a| a.to_owned()).collect();
        let root = root.canonicalize()?;
        let process = Process::new("holdfast up", root.with_extension("log"));
        let mut machine = Self { root, arguments, process };
        machine.restart().await?;
        Ok(machine)
    }

    /// Starts the process again on the same root.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let own = ["up".as_ref(), "--root".as_ref(), self.root.as_os_str()];
        self.process.start(own.into_iter().chain(self.arguments.iter().map(AsRef::as_ref)))?;
        let root = self.root.clone();
        let is_ready = || async { crate::objects::driver_is_registered(&client(&root).await?).await };
        self.process.ready(is_ready).await
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill(&mut self) -> Result<()> {
        self.process.kill()
    }

    /// Presses Ctrl-C and waits for the end.
    ///
    /// # Errors
    /// When it was not running.
    pub async fn interrupt(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::INT)?;
        self.process.end().await
    }

    /// Sends a signal.
    ///
    /// # Errors
    /// When it was not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// A client of its API, made from its kubeconfig.
    ///
    /// # Errors
    /// When there is no kubeconfig yet.
    pub async fn client(&self) -> Result<Client> {
        client(&self.root).await
    }

    /// Runs kubectl against it.
    ///
    /// # Errors
    /// When kubectl cannot be started.
    pub fn kubectl_output(&self, arguments: &[&str]) -> Result<Output> {
        Command::new("kubectl")
            .arg("--kubeconfig")
            .arg(self.root.join("kubeconfig"))
            .arg("--cache-dir")
            .arg(self.root.join("kubectl-cache"))
            .args(arguments)
            .output()
            .context("cannot run kubectl: is it installed? (make setup)")
    }

    /// Runs kubectl and gives what it printed.
    ///
    /// # Errors
    /// When it fails; what it said is part of the error.
    pub fn kubectl(&self, arguments: &[&str]) -> Result<String> {
        let output = self.kubectl_output(arguments)?;
        if !output.status.success() {
            bail!("kubectl {}: {}", arguments.join(" "), String::from_utf8_lossy(&output.stderr).trim());
        }
        Ok(String::from_utf8(output.stdout)?)
    }

    /// The root folder.
    #[must_use]
    pub fn root(&self) -> &Path {
        &self.root
    }

    /// Its process id, while it runs.
    #[must_use]
    pub fn pid(&self) -> Option<u32> {
        self.process.id()
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        self.process.log_end()
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        self.process.end_of_test();
        for mount in leftovers::mounts(&self.root) {
            rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).ok();
        }
        for device in leftovers::loops(&self.root) {
            Command::new("losetup").arg("-d").arg(device).status().ok();
        }
        if leftovers::mounts(&self.root).is_empty() {
            fs::remove_dir_all(&self.root).ok();
            fs::remove_file(self.process.log_path()).ok();
        }
    }
}

async fn client(root: &Path) -> Result<Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(root.join("kubeconfig"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
