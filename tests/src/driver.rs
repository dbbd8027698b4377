//! The driver alone: one `holdfast driver` with one pool.

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::ExitStatus,
};

use anyhow::Result;
use holdfast_proto::csi::controller_client::ControllerClient;
use hyper_util::rt::TokioIo;
use rustix::process::Signal;
use tonic::transport::{Channel, Endpoint};

use crate::{process::Process, wait};

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

    /// Sends a signal.
    ///
    /// # Errors
    /// When it is not running.
    pub fn signal(&self, signal: Signal) -> Result<()> {
        self.process.signal(signal)
    }

    /// Asks the process to end, as an init system does, and waits for it.
    ///
    /// # Errors
    /// When it does not end, or was not running.
    pub async fn terminate(&mut self) -> Result<ExitStatus> {
        self.process.signal(Signal::TERM)?;
        self.process.end().await
    }

    /// A client of its controller service, as soon as it listens.
    ///
    /// # Errors
    /// When it does not listen.
    pub async fn controller(&self) -> Result<ControllerClient<Channel>> {
        let socket = self.socket();
        wait::until("the driver listens", || async {
            Ok(UnixStream::connect(&socket).is_ok().then_some(()))
        })
        .await?;
        let to_socket = tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?)) }
        });
        let channel = Endpoint::from_static("http://csi.sock").connect_with_connector(to_socket).await?;
        Ok(ControllerClient::new(channel))
    }

    /// Where its configuration is.
    #[must_use]
    pub fn config(&self) -> PathBuf {
        self.folder.join("pools.toml")
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
        let config = self.config();
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
