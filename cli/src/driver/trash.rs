//! `holdfast driver trash`: deleted volumes, while their pools keep them.

use std::{path::PathBuf, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use holdfast_csi_driver::{
    BackendKind, Bytes, ConfigFile, Order, Outcome, PoolConfig, Trashed, carry_out, list_trash,
    parse_duration,
};

use super::{holder, moment};
use crate::table::{say, table};

/// Works whether a driver runs or not: one that has the pool carries the order out itself.
#[derive(clap::Args)]
pub(crate) struct TrashArgs {
    /// The TOML file with the pools.
    #[arg(long, value_name = "FILE", global = true)]
    config: Option<PathBuf>,
    /// Only this pool.
    #[arg(long, value_name = "NAME", global = true)]
    pool: Option<String>,
    #[command(subcommand)]
    command: TrashCommand,
}

#[derive(clap::Subcommand)]
enum TrashCommand {
    /// List the deleted volumes that can be restored, oldest first.
    List {
        /// Print JSON.
        #[arg(long)]
        json: bool,
    },
    /// Bring a deleted volume back under its old id.
    Restore {
        /// The volume's id, or its ENTRY in the list when it was deleted more than once.
        #[arg(value_name = "ID")]
        what: String,
    },
    /// Free the space of deleted volumes now. They cannot be restored afterwards.
    Empty {
        /// Only what was deleted at least so long ago, as 30m, 24h or 7d.
        #[arg(long, value_name = "DURATION", default_value = "0", value_parser = duration)]
        older_than: Duration,
        /// Only what was this volume.
        #[arg(value_name = "ID")]
        volume_id: Option<String>,
    },
}

fn duration(text: &str) -> Result<Duration, String> {
    parse_duration(text).ok_or_else(|| "write a whole number of s, m, h or d".to_owned())
}

pub(crate) fn main(args: TrashArgs) -> Result<()> {
    let path = args.config.context("--config FILE is missing: name the TOML file with the pools")?;
    let file = ConfigFile::load(&path)?;
    let (tool_path, mut pools) = (file.tool_path, file.pools);
    if let Some(name) = &args.pool {
        pools.retain(|pool| pool.name == *name);
        ensure!(!pools.is_empty(), "{} has no pool {name:?}", path.display());
    }
    // Memory keeps nothing.
    pools.retain(|pool| pool.backend != BackendKind::Tmpfs);
    let runtime = super::runtime()?;
    let order = |pool: &PoolConfig, order| runtime.block_on(carry_out(pool, tool_path.clone(), order));
    match args.command {
        TrashCommand::List { json } => list(&pools, json),
        TrashCommand::Restore { what } => {
            let pool = holder(&pools, &what, "`holdfast driver trash list`")?;
            match order(pool, Order::Restore { what })? {
                Outcome::Restored { volume_id, capacity, .. } => {
                    say(&format!("restored {volume_id} ({})\n", Bytes(capacity)))
                }
                other => bail!("the driver answered something else: {other:?}"),
            }
        }
        TrashCommand::Empty { older_than, volume_id } => {
            for pool in &pools {
                let what = Order::Empty { older_than, volume_id: volume_id.clone() };
                match order(pool, what)? {
                    Outcome::Freed { entries, .. } => {
                        for entry in entries {
                            say(&format!("freed {entry}\n"))?;
                        }
                    }
                    other => bail!("the driver answered something else: {other:?}"),
                }
            }
            Ok(())
        }
    }
}

fn list(pools: &[PoolConfig], json: bool) -> Result<()> {
    let mut trashed = Vec::new();
    for pool in pools {
        trashed.extend(list_trash(pool).with_context(|| format!("pool {:?}", pool.name))?);
    }
    if json {
        return say(&format!("{}\n", serde_json::to_string_pretty(&trashed)?));
    }
    let row = |entry: &Trashed| {
        let damaged = || "damaged".to_owned();
        [
            entry.volume_id.clone(),
            entry.name.clone().unwrap_or_else(damaged),
            entry.capacity.map_or_else(damaged, |bytes| Bytes(bytes).to_string()),
            moment(entry.deleted),
            entry.entry.clone(),
        ]
    };
    let rows: Vec<_> = trashed.iter().map(row).collect();
    say(&table(["ID", "NAME", "SIZE", "DELETED", "ENTRY"], &rows))
}
