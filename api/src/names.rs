//! Well-known names: annotations, finalizers, labels. Upstream's spelling where
//! upstream has one; our own under `holdfast.dev/`.

/// The name of Holdfast's own CSI driver.
pub const DRIVER: &str = "csi.holdfast.dev";
/// The topology key under which the driver names its node.
pub const TOPOLOGY_NODE: &str = "topology.csi.holdfast.dev/node";

/// On a class: claims that name no class get this one (value `true`).
pub const DEFAULT_CLASS: &str = "storageclass.kubernetes.io/is-default-class";
/// The spelling of [`DEFAULT_CLASS`] before Kubernetes 1.6, still honoured.
pub const DEFAULT_CLASS_BETA: &str = "storageclass.beta.kubernetes.io/is-default-class";
/// On volumes and claims: the class, from before the field `storageClassName`.
pub const CLASS_BETA: &str = "volume.beta.kubernetes.io/storage-class";

/// On a claim: binding to its volume is done.
pub const BIND_COMPLETED: &str = "pv.kubernetes.io/bind-completed";
/// On a claim or volume: the other side was chosen by the binder, not by a person.
pub const BOUND_BY_CONTROLLER: &str = "pv.kubernetes.io/bound-by-controller";
/// On a volume: the provisioner that made it and may delete it.
pub const PROVISIONED_BY: &str = "pv.kubernetes.io/provisioned-by";
/// On a claim: the provisioner that is asked to make a volume for it.
pub const STORAGE_PROVISIONER: &str = "volume.kubernetes.io/storage-provisioner";
/// The spelling of [`STORAGE_PROVISIONER`] before Kubernetes 1.23, still written.
pub const STORAGE_PROVISIONER_BETA: &str = "volume.beta.kubernetes.io/storage-provisioner";
/// On a claim of a `WaitForFirstConsumer` class: the node the scheduler chose.
pub const SELECTED_NODE: &str = "volume.kubernetes.io/selected-node";
/// The provisioner name of classes whose volumes are made by hand.
pub const NO_PROVISIONER: &str = "kubernetes.io/no-provisioner";

/// Keeps a claim while a pod uses it.
pub const PVC_PROTECTION: &str = "kubernetes.io/pvc-protection";
/// Keeps a volume while a claim is bound to it.
pub const PV_PROTECTION: &str = "kubernetes.io/pv-protection";
/// Keeps a VolumeAttributesClass while a claim or volume has it, or is to have it.
pub const VAC_PROTECTION: &str = "kubernetes.io/vac-protection";
/// Keeps a provisioned volume's object until the volume itself is deleted.
pub const PROVISIONER_FINALIZER: &str = "external-provisioner.volume.kubernetes.io/finalizer";

/// The label that holds a node's host name.
pub const HOSTNAME_LABEL: &str = "kubernetes.io/hostname";

/// Whether a name is a DNS subdomain as objects' names must be (RFC 1123): at most 253
/// bytes, dot-separated parts of lower case letters, digits and inner hyphens.
#[must_use]
pub fn is_subdomain(name: &str) -> bool {
    let is_part = |part: &str| {
        let bytes = part.as_bytes();
        let inner = bytes.iter().all(|b| b.is_ascii_lowercase() || b.is_ascii_digit() || *b == b'-');
        inner && bytes.first().is_some_and(|b| *b != b'-') && bytes.last().is_some_and(|b| *b != b'-')
    };
    name.len() <= 253 && name.split('.').all(is_part)
}

#[cfg(test)]
mod tests {
    #[test]
    fn subdomains() {
        for name in ["a", "a-b", "node-1.example.com", "0"] {
            assert!(super::is_subdomain(name), "{name}");
        }
        let long = "a".repeat(254);
        for name in ["", "A", "a_b", "-a", "a-", "a..b", ".a", "a.", "a b", "é", &long] {
            assert!(!super::is_subdomain(name), "{name}");
        }
    }
}
