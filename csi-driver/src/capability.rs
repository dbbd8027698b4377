//! Volume capabilities as this driver understands them. Pure.

use holdfast_proto::csi::{
    VolumeCapability,
    volume_capability::{AccessType, access_mode},
};
use serde::{Deserialize, Serialize};

use crate::error::Error;

/// How many may use a volume: the modes of one node. A volume of this driver lies
/// on one machine, so the modes of several nodes are refused.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "SCREAMING_SNAKE_CASE")]
pub(crate) enum Mode {
    SingleNodeWriter,
    SingleNodeReaderOnly,
    SingleNodeSingleWriter,
    SingleNodeMultiWriter,
}

impl Mode {
    /// Whether the volume may be published at several target paths at once
    /// (CSI v1.12, NodePublishVolume, the second table).
    pub(crate) fn allows_several_targets(self) -> bool {
        self == Self::SingleNodeMultiWriter
    }

    /// Whether nobody may write.
    pub(crate) fn is_read_only(self) -> bool {
        self == Self::SingleNodeReaderOnly
    }
}

/// How a volume is to be used.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Access {
    /// As a block device.
    Block,
    /// As a mounted file system; `fs_type` is empty where none was named.
    Mount { fs_type: String, flags: Vec<String> },
}

/// One checked capability.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Capability {
    pub(crate) access: Access,
    pub(crate) mode: Mode,
}

impl Capability {
    /// Reads the one capability of a request, where it is required.
    pub(crate) fn required(capability: Option<&VolumeCapability>) -> Result<Self, Error> {
        Self::read(
            capability.ok_or_else(|| Error::Invalid("volume_capability is required".to_owned()))?,
        )
    }

    /// Reads the capabilities of a request, of which there must be one at least.
    pub(crate) fn all(capabilities: &[VolumeCapability]) -> Result<Vec<Self>, Error> {
        if capabilities.is_empty() {
            return Err(Error::Invalid("volume_capabilities must have at least one entry".to_owned()));
        }
        capabilities.iter().map(Self::read).collect()
    }

    /// Reads one capability.
    pub(crate) fn read(capability: &VolumeCapability) -> Result<Self, Error> {
        let access = match &capability.access_type {
            None => return Err(Error::Invalid("volume_capability.access_type is required".to_owned())),
            Some(AccessType::Block(_)) => Access::Block,
            Some(AccessType::Mount(mount)) if !mount.volume_mount_group.is_empty() => {
                return Err(Error::Invalid(
                    "volume_mount_group is set, but this driver does not declare VOLUME_MOUNT_GROUP".to_owned(),
                ));
            }
            Some(AccessType::Mount(mount)) => {
                Access::Mount { fs_type: mount.fs_type.clone(), flags: mount.mount_flags.clone() }
            }
        };
        use access_mode::Mode as Wire;
        let wire = capability
            .access_mode
            .as_ref()
            .ok_or_else(|| Error::Invalid("volume_capability.access_mode is required".to_owned()))?
            .mode();
        let mode = match wire {
            Wire::SingleNodeWriter => Mode::SingleNodeWriter,
            Wire::SingleNodeReaderOnly => Mode::SingleNodeReaderOnly,
            Wire::SingleNodeSingleWriter => Mode::SingleNodeSingleWriter,
            Wire::SingleNodeMultiWriter => Mode::SingleNodeMultiWriter,
            Wire::Unknown => return Err(Error::Invalid("the access mode is not known".to_owned())),
            Wire::MultiNodeReaderOnly | Wire::MultiNodeSingleWriter | Wire::MultiNodeMultiWriter => {
                return Err(Error::Invalid(format!(
                    "access mode {} is not possible: the storage of this driver can be reached from one node \
                     only; use a mode for a single node (ReadWriteOnce, ReadWriteOncePod)",
                    wire.as_str_name()
                )));
            }
        };
        Ok(Self { access, mode })
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_proto::csi::volume_capability::{AccessMode, BlockVolume, MountVolume};

    fn capability(mode: access_mode::Mode) -> VolumeCapability {
        VolumeCapability {
            access_type: Some(AccessType::Mount(MountVolume::default())),
            access_mode: Some(AccessMode { mode: mode as i32 }),
        }
    }

    #[test]
    fn the_modes_of_one_node_are_taken_and_the_others_refused() {
        use access_mode::Mode as M;
        for mode in [
            M::SingleNodeWriter,
            M::SingleNodeReaderOnly,
            M::SingleNodeSingleWriter,
            M::SingleNodeMultiWriter,
        ] {
            assert!(Capability::read(&capability(mode)).is_ok(), "{mode:?}");
        }
        for mode in
            [M::Unknown, M::MultiNodeReaderOnly, M::MultiNodeSingleWriter, M::MultiNodeMultiWriter]
        {
            let read = Capability::read(&capability(mode));
            assert!(matches!(read, Err(Error::Invalid(_))), "{mode:?}: {read:?}");
        }
    }

    #[test]
    fn what_is_missing_is_named() {
        let mut no_type = capability(access_mode::Mode::SingleNodeWriter);
        no_type.access_type = None;
        let mut no_mode = capability(access_mode::Mode::SingleNodeWriter);
        no_mode.access_mode = None;
        let mut group = capability(access_mode::Mode::SingleNodeWriter);
        group.access_type = Some(AccessType::Mount(MountVolume {
            volume_mount_group: "7".to_owned(),
            ..Default::default()
        }));
        for (bad, said) in [(no_type, "access_type"), (no_mode, "access_mode"), (group, "volume_mount_group")] {
            let error = Capability::read(&bad).unwrap_err().to_string();
            assert!(error.contains(said), "{error}");
        }
        assert!(Capability::all(&[]).is_err() && Capability::required(None).is_err());
        let block = VolumeCapability {
            access_type: Some(AccessType::Block(BlockVolume {})),
            ..capability(access_mode::Mode::SingleNodeWriter)
        };
        assert_eq!(Capability::read(&block).unwrap().access, Access::Block);
    }
}
