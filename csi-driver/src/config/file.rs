//! Reading the configuration from a TOML file.
//!
//! ```toml
//! node_id = "node-1"
//! endpoint = "unix:///run/holdfast/csi.sock"
//!
//! [[pool]]
//! name = "default"
//! backend = "image"
//! path = "/srv/holdfast"
//! limits = { capacity = "100Gi", max_volume_size = "20Gi" }
//! ```

use std::{
    ffi::OsString,
    path::{Path, PathBuf},
    time::Duration,
};

use serde::{Deserialize, Deserializer, de::DeserializeOwned, de::Error as _};

use super::{Attach, Config, ConfigError, DRIVER_NAME, PoolConfig};
use crate::{metrics::Metrics, size::parse_bytes};

/// A configuration file as it was read. What the command line says goes in before
/// [`ConfigFile::into_config`] looks whether it is whole.
#[derive(Debug, Clone, Deserialize)]
#[serde(deny_unknown_fields)]
#[non_exhaustive]
pub struct ConfigFile {
    /// The name that GetPluginInfo answers [default: [`DRIVER_NAME`]].
    #[serde(default = "driver_name")]
    pub driver_name: String,
    /// This node's id [default: the host name].
    pub node_id: Option<String>,
    /// The unix socket to listen on: a path, with or without `unix://` before it.
    pub endpoint: Option<PathBuf>,
    /// The pools; at least one.
    #[serde(rename = "pool", default)]
    pub pools: Vec<PoolConfig>,
    /// Whether a volume has to be attached before it is staged: `"required"`, the default, or
    /// `"none"`.
    #[serde(default)]
    pub attach: Attach,
    /// Where outside tools are searched, as in PATH. Without it PATH itself and the
    /// usual system folders.
    pub tool_path: Option<OsString>,
}

impl ConfigFile {
    /// Reads a file.
    ///
    /// # Errors
    /// When it cannot be read or is not TOML of this form; the error names file, line and column.
    pub fn load(path: &Path) -> Result<Self, ConfigError> {
        load(path)
    }

    /// The whole configuration, checked.
    ///
    /// # Errors
    /// When something is missing or makes no sense; the error names the field.
    pub fn into_config(self) -> Result<Config, ConfigError> {
        let endpoint = self.endpoint.ok_or_else(|| {
            ConfigError::value("endpoint", "the file has none; add it, or give it on the command line")
        })?;
        let node_id = match self.node_id {
            Some(id) => id,
            None => host_name()?,
        };
        let config = Config {
            driver_name: self.driver_name,
            node_id,
            endpoint,
            pools: self.pools,
            attach: self.attach,
            tool_path: self.tool_path,
            tool_timeout: None,
            metrics: Metrics::default(),
        };
        config.check()?;
        Ok(config)
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
        load::<Pools>(path).map(|file| file.pools)
    }
}

fn load<T: DeserializeOwned>(path: &Path) -> Result<T, ConfigError> {
    let text = std::fs::read_to_string(path)
        .map_err(|source| ConfigError::Read { path: path.to_owned(), source })?;
    parse(&text, path)
}

fn parse<T: DeserializeOwned>(text: &str, path: &Path) -> Result<T, ConfigError> {
    toml::from_str(text).map_err(|error: toml::de::Error| {
        let before = text.get(..error.span().map_or(0, |span| span.start)).unwrap_or_default();
        ConfigError::Syntax {
            path: path.to_owned(),
            line: before.matches('\n').count() + 1,
            column: before.chars().rev().take_while(|c| *c != '\n').count() + 1,
            reason: error.message().replace('\n', " "),
        }
    })
}

/// The name that GetPluginInfo answers where nothing else is said.
pub(super) fn driver_name() -> String {
    DRIVER_NAME.to_owned()
}

fn host_name() -> Result<String, ConfigError> {
    rustix::system::uname().nodename().to_str().map(str::to_lowercase).map_err(|_| {
        ConfigError::value("node_id", "is not given, and this machine's host name is not UTF-8; give it")
    })
}

#[derive(Deserialize)]
#[serde(untagged)]
enum SizeText {
    Bytes(u64),
    Text(String),
}

pub(super) fn size<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Option<u64>, D::Error> {
    match SizeText::deserialize(deserializer)? {
        SizeText::Bytes(bytes) => Ok(Some(bytes)),
        SizeText::Text(text) => parse_bytes(&text).map(Some).ok_or_else(|| {
            D::Error::custom(format!(
                "{text:?} is not a size; write bytes or a whole number of Ki, Mi, Gi, Ti"
            ))
        }),
    }
}

pub(super) fn duration<'de, D: Deserializer<'de>>(deserializer: D) -> Result<Duration, D::Error> {
    let text = String::deserialize(deserializer)?;
    parse_duration(&text).ok_or_else(|| {
        D::Error::custom(format!("{text:?} is not a duration; write a whole number of s, m, h or d"))
    })
}

/// Reads a duration as people write it: a whole number and one of s, m, h, d.
#[must_use]
pub fn parse_duration(text: &str) -> Option<Duration> {
    let unit = text.find(|c: char| !c.is_ascii_digit()).unwrap_or(text.len());
    let (number, unit) = text.split_at(unit);
    let number: u64 = number.parse().ok()?;
    let seconds = match unit {
        "s" => 1,
        "m" => 60,
        "h" => 3600,
        "d" => 86400,
        "" if number == 0 => 1,
        _ => return None,
    };
    number.checked_mul(seconds).map(Duration::from_secs)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::config::BackendKind;

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

    fn read(text: &str) -> Result<Config, ConfigError> {
        parse::<ConfigFile>(text, Path::new("pools.toml"))?.into_config()
    }

    #[test]
    fn a_whole_configuration() {
        let config = read(GOOD).unwrap();
        assert_eq!(config.driver_name, DRIVER_NAME);
        assert_eq!(config.socket(), Path::new("/run/csi.sock"));
        assert_eq!(config.attach, Attach::Required);
        assert_eq!(config.pools.len(), 2);
        assert_eq!(config.pools[0].limits.capacity, Some(100 << 30));
        assert_eq!(config.pools[0].limits.max_volume_size, Some(1 << 20));
        assert_eq!(config.pools[1].backend, BackendKind::Directory);
        assert!(!config.pools[1].create);
    }

    #[test]
    fn mistakes_name_their_place() {
        for (from, to, said) in [
            ("\"100Gi\"", "\"100G\"", "pools.toml:8:31: \"100G\""),
            ("backend = \"image\"", "backend = \"lvm\"", "pools.toml:6:19: unknown variant `lvm`"),
            ("max_volume_size = 1048576", "nearly_full_percent = 0", "nearly_full_percent: must be 1 to 100"),
            ("name = \"dirs\"", "name = \"default\"", "used twice"),
            ("name = \"dirs\"", "name = \"Dirs\"", "Dirs"),
            ("path = \"/srv/b\"", "path = \"srv/b\"", "absolute"),
            ("path = \"/srv/b\"", "path = \"/srv/b\"\nio_cgroup = \"/sys/fs/cgroup\"", "\"image\" only"),
            ("path = \"/srv/a\"", "path = \"/srv/a\"\nio_cgroup = \"pods\"", "pods is not an absolute path"),
            ("path = \"/srv/b\"", "path = \"/srv/b\"\ncolour = 1", "pools.toml:13:1: unknown field `colour`"),
            ("node_id = \"n1\"", "node_id = \"\"", "node_id"),
            ("node_id = \"n1\"", "attach = \"no\"", "pools.toml:2:18: unknown variant `no`"),
            ("node_id = \"n1\"", "node_id = ", "pools.toml:2:"),
            ("unix:///run/csi.sock", "csi.sock", "absolute"),
            ("endpoint = \"unix:///run/csi.sock\"", "", "endpoint: the file has none"),
        ] {
            let error = read(&GOOD.replacen(from, to, 1)).unwrap_err().to_string();
            assert!(error.contains(said), "{to}: {error}");
        }
        let none = read("node_id='a'\nendpoint='/a'").unwrap_err().to_string();
        assert!(none.contains("no pool"), "{none}");
    }

    #[test]
    fn durations() {
        let retention = |text: &str| {
            let with = format!("path = \"/srv/b\"\ntrash = {{ retention = {text:?} }}");
            read(&GOOD.replacen("path = \"/srv/b\"", &with, 1)).map(|config| config.pools[1].trash.retention)
        };
        assert_eq!(read(GOOD).unwrap().pools[1].trash.retention, Duration::ZERO);
        for (text, seconds) in [("24h", 86400), ("7d", 604_800), ("90s", 90), ("5m", 300), ("0", 0)] {
            assert_eq!(retention(text).unwrap(), Duration::from_secs(seconds), "{text}");
        }
        for bad in ["", "h", "1.5h", "-1h", "1 h", "10", "99999999999999999d"] {
            let error = retention(bad).unwrap_err().to_string();
            assert!(error.contains("is not a duration"), "{error}");
        }
    }

    #[test]
    fn the_host_name_stands_in_for_a_node_id() {
        let config = read(&GOOD.replacen("node_id = \"n1\"", "", 1)).unwrap();
        assert_eq!(config.node_id, host_name().unwrap());
    }
}
