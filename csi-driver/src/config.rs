//! What the driver is told: its node, its socket and its pools.

mod file;
mod names;

use std::{collections::HashSet, ffi::OsString, io, path::PathBuf, time::Duration};

use serde::{Deserialize, Serialize};

pub use file::{ConfigFile, parse_duration};

use crate::{backend::tmpfs::no_capacity, metrics::Metrics, volume_id::is_pool_name};

/// The name under which the driver is known to orchestrators.
pub const DRIVER_NAME: &str = "csi.holdfast.dev";
/// The topology key whose value is the node's id.
pub const TOPOLOGY_NODE: &str = "topology.csi.holdfast.dev/node";

/// Everything the driver is told; [`ConfigFile`] reads it from a file.
#[derive(Debug, Clone)]
#[non_exhaustive]
pub struct Config {
    /// The name that GetPluginInfo answers: a domain name of at most 63 characters.
    pub driver_name: String,
    /// This node's id, and the value of the topology key [`TOPOLOGY_NODE`]: at most 63 letters,
    /// digits, `-`, `_` and `.`, of which the first and the last are letters or digits.
    pub node_id: String,
    /// The unix socket to listen on: a path, with or without `unix://` before it.
    pub endpoint: PathBuf,
    /// The pools; at least one.
    pub pools: Vec<PoolConfig>,
    /// Whether a volume has to be attached before it is staged.
    pub attach: Attach,
    /// Where outside tools are searched, as in PATH. Without it PATH itself and the
    /// usual system folders.
    pub tool_path: Option<OsString>,
    /// After so long any outside tool is killed, where it would not be sooner: each has a
    /// limit of its own, from a minute (blkid) to an hour (e2fsck).
    pub tool_timeout: Option<Duration>,
    /// What is measured; register it with [`Metrics::register`].
    pub metrics: Metrics,
}

/// Whether ControllerPublishVolume comes before NodeStageVolume.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum Attach {
    /// It has to, and what it wrote down is checked: the driver declares
    /// PUBLISH_UNPUBLISH_VOLUME, and in Kubernetes its CSIDriver object says
    /// `attachRequired: true`.
    #[default]
    Required,
    /// It is never called and not declared, and nothing that a former driver wrote down of it
    /// counts: for orchestrators that attach nothing, and `attachRequired: false`.
    None,
}

/// One pool of storage.
#[derive(Debug, Clone, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct PoolConfig {
    /// How a StorageClass names it (parameter `pool`): a DNS label. It is part of
    /// every volume id, so it cannot be changed while volumes exist.
    pub name: String,
    /// What makes the volumes.
    pub backend: BackendKind,
    /// The folder in which everything of the pool lies; none for tmpfs.
    #[serde(default)]
    pub path: PathBuf,
    /// How much of the storage may be used.
    #[serde(default)]
    pub limits: Limits,
    /// What becomes of deleted volumes.
    #[serde(default)]
    pub trash: Trash,
    /// Whether a missing folder is made, and an empty one made into a new pool. Off by
    /// default: such a folder is often a file system that is not mounted.
    #[serde(default)]
    pub create: bool,
    /// The cgroup v2 below which everything runs that uses the volumes of an image pool, as
    /// `/sys/fs/cgroup/kubepods.slice`: there iops and bandwidth are limited.
    #[serde(default)]
    pub io_cgroup: Option<PathBuf>,
    /// The projects that a directory pool on ext4 or xfs may give its volumes.
    #[serde(default)]
    pub project_ids: ProjectIds,
}

/// What makes a pool's volumes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
#[non_exhaustive]
pub enum BackendKind {
    /// A sparse file on a loop device: ext4, xfs, btrfs, or raw block.
    Image,
    /// A folder; on btrfs a subvolume with a size limit.
    Directory,
    /// A subvolume with a size limit, snapshots and clones. The pool lies on btrfs.
    Btrfs,
    /// Memory: inline ephemeral volumes. The pool has no path.
    Tmpfs,
}

impl BackendKind {
    /// The name as it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Directory => "directory",
            Self::Btrfs => "btrfs",
            Self::Tmpfs => "tmpfs",
        }
    }
}

/// How much of the storage a pool may use; sizes as `"100Gi"` or in bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes that all volumes together may have. Without it, what the file
    /// system has free.
    #[serde(deserialize_with = "file::size")]
    pub capacity: Option<u64>,
    /// The most bytes that one volume may have.
    #[serde(deserialize_with = "file::size")]
    pub max_volume_size: Option<u64>,
    /// From this share of the pool's file system in use on, its volumes are reported as
    /// abnormal: 1 to 100 percent.
    pub nearly_full_percent: u8,
}

impl Default for Limits {
    /// Nearly full at 90 %, where a kubelet, too, begins to worry about its disk.
    fn default() -> Self {
        Self { capacity: None, max_volume_size: None, nearly_full_percent: 90 }
    }
}

/// What becomes of a pool's deleted volumes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Trash {
    /// How long a deleted volume can be restored, as `"24h"`: a whole number of s, m, h or d.
    /// Until then its space stays used. Without it the space is freed at once.
    #[serde(deserialize_with = "file::duration")]
    pub retention: Duration,
}

/// A range of project ids, both ends included. Of these, ids that are in use are left
/// alone; all others on the file system are nobody's business of this driver.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ProjectIds {
    /// The first.
    pub first: u32,
    /// The last.
    pub last: u32,
}

impl Default for ProjectIds {
    /// Far from small numbers, which people take, and from those above 1048576, which
    /// kubelets take.
    fn default() -> Self {
        Self { first: 1_200_000_000, last: 1_299_999_999 }
    }
}

impl ProjectIds {
    pub(crate) fn contains(self, id: u32) -> bool {
        (self.first..=self.last).contains(&id)
    }
}

/// Why a configuration cannot be used.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum ConfigError {
    /// The file cannot be read.
    #[error("cannot read {path}: {source}", path = path.display())]
    Read {
        /// The file.
        path: PathBuf,
        /// The system's answer.
        source: io::Error,
    },
    /// The text is not a configuration.
    #[error("{path}:{line}:{column}: {reason}", path = path.display())]
    Syntax {
        /// The file.
        path: PathBuf,
        /// The line, from 1.
        line: usize,
        /// The character in it, from 1.
        column: usize,
        /// What is wrong there.
        reason: String,
    },
    /// A value makes no sense.
    #[error("{field}: {reason}")]
    Value {
        /// Which one.
        field: String,
        /// What is wrong and what to do.
        reason: String,
    },
}

impl ConfigError {
    /// Always false: someone has to change the configuration.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        false
    }

    pub(crate) fn value(field: impl Into<String>, reason: impl Into<String>) -> Self {
        Self::Value { field: field.into(), reason: reason.into() }
    }
}

impl Config {
    /// A configuration made in code, with the driver's usual name.
    pub fn new(node_id: impl Into<String>, endpoint: impl Into<PathBuf>, pools: Vec<PoolConfig>) -> Self {
        Self {
            driver_name: file::driver_name(),
            node_id: node_id.into(),
            endpoint: endpoint.into(),
            pools,
            attach: Attach::default(),
            tool_path: None,
            tool_timeout: None,
            metrics: Metrics::default(),
        }
    }

    /// The socket's path, without the scheme.
    pub(crate) fn socket(&self) -> PathBuf {
        let text = self.endpoint.to_string_lossy();
        match text.strip_prefix("unix://").or_else(|| text.strip_prefix("unix:")) {
            Some(path) => PathBuf::from(path),
            None => self.endpoint.clone(),
        }
    }

    /// Says what is wrong with the configuration, if anything.
    pub fn check(&self) -> Result<(), ConfigError> {
        names::check_driver_name(&self.driver_name)?;
        names::check_node_id(&self.node_id)?;
        if !self.socket().is_absolute() {
            let reason = format!("{} is not an absolute path", self.endpoint.display());
            return Err(ConfigError::value("endpoint", reason));
        }
        if self.pools.is_empty() {
            return Err(ConfigError::value("pool", "no pool is configured; add a [[pool]] section"));
        }
        let mut names = HashSet::new();
        for pool in &self.pools {
            let field = |what: &str| format!("pool {:?}: {what}", pool.name);
            if !is_pool_name(&pool.name) {
                let reason = "must be 1 to 63 of a-z, 0-9 and -, with no - at the ends";
                return Err(ConfigError::value(field("name"), reason));
            }
            if !names.insert(&pool.name) {
                return Err(ConfigError::value(field("name"), "is used twice"));
            }
            if let Some(group) = &pool.io_cgroup {
                let wrong = if pool.backend != BackendKind::Image {
                    Some("has a meaning for backend = \"image\" only; take it out".to_owned())
                } else if !group.is_absolute() {
                    Some(format!("{} is not an absolute path", group.display()))
                } else {
                    None
                };
                if let Some(reason) = wrong {
                    return Err(ConfigError::value(field("io_cgroup"), reason));
                }
            }
            if pool.backend == BackendKind::Tmpfs {
                if !pool.path.as_os_str().is_empty() {
                    let reason = "has no meaning for backend = \"tmpfs\"; take it out";
                    return Err(ConfigError::value(field("path"), reason));
                }
                if pool.limits.capacity.is_none() {
                    return Err(no_capacity(&pool.name));
                }
                continue;
            }
            if pool.path.as_os_str().is_empty() {
                return Err(ConfigError::value(field("path"), "is missing: the folder of the pool"));
            }
            if !pool.path.is_absolute() {
                let reason = format!("{} is not an absolute path", pool.path.display());
                return Err(ConfigError::value(field("path"), reason));
            }
            if !(1..=100).contains(&pool.limits.nearly_full_percent) {
                let reason = "must be 1 to 100";
                return Err(ConfigError::value(field("limits.nearly_full_percent"), reason));
            }
            if pool.project_ids.first == 0 || pool.project_ids.first > pool.project_ids.last {
                let reason = "must have a first id of 1 at least and a last one that is not less";
                return Err(ConfigError::value(field("project_ids"), reason));
            }
        }
        Ok(())
    }
}

impl PoolConfig {
    /// A pool of image files at `path`, which is made when it is missing.
    pub fn image(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(name, BackendKind::Image, path)
    }

    /// A pool of folders at `path`, which is made when it is missing.
    pub fn directory(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(name, BackendKind::Directory, path)
    }

    /// A pool of subvolumes at `path` on btrfs, which is made when it is missing.
    pub fn btrfs(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(name, BackendKind::Btrfs, path)
    }

    /// A pool of so many bytes of memory, for inline ephemeral volumes.
    pub fn tmpfs(name: impl Into<String>, bytes: u64) -> Self {
        Self::new(name, BackendKind::Tmpfs, PathBuf::new()).with_capacity(bytes)
    }

    fn new(name: impl Into<String>, backend: BackendKind, path: impl Into<PathBuf>) -> Self {
        Self {
            name: name.into(),
            backend,
            path: path.into(),
            limits: Limits::default(),
            trash: Trash::default(),
            create: true,
            io_cgroup: None,
            project_ids: ProjectIds::default(),
        }
    }

    /// The same pool with deleted volumes kept for so long.
    #[must_use]
    pub fn with_retention(mut self, retention: Duration) -> Self {
        self.trash.retention = retention;
        self
    }

    /// The same pool with at most `bytes` for all its volumes together.
    #[must_use]
    pub fn with_capacity(mut self, bytes: u64) -> Self {
        self.limits.capacity = Some(bytes);
        self
    }
}
