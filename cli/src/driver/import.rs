//! `holdfast driver import`: what is there already becomes a volume.

use std::{
    fmt::Write as _,
    io::IsTerminal as _,
    path::{Path, PathBuf},
    sync::Arc,
};

use anyhow::{Context, Result, bail, ensure};
use holdfast_api::quantity;
use holdfast_csi_driver::{
    Bytes, Config, ConfigFile, Import, Order, Outcome, PoolConfig, Progress, TOPOLOGY_NODE, carry_out_watched,
};

use super::{end_progress, manifest_line, object_name, show_progress};
use crate::table::say;

/// Works whether a driver runs or not: one that has the pool carries the order out itself.
///
/// The file or folder is moved into the pool, in one step, or copied with --copy. A later CreateVolume with the
/// same name, size, file system and `enforceSize` finds the volume.
#[derive(clap::Args)]
pub(crate) struct ImportArgs {
    /// The image file (for a pool of images) or the folder (for a pool of folders).
    #[arg(value_name = "PATH")]
    path: PathBuf,
    /// The TOML file with the pools.
    #[arg(long, value_name = "FILE", required_unless_present = "root")]
    config: Option<PathBuf>,
    /// The root folder of a `holdfast up`, in place of --config: its pool "default".
    #[arg(long, value_name = "DIR", conflicts_with = "config")]
    root: Option<PathBuf>,
    /// The pool.
    #[arg(long, value_name = "NAME", default_value = "default")]
    pool: String,
    /// The volume's name, as CreateVolume would be called with.
    #[arg(long, value_name = "NAME")]
    name: String,
    /// The volume's size, as 20Gi; needed for a folder [default: the size of the image file]
    #[arg(long, value_name = "QUANTITY")]
    size: Option<String>,
    /// Refuse anything but this file system: ext4, xfs or btrfs.
    #[arg(long, value_name = "TYPE", conflicts_with = "raw_block")]
    fs_type: Option<String>,
    /// Make a raw block device of the image file, whatever is in it.
    #[arg(long)]
    raw_block: bool,
    /// Leave the original where it is and copy it; blocks are shared where the file system can.
    #[arg(long)]
    copy: bool,
    /// The class says enforceSize: "false".
    #[arg(long)]
    no_enforce_size: bool,
    /// The node's id for the PersistentVolume, where no driver runs to say it; goes before the file's `node_id`
    /// [default: the host name]
    #[arg(long, value_name = "ID")]
    node_id: Option<String>,
    /// Print a PersistentVolume for the volume, to be applied with kubectl.
    #[arg(short, long, value_name = "FORMAT")]
    output: Option<Output>,
}

#[derive(Clone, Copy, clap::ValueEnum)]
enum Output {
    Yaml,
}

pub(crate) fn main(args: ImportArgs) -> Result<()> {
    let config = config(&args)?;
    let pool = config.pools.iter().find(|pool| pool.name == args.pool);
    let pool = pool.with_context(|| {
        let names: Vec<&str> = config.pools.iter().map(|pool| pool.name.as_str()).collect();
        format!("there is no pool {:?}; there are {}", args.pool, names.join(", "))
    })?;
    let size = args.size.as_deref().map(quantity::parse_bytes).transpose().context("--size")?;
    let order = Order::Import(Import {
        path: absolute(&args.path)?,
        name: args.name.clone(),
        size: size.map(u64::try_from).transpose().context("--size")?,
        fs_type: args.fs_type,
        raw_block: args.raw_block,
        copy: args.copy,
        enforce_size: !args.no_enforce_size,
    });
    let shown = std::io::stderr().is_terminal();
    let watcher: Arc<dyn Fn(Progress) + Send + Sync> = Arc::new(move |progress| {
        if shown {
            show_progress("copied", progress);
        }
    });
    let done =
        super::runtime()?.block_on(carry_out_watched(pool, config.tool_path.clone(), order, None, watcher));
    if shown && args.copy {
        end_progress();
    }
    let Outcome::Imported { volume_id, capacity, fs_type, raw_block, context, node_id, .. } = done? else {
        bail!("the driver answered something else");
    };
    match args.output {
        None => say(&format!("imported {volume_id} ({})\n", Bytes(capacity)))?,
        Some(Output::Yaml) => {
            let mut yaml = String::new();
            yaml.push_str("apiVersion: v1\nkind: PersistentVolume\nmetadata:\n");
            manifest_line(&mut yaml, "  name:", &object_name(&args.name, &volume_id, "imported"))?;
            yaml.push_str("spec:\n  capacity:\n");
            manifest_line(&mut yaml, "    storage:", &capacity.to_string())?;
            yaml.push_str("  accessModes: [ReadWriteOnce]\n  persistentVolumeReclaimPolicy: Retain\n");
            yaml.push_str("  storageClassName: \"\"\n");
            manifest_line(&mut yaml, "  volumeMode:", if raw_block { "Block" } else { "Filesystem" })?;
            yaml.push_str("  csi:\n");
            manifest_line(&mut yaml, "    driver:", &config.driver_name)?;
            manifest_line(&mut yaml, "    volumeHandle:", &volume_id)?;
            if let Some(fs_type) = fs_type {
                manifest_line(&mut yaml, "    fsType:", &fs_type)?;
            }
            yaml.push_str("    volumeAttributes:\n");
            for (key, value) in &context {
                manifest_line(&mut yaml, &format!("      {key}:"), value)?;
            }
            yaml.push_str(
                "  nodeAffinity:\n    required:\n      nodeSelectorTerms:\n      - matchExpressions:\n",
            );
            writeln!(yaml, "        - key: {TOPOLOGY_NODE}\n          operator: In\n          values:")?;
            manifest_line(&mut yaml, "          -", node_id.as_deref().unwrap_or(&config.node_id))?;
            say(&yaml)?;
        }
    }
    Ok(())
}

fn config(args: &ImportArgs) -> Result<Config> {
    // It is not listened on; the command line of the driver may give it.
    let endpoint = || PathBuf::from("/run/holdfast/csi.sock");
    if let Some(root) = &args.root {
        let mut pool = PoolConfig::image("default", std::path::absolute(root)?.join("pools/default"));
        pool.create = false;
        let node = match &args.node_id {
            Some(id) => id.clone(),
            None => rustix::system::uname().nodename().to_str().context("the host name")?.to_lowercase(),
        };
        return Ok(Config::new(node, endpoint(), vec![pool]));
    }
    let path =
        args.config.as_deref().context("--config FILE is missing: name the TOML file with the pools")?;
    let mut file = ConfigFile::load(path)?;
    file.endpoint.get_or_insert_with(endpoint);
    file.node_id = args.node_id.clone().or(file.node_id);
    file.into_config().with_context(|| path.display().to_string())
}

/// The path as the driver can use it: it has another working folder, and follows no links.
/// What the path names is never resolved: a link is refused there.
fn absolute(path: &Path) -> Result<PathBuf> {
    let path = std::path::absolute(path)?;
    let (Some(folder), Some(name)) = (path.parent(), path.file_name()) else {
        bail!("{} is no file and no folder that could be imported", path.display());
    };
    ensure!(
        path.components().all(|part| part.as_os_str() != ".."),
        "{}: give a path without ..",
        path.display()
    );
    let folder = folder.canonicalize().with_context(|| path.display().to_string())?;
    Ok(folder.join(name))
}
