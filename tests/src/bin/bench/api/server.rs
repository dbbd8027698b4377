//! The API server on its store, with nothing beside it, in a process of its own.

use std::{
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
    sync::Arc,
    time::{Duration, Instant},
};

use anyhow::{Context as _, Result, ensure};
use holdfast_volume_controller::{
    apiserver,
    store::{self, Location, Store},
};
use rustix::process::{Resource, Rlimit, Signal};
use rustls::{ClientConfig, RootCertStore, pki_types::ServerName};
use serde_json::Value;
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsConnector;
use tokio_util::sync::CancellationToken;

use super::connection::{Connection, Door};

/// What the process prints when it serves.
const READY: &str = "serving";

/// The process itself: serves until its input ends. Without the URL of a database the objects are in a file.
pub(crate) async fn serve(root: &Path, database: Option<&str>) -> Result<()> {
    allow_many_files()?;
    let location = match database {
        Some(url) => Location::Postgres(url.parse()?),
        None => Location::File(root.join("state.db")),
    };
    let store = Store::open(store::Config::new(location)).await?;
    let stop = CancellationToken::new();
    let server = apiserver::serve(apiserver::Config::new(store.clone(), root), stop.clone()).await?;
    say(READY);
    tokio::task::spawn_blocking(|| std::io::copy(&mut std::io::stdin(), &mut std::io::sink())).await??;
    stop.cancel();
    server.stopped().await;
    store.close().await;
    Ok(())
}

#[expect(clippy::print_stdout, reason = "the one who started this process reads it")]
fn say(line: &str) {
    println!("{line}");
}

/// A connection is a file, and the usual limit is 1024.
pub(super) fn allow_many_files() -> Result<()> {
    let maximum = rustix::process::getrlimit(Resource::Nofile).maximum;
    Ok(rustix::process::setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum })?)
}

pub(super) struct Server {
    process: Child,
    root: PathBuf,
    tls: TlsConnector,
    address: String,
    token: String,
    /// From the start of the process until it served.
    pub(super) started: Duration,
}

impl Server {
    pub(super) async fn start(root: &Path) -> Result<Self> {
        Self::start_on(root, None).await
    }

    /// With the objects in the database of this URL, where there is one.
    pub(super) async fn start_on(root: &Path, database: Option<&str>) -> Result<Self> {
        std::fs::create_dir_all(root)?;
        let start = Instant::now();
        let mut process = Command::new(std::env::current_exe()?)
            .arg("serve-api")
            .arg(root)
            .args(database)
            .stdin(Stdio::piped())
            .stdout(Stdio::piped())
            .spawn()
            .context("cannot start the server's process")?;
        let output = process.stdout.take().context("the output is piped")?;
        let mut line = String::new();
        let line = tokio::task::spawn_blocking(move || {
            std::io::BufRead::read_line(&mut std::io::BufReader::new(output), &mut line).map(|_| line)
        })
        .await??;
        let started = start.elapsed();
        ensure!(line.trim() == READY, "the server's process said {line:?}");

        let config: Value = serde_json::from_slice(&std::fs::read(root.join("kubeconfig"))?)?;
        let field =
            |pointer: &str| config.pointer(pointer).and_then(Value::as_str).context(pointer.to_owned());
        let address = field("/clusters/0/cluster/server")?;
        let address = address.strip_prefix("https://").context("no https address")?;
        let token = field("/users/0/user/token")?.to_owned();
        let mut authorities = RootCertStore::empty();
        let pem = std::fs::read(root.join("pki/ca.crt"))?;
        for certificate in rustls::pki_types::pem::PemObject::pem_slice_iter(&pem) {
            authorities.add(certificate?)?;
        }
        let tls = ClientConfig::builder().with_root_certificates(authorities).with_no_client_auth();
        Ok(Self {
            process,
            root: root.to_owned(),
            tls: Arc::new(tls).into(),
            address: address.to_owned(),
            token,
            started,
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    pub(super) async fn connect(&self, door: Door) -> Result<Connection> {
        match door {
            Door::Unix => {
                let stream = UnixStream::connect(self.root.join("api.sock")).await?;
                Ok(Connection::new(Box::new(stream), String::new()))
            }
            Door::Tls => {
                let stream = TcpStream::connect(&self.address).await?;
                stream.set_nodelay(true)?;
                let stream = self.tls.connect(ServerName::try_from("localhost")?, stream).await?;
                Ok(Connection::new(Box::new(stream), self.token.clone()))
            }
        }
    }

    /// Stops it as its end of input does, so that everything is written.
    pub(super) fn stop(mut self) -> Result<()> {
        drop(self.process.stdin.take());
        let status = self.process.wait()?;
        ensure!(status.success(), "the server's process ended with {status}");
        Ok(())
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        if let Ok(pid) = i32::try_from(self.process.id())
            && let Some(pid) = rustix::process::Pid::from_raw(pid)
            && matches!(self.process.try_wait(), Ok(None))
        {
            let _ = rustix::process::kill_process(pid, Signal::KILL);
            let _ = self.process.wait();
        }
    }
}
