//! Names that several components must agree on for one attachment.

use sha2::{Digest, Sha256};

/// How a node names a CSI volume in `status.volumesInUse` and `volumesAttached`.
#[must_use]
pub fn unique_volume_name(driver: &str, handle: &str) -> String {
    format!("kubernetes.io/csi/{driver}^{handle}")
}

/// The name of the `VolumeAttachment` of one volume on one node: `csi-` and the
/// SHA-256 of handle, driver and node, as the attach-detach controller of
/// Kubernetes names it, so that anyone can find it without a search.
#[must_use]
pub fn attachment_name(driver: &str, handle: &str, node: &str) -> String {
    let digest = Sha256::new().chain_update(handle).chain_update(driver).chain_update(node).finalize();
    format!("csi-{digest:x}")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn attachment_names_are_stable() {
        // printf %s 'h1d1n1' | sha256sum
        assert_eq!(
            attachment_name("d1", "h1", "n1"),
            "csi-f4377ca05cc5eca322576db9de58121438bfd2101406d5962d6ded5b5b8cf85f"
        );
    }
}
