//! What several components must agree on for one attachment.

use k8s_openapi::api::{core::v1::Node, storage::v1::VolumeAttachment};
use sha2::{Digest, Sha256};

/// On an attachment: the boot of the machine that it was made for.
pub const BOOT_ID: &str = "holdfast.dev/boot-id";
/// On an attachment: the machine that it was made for ([`Machine::id`]).
pub const MACHINE_ID: &str = "holdfast.dev/machine-id";

/// A machine, as it can be told from another one under the same node name. Empty text: not known.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Machine<'a> {
    /// Differs after each boot.
    pub boot: &'a str,
    /// Stays the same: what the firmware says, or else what the installation says.
    pub id: &'a str,
}

impl<'a> Machine<'a> {
    /// From what a node says in `status.nodeInfo`.
    #[must_use]
    pub fn new(boot: &'a str, system_uuid: &'a str, machine_id: &'a str) -> Self {
        Self { boot, id: if system_uuid.is_empty() { machine_id } else { system_uuid } }
    }

    /// The machine that a node says it is; `None` before it has said so.
    #[must_use]
    pub fn of_node(node: &'a Node) -> Option<Self> {
        let info = node.status.as_ref()?.node_info.as_ref()?;
        Some(Self::new(&info.boot_id, &info.system_uuid, &info.machine_id))
    }
}

/// Whether the attachment was made for another machine than the one that has the node's name now. What that
/// one says of the volumes that it uses says nothing of the other. A machine of which too little is known to
/// tell it from another one counts as the same.
#[must_use]
pub fn is_of_another_machine(attachment: &VolumeAttachment, machine: Machine<'_>) -> bool {
    let noted = |name: &str| {
        let annotations = attachment.metadata.annotations.as_ref();
        annotations.and_then(|annotations| annotations.get(name)).map_or("", String::as_str)
    };
    let differ = |noted: &str, now: &str| !noted.is_empty() && !now.is_empty() && noted != now;
    differ(noted(MACHINE_ID), machine.id) && differ(noted(BOOT_ID), machine.boot)
}

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
    use serde_json::json;

    use super::*;

    #[test]
    fn machines() {
        let made_for = |boot: &str, id: &str| -> VolumeAttachment {
            serde_json::from_value(json!({
                "metadata": {"annotations": {BOOT_ID: boot, MACHINE_ID: id}},
                "spec": {"attacher": "d", "nodeName": "n", "source": {}},
            }))
            .unwrap()
        };
        let now = Machine::new("b2", "", "m1");
        for (number, attachment, expected) in [
            (1, made_for("b2", "m1"), false),
            (2, made_for("b1", "m1"), false),
            (3, made_for("b1", "m2"), true),
            (4, made_for("b2", "m2"), false),
            (5, made_for("", "m2"), false),
            (6, made_for("b1", ""), false),
            (7, VolumeAttachment::default(), false),
        ] {
            assert_eq!(is_of_another_machine(&attachment, now), expected, "case {number}");
        }
        assert!(!is_of_another_machine(&made_for("b1", "m2"), Machine::new("b2", "", "")));
        assert_eq!(Machine::new("b", "firmware", "installed").id, "firmware");
        assert_eq!(Machine::of_node(&Node::default()), None);
    }

    #[test]
    fn attachment_names_are_stable() {
        // printf %s 'h1d1n1' | sha256sum
        assert_eq!(
            attachment_name("d1", "h1", "n1"),
            "csi-f4377ca05cc5eca322576db9de58121438bfd2101406d5962d6ded5b5b8cf85f"
        );
    }
}
