//! Which nodes a volume is tied to, so that deleting a volume need not read every attachment.

use std::collections::{BTreeMap, HashMap};

use k8s_openapi::api::storage::v1::VolumeAttachment;
use kube::ResourceExt;
use parking_lot::RwLock;

use super::Change;

/// Volume name → (attachment name → node name).
#[derive(Default)]
pub(super) struct AttachmentIndex(RwLock<HashMap<String, BTreeMap<String, String>>>);

impl AttachmentIndex {
    pub(super) fn apply(&self, change: &Change<VolumeAttachment>) {
        let attachment = change.object();
        // Which volume an attachment is for never changes (its spec is immutable).
        let Some(volume) = attachment.spec.source.persistent_volume_name.clone() else { return };
        let mut index = self.0.write();
        match change {
            Change::Set { .. } => {
                index
                    .entry(volume)
                    .or_default()
                    .insert(attachment.name_any(), attachment.spec.node_name.clone());
            }
            Change::Gone(_) => {
                if let Some(found) = index.get_mut(&volume) {
                    found.remove(&attachment.name_any());
                    if found.is_empty() {
                        index.remove(&volume);
                    }
                }
            }
        }
    }

    pub(super) fn nodes(&self, volume: &str) -> Vec<String> {
        self.0.read().get(volume).map(|found| found.values().cloned().collect()).unwrap_or_default()
    }
}
