//! `holdfast driver`: the CSI driver alone, and the commands that work on its pools.

mod check_config;
mod import;
mod snapshot;
mod trash;

use std::{fmt::Write as _, io::Write as _, path::PathBuf};

use anyhow::{Context, Result, bail, ensure};
use holdfast_api::names;
use holdfast_csi_driver::{Bytes, ConfigFile, PoolConfig, Progress, run};
use jiff::Timestamp;
use tokio::runtime::Runtime;
use tokio_util::sync::CancellationToken;

use crate::{
    log::LogArgs,
    signals::{LEAVE, Signals, at_once, run_to_the_end},
};

/// What `holdfast driver` takes.
#[derive(clap::Args)]
#[command(args_conflicts_with_subcommands = true)]
pub(crate) struct DriverArgs {
    #[command(subcommand)]
    command: Option<DriverCommand>,
    #[command(flatten)]
    run: RunArgs,
}

#[derive(clap::Subcommand)]
enum DriverCommand {
    /// Check a configuration and say what each of its pools can do. Changes nothing.
    CheckConfig(check_config::CheckConfigArgs),
    /// Make a volume of an image file or a folder that is there already.
    Import(import::ImportArgs),
    /// List snapshots, write one to the output, or make one of the input.
    Snapshot(snapshot::SnapshotArgs),
    /// List, restore or free deleted volumes.
    Trash(trash::TrashArgs),
}

#[derive(clap::Args)]
struct RunArgs {
    /// The TOML file with the pools.
    #[arg(long, value_name = "FILE")]
    config: Option<PathBuf>,
    /// The unix socket to listen on, such as unix:///run/holdfast/csi.sock; goes before the file's `endpoint`.
    #[arg(long, value_name = "ENDPOINT", env = "CSI_ENDPOINT")]
    endpoint: Option<PathBuf>,
    /// This node's id; goes before the file's `node_id` [default: the host name]
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    #[command(flatten)]
    log: LogArgs,
}

pub(crate) fn main(args: DriverArgs) -> Result<()> {
    match args.command {
        None => serve(args.run),
        Some(DriverCommand::CheckConfig(args)) => check_config::main(&args),
        Some(DriverCommand::Import(args)) => import::main(args),
        Some(DriverCommand::Snapshot(args)) => snapshot::main(args),
        Some(DriverCommand::Trash(args)) => trash::main(args),
    }
}

/// Serves CSI until a signal. What is mounted stays mounted.
fn serve(args: RunArgs) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "holdfast driver needs root, because it makes loop devices and mounts file systems: run it with sudo"
    );
    let path = args.config.context("--config FILE is missing: name the TOML file with the pools")?;
    let mut file = ConfigFile::load(&path)?;
    file.endpoint = args.endpoint.or(file.endpoint);
    file.node_id = args.node_id.or(file.node_id);
    let config = file.into_config().with_context(|| path.display().to_string())?;
    args.log.start()?;
    crate::files::raise_limit();
    run_to_the_end(async {
        let mut signals = Signals::listen()?;
        let stop = CancellationToken::new();
        let mut driver = tokio::spawn(run(config, stop.clone()));
        let ended = tokio::select! {
            ended = &mut driver => ended,
            () = signals.recv() => {
                tracing::info!("stopping; what is mounted stays mounted");
                stop.cancel();
                tokio::select! {
                    ended = &mut driver => ended,
                    () = signals.recv() => at_once(),
                    () = tokio::time::sleep(LEAVE) => {
                        // The pools stay locked until the process is gone, and the next start cleans up,
                        // as after a crash.
                        bail!("some calls did not end within {LEAVE:?}: a pool hangs, or much is copied; left \
                               without them, what is mounted stays mounted")
                    }
                }
            }
        };
        Ok(ended.context("the CSI driver crashed")??)
    })
}

/// The pool of an id; an id begins with its pool's name.
fn holder<'a>(pools: &'a [PoolConfig], id: &str, hint: &str) -> Result<&'a PoolConfig> {
    let name =
        id.split_once('.').map(|(pool, _)| pool).with_context(|| format!("{id:?} is no id: see {hint}"))?;
    let missing = || format!("the configuration has no pool {name:?}, in which {id} would be");
    pools.iter().find(|pool| pool.name == name).with_context(missing)
}

/// Shows people how far a copy is.
fn show_progress(verb: &str, progress: Progress) {
    let (done, total) = (Bytes(progress.done), Bytes(progress.total));
    // Nobody is served by an error here.
    let _ = match progress.done.saturating_mul(100).checked_div(progress.total) {
        Some(percent) => write!(std::io::stderr(), "\r\x1b[K{verb} {done} of {total} ({percent} %)"),
        None => write!(std::io::stderr(), "\r\x1b[K{verb} {done}"),
    };
    let _ = std::io::stderr().flush();
}

/// The line of the progress goes.
fn end_progress() {
    let _ = write!(std::io::stderr(), "\r\x1b[K");
}

/// Seconds since 1970 as people write a moment.
fn moment(seconds: u64) -> String {
    let moment = i64::try_from(seconds).ok().and_then(|at| Timestamp::from_second(at).ok());
    moment.map_or_else(|| seconds.to_string(), |moment| moment.to_string())
}

/// One more line of a manifest. JSON strings are YAML strings.
fn manifest_line(yaml: &mut String, text: &str, value: &str) -> Result<()> {
    writeln!(yaml, "{text} {}", serde_json::Value::from(value)).context("writing the manifest")
}

/// A name from outside, where it can be that of an object; otherwise one made of the id.
fn object_name(name: &str, id: &str, what: &str) -> String {
    if names::is_subdomain(name) {
        return name.to_owned();
    }
    let safe: String = id.chars().map(|c| if c.is_ascii_alphanumeric() { c } else { '-' }).collect();
    format!("{what}-{safe}")
}

fn runtime() -> Result<Runtime> {
    let mut builder = tokio::runtime::Builder::new_multi_thread();
    builder.enable_all().build().context("cannot start the runtime")
}
