//! `holdfast up` with its database beyond a network: a password from the environment, and a server that goes silent.

use std::{
    fs,
    path::{Path, PathBuf},
    process::{ExitStatus, Stdio},
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{cannot_run, process::binary, wait::until};
use rustix::process::{Pid, Signal, kill_process};
use tokio::{
    io::{AsyncBufReadExt, BufReader, copy_bidirectional},
    net::{TcpListener, TcpStream},
    process::{Child, Command},
    sync::watch,
    time::timeout,
};

const PASSWORD: &str = "correct-horse";

/// Stands before the server. Silent, it takes everything and passes nothing on.
struct Network {
    port: u16,
    is_silent: watch::Sender<bool>,
    /// Connections that came while it was silent.
    swallowed: watch::Receiver<u32>,
}

impl Network {
    async fn to(server: String) -> Result<Self> {
        let listener = TcpListener::bind("127.0.0.1:0").await?;
        let port = listener.local_addr()?.port();
        let (is_silent, silence) = watch::channel(false);
        let (count, swallowed) = watch::channel(0);
        tokio::spawn(async move {
            while let Ok((client, _)) = listener.accept().await {
                if *silence.borrow() {
                    count.send_modify(|count| *count += 1);
                }
                tokio::spawn(pass_on(client, server.clone(), silence.clone()));
            }
        });
        Ok(Self { port, is_silent, swallowed })
    }
}

async fn pass_on(mut client: TcpStream, server: String, mut silence: watch::Receiver<bool>) {
    if *silence.borrow() {
        // Held open: the client hears nothing at all.
        let _ = silence.wait_for(|is_silent| !is_silent).await;
        return;
    }
    let Ok(mut server) = TcpStream::connect(server).await else { return };
    tokio::select! {
        _ = copy_bidirectional(&mut client, &mut server) => return,
        _ = silence.wait_for(|is_silent| *is_silent) => {}
    }
    let _ = silence.wait_for(|is_silent| !is_silent).await;
}

/// A `holdfast up` whose database is in the environment.
struct Up {
    process: Child,
    log: PathBuf,
}

impl Up {
    fn start(root: &Path, url: &str, password: &str) -> Result<Self> {
        let log = root.with_extension("log");
        let process = Command::new(binary())
            .args(["up", "--log", "debug", "--root"])
            .arg(root)
            .env("HOLDFAST_STORE", url)
            .env("PGPASSWORD", password)
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(fs::File::create(&log)?)
            .kill_on_drop(true)
            .spawn()?;
        Ok(Self { process, log })
    }

    /// Waits until it says that it is up.
    async fn ready(&mut self) -> Result<()> {
        let output = self.process.stdout.take().context("its output")?;
        let mut lines = BufReader::new(output).lines();
        let line = timeout(Duration::from_secs(60), lines.next_line()).await??;
        let line = line.with_context(|| format!("it ended: {}", self.said().unwrap_or_default()))?;
        ensure!(line.contains("is up"), "{line}");
        Ok(())
    }

    fn said(&self) -> Result<String> {
        Ok(fs::read_to_string(&self.log)?)
    }

    fn signal(&self) -> Result<()> {
        let id = self.process.id().context("it runs")?;
        let pid = Pid::from_raw(i32::try_from(id)?).context("a process has a pid")?;
        Ok(kill_process(pid, Signal::INT)?)
    }

    /// How it ends, and how long that takes. What it logged until then never has the password.
    async fn ends(mut self) -> Result<(ExitStatus, Duration)> {
        let started = Instant::now();
        let ended = timeout(Duration::from_secs(60), self.process.wait()).await;
        let said = self.said()?;
        ensure!(!said.contains(PASSWORD), "the password is logged: {said}");
        Ok((ended.context(said)??, started.elapsed()))
    }
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_server_that_goes_silent_does_not_hold_up_the_end() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let Some(cluster) = Cluster::start_on_network(Durability::Full, PASSWORD) else { return Ok(()) };
    let url = cluster.database();
    let (host, database) = url.trim_start_matches("postgres://holdfast@").split_once('/').context("a URL")?;
    let mut network = Network::to(host.to_owned()).await?;
    let url = format!("postgres://holdfast@127.0.0.1:{}/{database}", network.port);
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let root = folder.path().join("root");

    let wrong = Up::start(&root, &url, "another-horse")?;
    let log = wrong.log.clone();
    let (status, _) = wrong.ends().await?;
    let said = fs::read_to_string(log)?;
    ensure!(status.code() == Some(1) && said.contains("password authentication failed"), "{status}: {said}");
    ensure!(!said.contains("another-horse"), "the wrong password is logged: {said}");
    ensure!(!root.join("store").exists(), "nothing is remembered of what did not open");

    let mut machine = Up::start(&root, &url, PASSWORD)?;
    machine.ready().await?;
    network.is_silent.send_replace(true);
    machine.signal()?;
    let (status, one) = machine.ends().await?;
    println!("one Ctrl-C: {one:?}, {status}");
    ensure!(one < Duration::from_secs(35), "it took {one:?} to end");

    let mut machine = Up::start(&root, &url, PASSWORD)?;
    let before = *network.swallowed.borrow();
    timeout(Duration::from_secs(30), network.swallowed.wait_for(|count| *count > before)).await??;
    machine.signal()?;
    let (status, opening) = machine.ends().await?;
    println!("Ctrl-C while the database is opened: {opening:?}, {status}");
    ensure!(status.success() && opening < Duration::from_secs(5), "{status} after {opening:?}");

    network.is_silent.send_replace(false);
    machine = Up::start(&root, &url, PASSWORD)?;
    machine.ready().await?;
    network.is_silent.send_replace(true);
    machine.signal()?;
    until("it is stopping", || async { Ok(machine.said()?.contains("stopping; what is").then_some(())) })
        .await?;
    machine.signal()?;
    let (status, two) = machine.ends().await?;
    println!("a second Ctrl-C: {two:?}, {status}");
    ensure!(two < Duration::from_secs(5), "it took {two:?} to end");
    Ok(())
}
