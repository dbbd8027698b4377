//! What of a volume can be changed while it exists: `mutable_parameters` (CSI v1.12,
//! ControllerModifyVolume; in Kubernetes a VolumeAttributesClass, KEP-3751). Pure.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};

use crate::{
    error::Error,
    size::{Bytes, parse_bytes},
};

/// Less would not slow a volume down but stop it: its unmount has to write, too.
const LEAST_BANDWIDTH: u64 = 64 << 10;
/// The kernel takes no 1 (block/blk-throttle.c).
const LEAST_IOPS: u64 = 2;

/// The mutable parameters of a volume, as `volume.json` keeps them. What is `None` was never
/// asked for, or was taken back.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct Mutable {
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) compression: Option<Compression>,
    #[serde(skip_serializing_if = "IoLimits::is_none")]
    pub(crate) limits: IoLimits,
}

/// How new files are compressed.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "lowercase")]
pub(crate) enum Compression {
    Zstd,
    Lzo,
    Zlib,
    None,
}

impl Compression {
    const ALL: [Self; 4] = [Self::Zstd, Self::Lzo, Self::Zlib, Self::None];

    /// As the parameter and as btrfs' property spell it.
    pub(crate) fn as_str(self) -> &'static str {
        match self {
            Self::Zstd => "zstd",
            Self::Lzo => "lzo",
            Self::Zlib => "zlib",
            Self::None => "none",
        }
    }

    fn parse(value: &str) -> Result<Self, Error> {
        if let Some(algorithm) = Self::ALL.into_iter().find(|algorithm| algorithm.as_str() == value) {
            return Ok(algorithm);
        }
        // btrfs takes `zstd:15` for the property of a folder, and ignores the level.
        let hint = if value.contains(':') { "; levels are an option of the pool's mount" } else { "" };
        Err(Error::Invalid(format!(
            "mutable parameter compression is {value:?}, not one of zstd, lzo, zlib, none{hint}"
        )))
    }
}

/// How much may be read and written in a second; `None` is without a limit.
#[derive(Debug, Clone, Copy, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub(crate) struct IoLimits {
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iops_read: Option<u64>,
    /// Operations.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) iops_write: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth_read: Option<u64>,
    /// Bytes.
    #[serde(skip_serializing_if = "Option::is_none")]
    pub(crate) bandwidth_write: Option<u64>,
}

impl IoLimits {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }
}

impl Mutable {
    pub(crate) fn is_none(&self) -> bool {
        *self == Self::default()
    }

    /// These with what `parameters` name changed; what they do not name stays (CSI v1.12,
    /// ControllerModifyVolumeRequest). All of them are good, or it is an error.
    pub(crate) fn changed(mut self, parameters: &HashMap<String, String>) -> Result<Self, Error> {
        for (name, value) in parameters {
            match name.as_str() {
                "compression" => self.compression = Some(Compression::parse(value)?),
                "iopsRead" => self.limits.iops_read = limit(name, value, LEAST_IOPS)?,
                "iopsWrite" => self.limits.iops_write = limit(name, value, LEAST_IOPS)?,
                "bandwidthRead" => self.limits.bandwidth_read = limit(name, value, LEAST_BANDWIDTH)?,
                "bandwidthWrite" => self.limits.bandwidth_write = limit(name, value, LEAST_BANDWIDTH)?,
                _ => {
                    return Err(Error::Invalid(format!(
                        "mutable parameter {name:?} is not known; there are compression, iopsRead, iopsWrite, \
                         bandwidthRead and bandwidthWrite"
                    )));
                }
            }
        }
        Ok(self)
    }
}

/// A limit in one second; `max`, as in io.max, takes it away.
fn limit(name: &str, value: &str, least: u64) -> Result<Option<u64>, Error> {
    if value == "max" {
        return Ok(None);
    }
    match parse_bytes(value) {
        Some(limit) if limit >= least => Ok(Some(limit)),
        Some(_) => Err(Error::Invalid(format!(
            "mutable parameter {name} is {value:?}, less than {}, the least that a volume can work with",
            Bytes(least)
        ))),
        None => Err(Error::Invalid(format!(
            "mutable parameter {name} is {value:?}; write a whole number, with Ki, Mi, Gi or Ti or without, or max \
             for no limit"
        ))),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn asked(pairs: &[(&str, &str)]) -> HashMap<String, String> {
        pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
    }

    #[test]
    fn what_is_named_changes_and_the_rest_stays() {
        let first = Mutable::default()
            .changed(&asked(&[("compression", "zstd"), ("iopsRead", "500"), ("bandwidthWrite", "10Mi")]))
            .unwrap();
        assert_eq!(first.compression, Some(Compression::Zstd));
        assert_eq!((first.limits.iops_read, first.limits.bandwidth_write), (Some(500), Some(10 << 20)));
        assert_eq!((first.limits.iops_write, first.limits.bandwidth_read), (None, None));
        assert_eq!(first.changed(&asked(&[])).unwrap(), first);
        let second = first.changed(&asked(&[("iopsRead", "max"), ("iopsWrite", "7")])).unwrap();
        let limits = IoLimits { iops_read: None, iops_write: Some(7), ..first.limits };
        assert_eq!(second, Mutable { limits, ..first });
        let stored = serde_json::to_string(&second).unwrap();
        assert_eq!(serde_json::from_str::<Mutable>(&stored).unwrap(), second);
        assert_eq!(serde_json::to_string(&Mutable::default()).unwrap(), "{}");
    }

    #[test]
    fn what_is_wrong_is_named() {
        for (name, value, said) in [
            ("iops", "5", "\"iops\" is not known; there are compression, iopsRead"),
            ("Compression", "zstd", "\"Compression\" is not known"),
            ("compression", "gzip", "\"gzip\", not one of zstd"),
            ("compression", "zstd:15", "levels are an option"),
            ("compression", "", "not one of"),
            ("iopsRead", "0", "less than 2,"),
            ("iopsWrite", "1", "less than 2,"),
            ("iopsRead", "many", "a whole number"),
            ("iopsWrite", "-1", "a whole number"),
            ("bandwidthRead", "10", "less than 64Ki"),
            ("bandwidthWrite", "10M", "a whole number"),
        ] {
            let good = [("compression", "zstd"), (name, value)];
            let error = Mutable::default().changed(&asked(&good)).unwrap_err();
            assert!(matches!(&error, Error::Invalid(why) if why.contains(said)), "{name}={value}: {error}");
        }
    }
}
