//! Volume capabilities to ask for.

use holdfast_proto::csi::{
    VolumeCapability,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};

/// Every access mode that means something.
pub(crate) const MODES: [Mode; 7] = [
    Mode::SingleNodeWriter,
    Mode::SingleNodeReaderOnly,
    Mode::MultiNodeReaderOnly,
    Mode::MultiNodeSingleWriter,
    Mode::MultiNodeMultiWriter,
    Mode::SingleNodeSingleWriter,
    Mode::SingleNodeMultiWriter,
];

/// As a mounted file system.
pub(crate) fn mount(fs_type: &str, mode: Mode) -> VolumeCapability {
    let mount = MountVolume { fs_type: fs_type.to_owned(), ..Default::default() };
    with(AccessType::Mount(mount), mode)
}

/// As a raw block device.
pub(crate) fn block(mode: Mode) -> VolumeCapability {
    with(AccessType::Block(BlockVolume {}), mode)
}

fn with(access_type: AccessType, mode: Mode) -> VolumeCapability {
    VolumeCapability { access_type: Some(access_type), access_mode: Some(AccessMode { mode: mode.into() }) }
}

/// The same with another mode.
pub(crate) fn with_mode(capability: &VolumeCapability, mode: Mode) -> VolumeCapability {
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), ..capability.clone() }
}

/// The other access type with the same mode.
pub(crate) fn opposite(capability: &VolumeCapability) -> VolumeCapability {
    let access_type = match capability.access_type {
        Some(AccessType::Block(_)) => AccessType::Mount(MountVolume::default()),
        _ => AccessType::Block(BlockVolume {}),
    };
    VolumeCapability { access_type: Some(access_type), ..capability.clone() }
}

/// Whether it is a raw block device.
pub(crate) fn is_block(capability: &VolumeCapability) -> bool {
    matches!(capability.access_type, Some(AccessType::Block(_)))
}

/// In a few words.
pub(crate) fn describe(capability: &VolumeCapability) -> String {
    let mode = capability.access_mode.map_or("no access mode", |mode| mode.mode().as_str_name());
    match &capability.access_type {
        Some(AccessType::Mount(mount)) if mount.fs_type.is_empty() => format!("mount, {mode}"),
        Some(AccessType::Mount(mount)) => format!("mount as {}, {mode}", mount.fs_type),
        Some(AccessType::Block(_)) => format!("block, {mode}"),
        None => format!("no access type, {mode}"),
    }
}
