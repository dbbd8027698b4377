//! What to do next for one attachment. Pure.
//!
//! Before ControllerPublish the intent is saved in two places: a finalizer on the volume
//! object (so that its handle cannot be lost) and a finalizer on the attachment together
//! with the node's id (so that it can be detached when the node is gone). A crash after
//! that leaves an attachment that is not marked attached and cannot vanish: attaching
//! repeats ControllerPublish, deleting calls ControllerUnpublish, whatever its status says.

use std::{collections::BTreeMap, sync::Arc};

use holdfast_proto::csi::{ControllerPublishVolumeRequest, ControllerUnpublishVolumeRequest};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeSpec},
    storage::v1::VolumeAttachment,
};
use kube::ResourceExt;

use super::reason::Reason;
use crate::{
    csi::{self, CsiError, DriverFacts},
    writes::SecretKey,
};

/// Where an attachment remembers the node's id in the driver's words; upstream's name.
pub(crate) const NODE_ID: &str = "csi.alpha.kubernetes.io/node-id";

/// What came of the steps of this very look.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Progress {
    Begun,
    Published(BTreeMap<String, String>),
    PublishFailed(CsiError),
    /// The secret for the call is missing.
    NoSecret(String),
    Unpublished,
    UnpublishFailed(CsiError),
    /// The error is in the status.
    Noted(Reason),
}

/// All that a decision looks at.
#[derive(Debug, Clone)]
pub(crate) struct View {
    pub facts: Arc<DriverFacts>,
    pub default_fs_type: Arc<str>,
    pub attachment: Option<Arc<VolumeAttachment>>,
    /// The volume object that the attachment names.
    pub volume: Option<Arc<PersistentVolume>>,
    /// The node's id, as the driver registered it.
    pub node_id: Option<String>,
    pub progress: Progress,
}

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    Rest(Reason),
    Retry(Reason),
    /// Put our finalizer on the volume object.
    HoldVolume(Reason),
    /// Put our finalizer and the node's id on the attachment.
    RecordIntent {
        node_id: String,
        reason: Reason,
    },
    Publish {
        request: Box<ControllerPublishVolumeRequest>,
        secret: Option<SecretKey>,
        reason: Reason,
    },
    /// status: attached, with what the node needs to know.
    MarkAttached {
        metadata: BTreeMap<String, String>,
        reason: Reason,
    },
    /// status.attachError
    NoteAttachError {
        code: Option<i32>,
        reason: Reason,
    },
    Unpublish {
        request: Box<ControllerUnpublishVolumeRequest>,
        secret: Option<SecretKey>,
        reason: Reason,
    },
    /// Take our finalizer off the attachment, and mark it as detached if it stays.
    MarkDetached(Reason),
    /// status.detachError
    NoteDetachError(Reason),
}

impl Action {
    pub(crate) fn reason(&self) -> &Reason {
        match self {
            Self::Rest(reason)
            | Self::Retry(reason)
            | Self::HoldVolume(reason)
            | Self::RecordIntent { reason, .. }
            | Self::Publish { reason, .. }
            | Self::MarkAttached { reason, .. }
            | Self::NoteAttachError { reason, .. }
            | Self::Unpublish { reason, .. }
            | Self::MarkDetached(reason)
            | Self::NoteDetachError(reason) => reason,
        }
    }
}

/// Our finalizer for a driver, by upstream's rule: every character outside
/// `[a-zA-Z0-9-]` becomes `-`, and a name may not end with one.
pub(crate) fn finalizer(driver: &str) -> String {
    let mut name: String =
        driver.chars().map(|c| if c.is_ascii_alphanumeric() || c == '-' { c } else { '-' }).collect();
    if name.ends_with('-') {
        name.push('X');
    }
    format!("external-attacher/{name}")
}

/// The handle of a volume of this driver.
pub(crate) fn handle_of<'a>(volume: &'a PersistentVolume, driver: &str) -> Option<&'a str> {
    let csi = volume.spec.as_ref()?.csi.as_ref()?;
    (csi.driver == driver).then_some(csi.volume_handle.as_str())
}

/// Whether our finalizer may go off a volume object.
pub(crate) fn may_let_go(volume: &PersistentVolume, driver: &str, attached: bool) -> bool {
    volume.metadata.deletion_timestamp.is_some() && holds(volume, driver) && !attached
}

fn holds<K: ResourceExt>(object: &K, driver: &str) -> bool {
    object.finalizers().contains(&finalizer(driver))
}

/// See the module's documentation.
pub(crate) fn decide(view: &View) -> Action {
    let Some(attachment) = &view.attachment else { return Action::Rest(Reason::Gone) };
    if attachment.spec.attacher != view.facts.name {
        return Action::Rest(Reason::NotOurs);
    }
    if let Progress::Noted(reason) = &view.progress {
        return Action::Retry(Reason::Noted(Box::new(reason.clone())));
    }
    if attachment.metadata.deletion_timestamp.is_some() {
        detach(view, attachment)
    } else {
        attach(view, attachment)
    }
}

fn attach(view: &View, attachment: &VolumeAttachment) -> Action {
    if attachment.status.as_ref().is_some_and(|status| status.attached) {
        return Action::Rest(Reason::Attached);
    }
    if !view.facts.publish {
        return Action::MarkAttached { metadata: BTreeMap::new(), reason: Reason::NoAttachNeeded };
    }
    match &view.progress {
        Progress::Published(metadata) => {
            return Action::MarkAttached { metadata: metadata.clone(), reason: Reason::AttachedNow };
        }
        Progress::PublishFailed(error) => {
            let code = Some(error.code as i32);
            return Action::NoteAttachError { code, reason: Reason::AttachFailed(error.clone()) };
        }
        Progress::NoSecret(what) => {
            return Action::NoteAttachError { code: None, reason: Reason::NoSecret(what.clone()) };
        }
        _ => {}
    }
    let fail = |reason| Action::NoteAttachError { code: None, reason };
    let spec = match source(view, attachment) {
        Ok(spec) => spec,
        Err(reason) => return fail(reason),
    };
    if let Some(volume) = &view.volume
        && volume.metadata.deletion_timestamp.is_some()
    {
        return fail(Reason::VolumeDeleting { volume: volume.name_any() });
    }
    let Some(node_id) = &view.node_id else {
        return fail(Reason::NodeUnknown { node: attachment.spec.node_name.clone() });
    };
    let capability = match csi::for_volume(&spec, &view.default_fs_type, view.facts.single_node_multi_writer)
    {
        Ok(capability) => capability,
        Err(error) => return fail(Reason::BadModes(error)),
    };
    if view.volume.as_ref().is_some_and(|volume| !holds(&**volume, &view.facts.name)) {
        return Action::HoldVolume(Reason::Attaching);
    }
    if !holds(attachment, &view.facts.name) || attachment.annotations().get(NODE_ID) != Some(node_id) {
        return Action::RecordIntent { node_id: node_id.clone(), reason: Reason::Attaching };
    }
    let csi = spec.csi.unwrap_or_default();
    let request = ControllerPublishVolumeRequest {
        volume_id: csi.volume_handle,
        node_id: node_id.clone(),
        volume_capability: Some(capability),
        // "CO MUST set this field to false if SP does not have the PUBLISH_READONLY capability"
        // (CSI, ControllerPublishVolume)
        readonly: csi.read_only.unwrap_or_default() && view.facts.publish_readonly,
        volume_context: csi.volume_attributes.unwrap_or_default().into_iter().collect(),
        ..ControllerPublishVolumeRequest::default()
    };
    let secret = csi.controller_publish_secret_ref.as_ref().map(SecretKey::from);
    Action::Publish { request: Box::new(request), secret, reason: Reason::Attaching }
}

fn detach(view: &View, attachment: &VolumeAttachment) -> Action {
    if !holds(attachment, &view.facts.name) {
        return Action::Rest(Reason::Detached);
    }
    match &view.progress {
        Progress::Unpublished => return Action::MarkDetached(Reason::Detached),
        Progress::UnpublishFailed(error) => {
            return Action::NoteDetachError(Reason::DetachFailed(error.clone()));
        }
        _ => {}
    }
    if !view.facts.publish {
        return Action::MarkDetached(Reason::NoAttachNeeded);
    }
    let spec = match source(view, attachment) {
        Ok(spec) => spec,
        Err(reason) => return Action::NoteDetachError(reason),
    };
    // The id that it was attached under counts, also when the node has another one by now.
    let Some(node_id) = attachment.annotations().get(NODE_ID).or(view.node_id.as_ref()) else {
        return Action::NoteDetachError(Reason::NodeUnknown { node: attachment.spec.node_name.clone() });
    };
    let csi = spec.csi.unwrap_or_default();
    let request = ControllerUnpublishVolumeRequest {
        volume_id: csi.volume_handle,
        node_id: node_id.clone(),
        ..ControllerUnpublishVolumeRequest::default()
    };
    let secret = csi.controller_publish_secret_ref.as_ref().map(SecretKey::from);
    Action::Unpublish { request: Box::new(request), secret, reason: Reason::Detaching }
}

/// The volume that the attachment means: an object's, or one written into the attachment.
fn source(view: &View, attachment: &VolumeAttachment) -> Result<PersistentVolumeSpec, Reason> {
    let from = &attachment.spec.source;
    let spec = match (&from.persistent_volume_name, &from.inline_volume_spec) {
        (Some(name), None) => match &view.volume {
            Some(volume) => volume.spec.clone().unwrap_or_default(),
            None => return Err(Reason::NoVolume { volume: name.clone() }),
        },
        (None, Some(spec)) => spec.clone(),
        _ => return Err(Reason::BadSource),
    };
    match &spec.csi {
        Some(csi) if csi.driver == view.facts.name => Ok(spec),
        _ => Err(Reason::OtherDriver { volume: from.persistent_volume_name.clone().unwrap_or_default() }),
    }
}

#[cfg(test)]
#[path = "decide_tests.rs"]
mod tests;
