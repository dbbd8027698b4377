//! From Kubernetes' access and volume modes to CSI's volume capabilities.

use holdfast_api::access;
use holdfast_proto::csi::{
    VolumeCapability,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};
use k8s_openapi::api::core::v1::{PersistentVolumeClaim, PersistentVolumeSpec};

/// Why a set of access modes has no counterpart in CSI.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum CapabilityError {
    /// The modes exclude each other.
    #[error("access modes {0} cannot be combined on one volume: choose one of them")]
    Combination(String),
    /// No mode, or one that is not known.
    #[error(
        "access modes [{0}] are not known: use ReadWriteOnce, ReadOnlyMany, ReadWriteMany or ReadWriteOncePod"
    )]
    NotKnown(String),
}

/// The one CSI mode for a set of Kubernetes modes. `multi_writer` is the driver's
/// `SINGLE_NODE_MULTI_WRITER` capability; without it `ReadWriteOncePod` cannot be told
/// from `ReadWriteOnce`. Same table as upstream's `accessmodes` library.
fn access_mode(modes: &[String], multi_writer: bool) -> Result<Mode, CapabilityError> {
    let has = |mode: &str| modes.iter().any(|m| m == mode);
    let combination = || CapabilityError::Combination(modes.join(" and "));
    if let Some(strange) = modes.iter().find(|m| !access::ACCESS_MODES.iter().any(|(long, _)| long == m)) {
        return Err(CapabilityError::NotKnown(strange.clone()));
    }
    if has("ReadWriteOncePod") {
        if modes.iter().any(|m| m != "ReadWriteOncePod") {
            return Err(combination());
        }
        return Ok(if multi_writer { Mode::SingleNodeSingleWriter } else { Mode::SingleNodeWriter });
    }
    match (has("ReadWriteMany"), has("ReadOnlyMany"), has("ReadWriteOnce")) {
        (true, ..) => Ok(Mode::MultiNodeMultiWriter),
        (false, true, true) => Err(combination()),
        (false, true, false) => Ok(Mode::MultiNodeReaderOnly),
        (false, false, true) if multi_writer => Ok(Mode::SingleNodeMultiWriter),
        (false, false, true) => Ok(Mode::SingleNodeWriter),
        (false, false, false) => Err(CapabilityError::NotKnown(String::new())),
    }
}

fn capability(block: bool, fs_type: &str, mount_options: &[String], mode: Mode) -> VolumeCapability {
    let access_type = if block {
        AccessType::Block(BlockVolume {})
    } else {
        AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: mount_options.to_vec(),
            ..Default::default()
        })
    };
    VolumeCapability { access_mode: Some(AccessMode { mode: mode.into() }), access_type: Some(access_type) }
}

/// The capabilities that a claim asks for: one for each of its access modes.
pub(crate) fn for_claim(
    claim: &PersistentVolumeClaim,
    fs_type: &str,
    mount_options: &[String],
    multi_writer: bool,
) -> Result<Vec<VolumeCapability>, CapabilityError> {
    let modes = claim.spec.as_ref().and_then(|s| s.access_modes.as_deref()).unwrap_or_default();
    if modes.is_empty() {
        return Err(CapabilityError::NotKnown(String::new()));
    }
    let block = access::claim_mode(claim) == "Block";
    modes
        .iter()
        .map(|mode| {
            let mode = access_mode(std::slice::from_ref(mode), multi_writer)?;
            Ok(capability(block, fs_type, mount_options, mode))
        })
        .collect()
}

/// The one capability under which an existing volume is attached or grown.
pub(crate) fn for_volume(
    spec: &PersistentVolumeSpec,
    default_fs_type: &str,
    multi_writer: bool,
) -> Result<VolumeCapability, CapabilityError> {
    let mode = access_mode(spec.access_modes.as_deref().unwrap_or_default(), multi_writer)?;
    let block = spec.volume_mode.as_deref() == Some("Block");
    let fs_type = spec.csi.as_ref().and_then(|csi| csi.fs_type.as_deref()).filter(|fs| !fs.is_empty());
    let options = spec.mount_options.as_deref().unwrap_or_default();
    Ok(capability(block, fs_type.unwrap_or(default_fs_type), options, mode))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn modes() {
        use Mode::{
            MultiNodeMultiWriter as Rwx, MultiNodeReaderOnly as Rox, SingleNodeMultiWriter as Rwo,
            SingleNodeSingleWriter as Rwop, SingleNodeWriter as Writer,
        };
        let table: [(u32, &[&str], bool, Option<Mode>); 12] = [
            (1, &["ReadWriteOnce"], false, Some(Writer)),
            (2, &["ReadWriteOnce"], true, Some(Rwo)),
            (3, &["ReadWriteOncePod"], false, Some(Writer)),
            (4, &["ReadWriteOncePod"], true, Some(Rwop)),
            (5, &["ReadWriteMany"], false, Some(Rwx)),
            (6, &["ReadOnlyMany"], true, Some(Rox)),
            (7, &["ReadWriteOnce", "ReadOnlyMany"], false, None),
            (8, &["ReadWriteOnce", "ReadOnlyMany", "ReadWriteMany"], false, Some(Rwx)),
            (9, &["ReadWriteOncePod", "ReadWriteOnce"], true, None),
            (10, &[], false, None),
            (11, &["Sometimes"], false, None),
            (12, &["ReadWriteOnce", "ReadWriteOnce"], false, Some(Writer)),
        ];
        for (number, modes, multi_writer, wanted) in table {
            let modes: Vec<String> = modes.iter().map(ToString::to_string).collect();
            assert_eq!(access_mode(&modes, multi_writer).ok(), wanted, "row {number}");
        }
    }
}
