//! `holdfast driver snapshot`: snapshots that go to another pool, or to a file.

use std::{
    io::IsTerminal as _,
    os::fd::{AsFd as _, OwnedFd},
    path::PathBuf,
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use holdfast_csi_driver::{
    BackendKind, Bytes, ConfigFile, Order, Outcome, PoolConfig, Progress, SnapshotInfo, carry_out_watched,
    list_snapshots,
};

use super::{end_progress, holder, manifest_line, moment, object_name, show_progress};
use crate::table::{say, table};

/// Works whether a driver runs or not: one that has the pool carries the order out itself. For pools with
/// backend = "btrfs".
#[derive(clap::Args)]
pub(crate) struct SnapshotArgs {
    /// The TOML file with the pools.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    #[command(subcommand)]
    command: SnapshotCommand,
}

#[derive(clap::Subcommand)]
enum SnapshotCommand {
    /// List the snapshots of all pools, oldest first.
    List {
        /// Only this pool.
        #[arg(long, value_name = "NAME")]
        pool: Option<String>,
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Write a snapshot to the output: whole, or what changed since another one.
    Send {
        /// The snapshot's id.
        #[arg(value_name = "ID")]
        id: String,
        /// Only what differs from this snapshot of the same pool, of which the receiving pool has a copy.
        #[arg(long, value_name = "ID")]
        since: Option<String>,
    },
    /// Make a snapshot of the input, which `send` wrote.
    Receive {
        /// The pool.
        #[arg(long, value_name = "NAME", default_value = "default")]
        pool: String,
        /// The snapshot's name, as CreateSnapshot would be called with [default: as it was sent]
        #[arg(long, value_name = "NAME")]
        name: Option<String>,
        /// Print a VolumeSnapshotContent and a VolumeSnapshot for it, to be applied with kubectl.
        #[arg(short, long, value_name = "FORMAT")]
        output: Option<Output>,
        /// The namespace of the VolumeSnapshot.
        #[arg(short, long, value_name = "NAME", default_value = "default")]
        namespace: String,
    },
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Yaml,
}

pub(crate) fn main(args: SnapshotArgs) -> Result<()> {
    let path = args.config.context("--config FILE is missing: name the TOML file with the pools")?;
    let mut file = ConfigFile::load(&path)?;
    // Memory keeps nothing.
    file.pools.retain(|pool| pool.backend != BackendKind::Tmpfs);
    let find = |name: &str| {
        let pool = file.pools.iter().find(|pool| pool.name == name);
        pool.with_context(|| format!("{} has no pool {name:?}", path.display()))
    };
    match args.command {
        SnapshotCommand::List { pool, json } => match pool {
            Some(name) => list([find(&name)?], json),
            None => list(&file.pools, json),
        },
        SnapshotCommand::Send { id, since } => {
            let stdout = std::io::stdout();
            ensure!(
                !stdout.is_terminal(),
                "the output is a terminal: write into a file, or into `holdfast driver snapshot receive`"
            );
            let pool = holder(&file.pools, &id, "`holdfast driver snapshot list`")?;
            let order = Order::Send { snapshot_id: id, since };
            match carry_out(&file, pool, order, stdout.as_fd().try_clone_to_owned()?, "sent")? {
                Outcome::Sent(_) => Ok(()),
                other => bail!("the driver answered something else: {other:?}"),
            }
        }
        SnapshotCommand::Receive { pool, name, output, namespace } => {
            let stdin = std::io::stdin();
            ensure!(
                !stdin.is_terminal(),
                "the input is a terminal: read from a file, or from `holdfast driver snapshot send`"
            );
            let pool = find(&pool)?;
            let order = Order::Receive { name };
            match carry_out(&file, pool, order, stdin.as_fd().try_clone_to_owned()?, "received")? {
                Outcome::Received(snapshot) => {
                    match output {
                        None => say(&format!(
                            "received {} ({} of {})\n",
                            snapshot.snapshot_id,
                            Bytes(snapshot.capacity),
                            snapshot.source_volume_id
                        ))?,
                        Some(Output::Yaml) => {
                            let driver = &file.driver_name;
                            say(&manifest(&snapshot, driver, &namespace)?)?;
                        }
                    }
                    Ok(())
                }
                other => bail!("the driver answered something else: {other:?}"),
            }
        }
    }
}

fn carry_out(
    file: &ConfigFile,
    pool: &PoolConfig,
    order: Order,
    stream: OwnedFd,
    verb: &'static str,
) -> Result<Outcome> {
    let shown = std::io::stderr().is_terminal();
    let watcher: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(move |progress| {
        if shown {
            show_progress(verb, progress);
        }
    });
    let carried_out = carry_out_watched(pool, file.tool_path.clone(), order, Some(stream), watcher);
    let done = super::runtime()?.block_on(carried_out);
    if shown {
        end_progress();
    }
    Ok(done?)
}

fn list<'a>(pools: impl IntoIterator<Item = &'a PoolConfig>, json: bool) -> Result<()> {
    let mut snapshots = Vec::new();
    for pool in pools {
        snapshots.extend(list_snapshots(pool).with_context(|| format!("pool {:?}", pool.name))?);
    }
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&snapshots)?));
    }
    let row = |snapshot: &SnapshotInfo| {
        [
            snapshot.snapshot_id.clone(),
            snapshot.name.clone(),
            snapshot.source_volume_id.clone(),
            Bytes(snapshot.capacity).to_string(),
            moment(snapshot.created),
        ]
    };
    let rows: Vec<_> = snapshots.iter().map(row).collect();
    say(&table(["ID", "NAME", "VOLUME", "SIZE", "CREATED"], &rows))
}

/// A snapshot that nobody provisioned is known to Kubernetes by both objects, each naming the
/// other (Kubernetes, "Volume Snapshots", static provisioning).
fn manifest(snapshot: &SnapshotInfo, driver: &str, namespace: &str) -> Result<String> {
    let name = object_name(&snapshot.name, &snapshot.snapshot_id, "received");
    let mut yaml = String::new();
    yaml.push_str("apiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshotContent\nmetadata:\n");
    manifest_line(&mut yaml, "  name:", &name)?;
    yaml.push_str("spec:\n  deletionPolicy: Retain\n  sourceVolumeMode: Filesystem\n");
    manifest_line(&mut yaml, "  driver:", driver)?;
    yaml.push_str("  source:\n");
    manifest_line(&mut yaml, "    snapshotHandle:", &snapshot.snapshot_id)?;
    yaml.push_str("  volumeSnapshotRef:\n");
    manifest_line(&mut yaml, "    name:", &name)?;
    manifest_line(&mut yaml, "    namespace:", namespace)?;
    yaml.push_str("---\napiVersion: snapshot.storage.k8s.io/v1\nkind: VolumeSnapshot\nmetadata:\n");
    manifest_line(&mut yaml, "  name:", &name)?;
    manifest_line(&mut yaml, "  namespace:", namespace)?;
    yaml.push_str("spec:\n  source:\n");
    manifest_line(&mut yaml, "    volumeSnapshotContentName:", &name)?;
    Ok(yaml)
}
