//! One `holdfast up` on a root folder of its own.

use std::{
    fs,
    os::unix::process::ExitStatusExt,
    path::{Path, PathBuf},
    process::{Child, Command, ExitStatus, Output, Stdio},
};

use anyhow::{Context, Result, bail, ensure};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};
use rustix::process::{Pid, Signal, kill_process};

use crate::{leftovers, wait};

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

/// A machine that runs `holdfast up`. Dropping it ends the process and removes
/// whatever a failed test left behind.
pub struct Machine {
    root: PathBuf,
    arguments: Vec<String>,
    process: Option<Child>,
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
        let mut machine = Self { root: root.canonicalize()?, arguments, process: None };
        machine.restart().await?;
        Ok(machine)
    }

    /// Starts the process again on the same root.
    ///
    /// # Errors
    /// As [`Machine::start`].
    pub async fn restart(&mut self) -> Result<()> {
        let log = fs::OpenOptions::new().create(true).append(true).open(self.log_path())?;
        let process = Command::new(binary())
            .args(["up", "--root"])
            .arg(&self.root)
            .args(&self.arguments)
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start holdfast up")?;
        self.process = Some(process);
        wait::until("holdfast up is ready", || {
            let ended = self.process.as_mut().and_then(|p| p.try_wait().ok().flatten());
            let root = self.root.clone();
            async move {
                if let Some(status) = ended {
                    return Ok(Some(Err(status)));
                }
                let client = client(&root).await?;
                let ready = crate::objects::driver_is_registered(&client).await?;
                Ok(ready.then_some(Ok(())))
            }
        })
        .await?
        .map_err(|status| anyhow::anyhow!("holdfast up ended with {status}:\n{}", self.log_end()))
    }

    /// Kills the process as `kill -9` does, and waits until it is gone.
    ///
    /// # Errors
    /// When it was not running.
    pub fn kill(&mut self) -> Result<()> {
        let mut process = self.process.take().context("holdfast up is not running")?;
        process.kill()?;
        let status = process.wait()?;
        ensure!(
            status.signal() == Some(9),
            "holdfast up had ended before the kill: {status}\n{}",
            self.log_end()
        );
        Ok(())
    }

    /// Presses Ctrl-C and waits for the end.
    ///
    /// # Errors
    /// When it was not running.
    pub async fn interrupt(&mut self) -> Result<ExitStatus> {
        let mut process = self.process.take().context("holdfast up is not running")?;
        let pid = Pid::from_raw(i32::try_from(process.id())?).context("a process has a pid")?;
        kill_process(pid, Signal::INT)?;
        let ended = wait::until("holdfast up ends after Ctrl-C", || {
            let status = process.try_wait();
            async move { Ok(status?) }
        })
        .await;
        if ended.is_err() {
            process.kill().ok();
            process.wait().ok();
        }
        ended
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
        self.process.as_ref().map(Child::id)
    }

    fn log_path(&self) -> PathBuf {
        self.root.with_extension("log")
    }

    /// The last lines of its log.
    #[must_use]
    pub fn log_end(&self) -> String {
        let log = fs::read_to_string(self.log_path()).unwrap_or_default();
        let lines: Vec<&str> = log.lines().collect();
        lines[lines.len().saturating_sub(40)..].join("\n")
    }
}

impl Drop for Machine {
    fn drop(&mut self) {
        // A test that ends in the middle has failed, or is one of those that do not stop the
        // process; the harness shows this only for those that failed.
        if let Some(mut process) = self.process.take() {
            process.kill().ok();
            process.wait().ok();
            #[expect(clippy::print_stderr, reason = "a failed test shows what holdfast said")]
            {
                eprintln!("--- the end of {} ---\n{}", self.log_path().display(), self.log_end());
            }
        }
        for mount in leftovers::mounts(&self.root) {
            rustix::mount::unmount(&mount, rustix::mount::UnmountFlags::DETACH).ok();
        }
        for device in leftovers::loops(&self.root) {
            Command::new("losetup").arg("-d").arg(device).status().ok();
        }
        if leftovers::mounts(&self.root).is_empty() {
            fs::remove_dir_all(&self.root).ok();
            fs::remove_file(self.log_path()).ok();
        }
    }
}

async fn client(root: &Path) -> Result<Client> {
    rustls::crypto::ring::default_provider().install_default().ok();
    let kubeconfig = Kubeconfig::read_from(root.join("kubeconfig"))?;
    let config = Config::from_custom_kubeconfig(kubeconfig, &KubeConfigOptions::default()).await?;
    Ok(Client::try_from(config)?)
}
