//! What the driver is told: its node, its socket and its pools.
//!
//! ```toml
//! node_id = "node-1"
//! endpoint = "/run/holdfast/csi.sock"
//!
//! [[pool]]
//! name = "default"
//! backend = "image"
//! path = "/srv/holdfast"
//! limits = { capacity = "100Gi", max_volume_size = "20Gi" }
//! ```

use std::{
    collections::HashSet,
    ffi::OsString,
    io,
    path::{Path, PathBuf},
};

use serde::{Deserialize, Deserializer, Serialize, de::Error as _};

use crate::{metrics::Metrics, size::parse_bytes, volume_id::is_pool_name};

/// The name under which the driver is known to orchestrators.
pub const DRIVER_NAME: &str = "csi.holdfast.dev";
/// The topology key whose value is the node's id.
pub const TOPOLOGY_NODE: &str = "topology.csi.holdfast.dev/node";

/// Everything the driver is told.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct Config {
    /// The name that GetPluginInfo answers.
    #[serde(default = "driver_name")]
    pub driver_name: String,
    /// This node's id: at most 256 bytes (CSI v1.12, NodeGetInfo), and a value for
    /// the topology key [`TOPOLOGY_NODE`].
    pub node_id: String,
    /// The unix socket to listen on: a path, with or without `unix://` before it.
    pub endpoint: PathBuf,
    /// The pools; at least one.
    #[serde(rename = "pool", default)]
    pub pools: Vec<PoolConfig>,
    /// Where outside tools are searched, as in PATH. Without it PATH itself and the
    /// usual system folders.
    #[serde(default)]
    pub tool_path: Option<OsString>,
    /// What is measured; register it with [`Metrics::register`].
    #[serde(skip)]
    pub metrics: Metrics,
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
    /// The folder in which everything of the pool lies.
    pub path: PathBuf,
    /// How much of the storage may be used.
    #[serde(default)]
    pub limits: Limits,
    /// Whether the folder is made when it is missing. Off by default: a missing
    /// folder is often a file system that is not mounted.
    #[serde(default)]
    pub create: bool,
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
}

impl BackendKind {
    /// The name as it is written in the configuration.
    #[must_use]
    pub fn as_str(self) -> &'static str {
        match self {
            Self::Image => "image",
            Self::Directory => "directory",
        }
    }
}

/// How much of the storage a pool may use; sizes as `"100Gi"` or in bytes.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Deserialize)]
#[serde(deny_unknown_fields, default)]
#[non_exhaustive]
pub struct Limits {
    /// The most bytes that all volumes together may have. Without it, what the file
    /// system has free.
    #[serde(deserialize_with = "size")]
    pub capacity: Option<u64>,
    /// The most bytes that one volume may have.
    #[serde(deserialize_with = "size")]
    pub max_volume_size: Option<u64>,
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
    #[error("the driver's configuration cannot be read: {0}")]
    Syntax(#[from] Box<toml::de::Error>),
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
            driver_name: driver_name(),
            node_id: node_id.into(),
            endpoint: endpoint.into(),
            pools,
            tool_path: None,
            metrics: Metrics::default(),
        }
    }

    /// Reads and checks a TOML text.
    pub fn from_toml(text: &str) -> Result<Self, ConfigError> {
        let config: Self = toml::from_str(text).map_err(Box::new)?;
        config.check()?;
        Ok(config)
    }

    /// Reads and checks a TOML file.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        Self::from_toml(&text)
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
        if self.driver_name.is_empty() || self.driver_name.len() > 63 {
            return Err(ConfigError::value("driver_name", "must have 1 to 63 characters"));
        }
        if self.node_id.is_empty() || self.node_id.len() > 256 {
            return Err(ConfigError::value("node_id", "must have 1 to 256 bytes"));
        }
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
            if !pool.path.is_absolute() {
                let reason = format!("{} is not an absolute path", pool.path.display());
                return Err(ConfigError::value(field("path"), reason));
            }
        }
        Ok(())
    }
}

/// A file that has pools only.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
struct Pools {
    #[serde(rename = "pool", default)]
    pools: Vec<PoolConfig>,
}

impl PoolConfig {
    /// Reads the `[[pool]]` sections of a TOML file that has nothing else, for those who set
    /// up the rest in code. [`Config::check`] looks at their values.
    ///
    /// # Errors
    /// When the file cannot be read, or is not such a file.
    pub fn load_all(path: &Path) -> Result<Vec<Self>, ConfigError> {
        let text = std::fs::read_to_string(path)
            .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
        let Pools { pools } = toml::from_str(&text).map_err(Box::new)?;
        Ok(pools)
    }

    /// A pool of image files at `path`, which is made when it is missing.
    pub fn image(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(name, BackendKind::Image, path)
    }

    /// A pool of folders at `path`, which is made when it is missing.
    pub fn directory(name: impl Into<String>, path: impl Into<PathBuf>) -> Self {
        Self::new(name, BackendKind::Directory, path)
    }

    fn new(name: impl Into<String>, backend: BackendKind, path: impl Into<PathBuf>) -> Self {
        Self { name: name.into(), backend, path: path.into(), limits: Limits::default(), create: true }
    }

    /// The same pool with at most `bytes` for all its volumes together.
    #[must_use]
    pub fn with_capacity(mut self, bytes: u64) -> Self {
        self.limits.capacity = Some(bytes);
        self
    }
}

fn driver_name() -> String {
    DRIVER_NAME.to_owned()
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match SizeText::deserialize(deserializer)? {
        SizeText::Bytes(bytes) => Ok(Some(bytes)),
        SizeText::Text(text) => parse_bytes(&text).map(Some).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a size; write bytes or a whole number of Ki, Mi, Gi, Ti"
            ))
        }),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    const GOOD: &str = r#"
        node_id = "n1"
        endpoint = "unix:///run/csi.sock"
        [[pool]]
        name = "default"
        backend = "image"
        path = "/srv/a"
        limits = { capacity = "100Gi", max_volume_size = 1048576 }
        [[pool]]
        name = "dirs"
        backend = "directory"
        path = "/srv/b"
    "#;

    #[test]
    fn a_whole_configuration() {
        let config = Config::from_toml(GOOD).unwrap();
        assert_eq!(config.driver_name, DRIVER_NAME);
        assert_eq!(config.socket(), Path::new("/run/csi.sock"));
        assert_eq!(config.pools.len(), 2);
        assert_eq!(config.pools[0].limits.capacity, Some(100 << 30));
        assert_eq!(config.pools[0].limits.max_volume_size, Some(1 << 20));
        assert_eq!(config.pools[1].backend, BackendKind::Directory);
        assert!(!config.pools[1].create);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (from, to, said) in [
            ("\"100Gi\"", "\"100G\"", "100G"),
            ("backend = \"image\"", "backend = \"lvm\"", "lvm"),
            ("name = \"dirs\"", "name = \"default\"", "used twice"),
            ("name = \"dirs\"", "name = \"Dirs\"", "Dirs"),
            ("path = \"/srv/b\"", "path = \"srv/b\"", "absolute"),
            ("path = \"/srv/b\"", "path = \"/srv/b\"\ncolour = 1", "colour"),
            ("node_id = \"n1\"", "node_id = \"\"", "node_id"),
            ("node_id = \"n1\"", "", "node_id"),
            ("unix:///run/csi.sock", "csi.sock", "absolute"),
        ] {
            let text = GOOD.replacen(from, to, 1);
            let error = Config::from_toml(&text).unwrap_err().to_string();
            assert!(error.contains(said), "{to}: {error}");
        }
        let none = Config::from_toml("node_id='a'\nendpoint='/a'").unwrap_err().to_string();
        assert!(none.contains("no pool"), "{none}");
    }
}
