//! Whether a node has let go of a volume, and on whose word.
//!
//! The node's own word is `status.volumesInUse`: it adds a volume there before it stages it and takes it out after it has
//! unstaged it. That list speaks for one Node object: one that was made anew, and has no list yet, has not spoken. It
//! speaks for one machine: another one under the same name knows nothing of what the former has mounted. Neither
//! silence nor the end of the object is a word. In their place there is only the word of a person, who says that
//! the machine is shut down: the taint `node.kubernetes.io/out-of-service`, where the node does not disprove it by
//! being ready, or the deletion of the attachment itself.

use holdfast_api::{
    attachment::{Machine, attachment_name, is_of_another_machine, unique_volume_name},
    nodes,
};
use k8s_openapi::api::{core::v1::Node, storage::v1::VolumeAttachment};

use super::reason::{Holder, Reason};
use crate::controllers::view::{Seen, View, csi_source, is_deleting};
use crate::store::Key;

/// What becomes of an attachment that no pod wants.
pub(super) enum Fate {
    /// The node has it still, as far as anybody knows.
    Stays,
    /// The node has let go of it, or somebody says that it is shut down.
    Goes(Reason),
    /// Nobody is left who could say anything of it, and this is told about it.
    Lost(Reason),
}

/// An attachment on a node, while no pod there wants it.
pub(super) fn fate(view: &View, node: &Seen<Node>, attachment: &Seen<VolumeAttachment>) -> Fate {
    let Some((volume, unique)) = ours(view, &node.key, attachment) else { return Fate::Stays };
    let (volume, name) = (volume.to_owned(), node.key.name.to_string());
    let other = of_another_machine(node, attachment);
    match (has_let_go(node, &unique), other) {
        (true, None) => Fate::Goes(Reason::Unused { volume, node: name }),
        _ if nodes::is_out_of_service(node) => Fate::Goes(Reason::OutOfService { volume, node: name }),
        (_, Some(other)) => Fate::Lost(other),
        (false, None) => Fate::Stays,
    }
}

/// What is known of a node on which a volume is, or may be.
pub(super) fn holder(view: &View, node: &str, attachment: Option<&str>) -> Holder {
    match (view.nodes.get("", node), attachment) {
        (None, Some(attachment)) => Holder::Gone { attachment: attachment.to_owned() },
        (Some(node), _) if !nodes::is_ready(node) => Holder::Silent,
        _ => Holder::Well,
    }
}

/// Whether the node says that it uses the volume, and is not known to be shut down.
pub(super) fn uses(node: &Node, unique: &str) -> bool {
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_ref());
    in_use.is_some_and(|list| list.iter().any(|name| name == unique)) && !nodes::is_out_of_service(node)
}

/// The reason, where an attachment was made for another machine than the one that is the node now.
pub(super) fn of_another_machine(node: &Seen<Node>, attachment: &Seen<VolumeAttachment>) -> Option<Reason> {
    let machine = Machine::of_node(node)?;
    let volume = attachment.spec.source.persistent_volume_name.clone().unwrap_or_default();
    is_of_another_machine(attachment, machine).then(|| Reason::OtherMachine {
        volume,
        node: node.key.name.to_string(),
        attachment: attachment.key.name.to_string(),
    })
}

/// Whether the node has spoken, and does not list the volume.
fn has_let_go(node: &Node, unique: &str) -> bool {
    let in_use = node.status.as_ref().and_then(|status| status.volumes_in_use.as_ref());
    in_use.is_some_and(|list| !list.iter().any(|name| name == unique))
}

/// The volume of an attachment and its name in a node's lists, where it is ours and not on its way out.
fn ours<'a>(view: &View, node: &Key, attachment: &'a Seen<VolumeAttachment>) -> Option<(&'a str, String)> {
    if is_deleting(&attachment.metadata) {
        return None;
    }
    let volume = attachment.spec.source.persistent_volume_name.as_deref()?;
    // Without the volume's object nobody can tell whether the node still has it.
    let source = csi_source(view.volumes.get("", volume)?)?;
    // An attachment under another name was made by somebody else, for reasons of theirs.
    if *attachment.key.name != *attachment_name(&source.driver, &source.volume_handle, &node.name) {
        return None;
    }
    Some((volume, unique_volume_name(&source.driver, &source.volume_handle)))
}
