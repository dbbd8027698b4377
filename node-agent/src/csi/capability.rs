//! How a volume of the API is described to a driver.

use holdfast_proto::csi::{
    VolumeCapability,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};

/// What decides a volume's capability message.
#[derive(Debug, Clone, PartialEq, Eq, Hash, Default)]
pub(crate) struct Shape {
    pub(crate) block: bool,
    pub(crate) fs_type: String,
    pub(crate) mount_flags: Vec<String>,
    /// As in `PersistentVolume.spec.accessModes`.
    pub(crate) access_mode: String,
}

/// The capability message. `ReadWriteOncePod` and several writers on one node can be told apart
/// only by drivers with `SINGLE_NODE_MULTI_WRITER` (CSI, "AccessMode").
pub(crate) fn capability(shape: &Shape, multi_writer: bool) -> VolumeCapability {
    let access_type = if shape.block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: shape.fs_type.clone(),
            mount_flags: shape.mount_flags.clone(),
            ..MountVolume::default()
        })
    };
    VolumeCapability {
        access_mode: Some(AccessMode { mode: mode(&shape.access_mode, multi_writer).into() }),
        access_type: Some(access_type),
    }
}

fn mode(access_mode: &str, multi_writer: bool) -> Mode {
    match access_mode {
        "ReadOnlyMany" => Mode::MultiNodeReaderOnly,
        "ReadWriteMany" => Mode::MultiNodeMultiWriter,
        "ReadWriteOncePod" if multi_writer => Mode::SingleNodeSingleWriter,
        "ReadWriteOnce" if multi_writer => Mode::SingleNodeMultiWriter,
        _ => Mode::SingleNodeWriter,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        for (access, multi_writer, expected) in [
            ("ReadWriteOnce", false, Mode::SingleNodeWriter),
            ("ReadWriteOnce", true, Mode::SingleNodeMultiWriter),
            ("ReadWriteOncePod", false, Mode::SingleNodeWriter),
            ("ReadWriteOncePod", true, Mode::SingleNodeSingleWriter),
            ("ReadOnlyMany", true, Mode::MultiNodeReaderOnly),
            ("ReadWriteMany", false, Mode::MultiNodeMultiWriter),
        ] {
            assert_eq!(mode(access, multi_writer), expected, "{access} {multi_writer}");
        }
    }
}
