//! Creates and deletes attachments, and keeps the nodes' status.

use holdfast_api::attachment::{BOOT_ID, MACHINE_ID};
use jiff::Timestamp;
use serde_json::json;

use super::{
    decide::{Action, attachment_key},
    reason::Reason,
};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        nodelifecycle::ForcedLabel,
        recorder::{News, Severity},
        view::node_key,
    },
    lifecycle,
    store::{Key, Precondition},
};

const COMPONENT: &str = "attachdetach-controller";

/// Does all actions of one node. What was not done because something changed is
/// decided anew.
pub(crate) async fn apply(io: &Io, actions: Vec<Action>) -> Outcome {
    let mut writes = Vec::new();
    let mut news = Vec::new();
    let mut forced = Vec::new();
    for action in actions {
        match action {
            Action::Tell { about, reason } => news.push((about, Severity::Warning, reason)),
            Action::Attach { name, driver, volume, node, machine, reason } => {
                tracing::info!(attachment = name, "{reason}");
                let mut body = json!({
                    "apiVersion": "storage.k8s.io/v1",
                    "kind": "VolumeAttachment",
                    "metadata": {},
                    "spec": {"attacher": driver, "nodeName": node, "source": {"persistentVolumeName": volume}},
                    "status": {"attached": false},
                });
                if let Some((boot, id)) = machine {
                    body["metadata"]["annotations"] = json!({BOOT_ID: boot, MACHINE_ID: id});
                }
                writes.push(Some(lifecycle::create(attachment_key(&name), body, Timestamp::now())));
            }
            Action::Detach { attachment, reason } => {
                tracing::info!(attachment = %attachment.key, "{reason}");
                if let Reason::OutOfService { node, .. } = &reason {
                    forced.push((node_key(node), reason));
                }
                let current =
                    io.store.get(&attachment.key).filter(|object| object.revision == attachment.revision);
                let body = current.and_then(|object| object.decode().ok());
                writes.push(body.map(|body| {
                    let at = Precondition::Revision(attachment.revision);
                    lifecycle::delete(attachment.key, at, body, 0, Timestamp::now())
                }));
            }
            Action::Report { node, attached, news: fresh, reason } => {
                tracing::debug!(node = %node.key, "{reason}");
                writes.push(io.edit(&node, |body| {
                    let list: Vec<_> =
                        attached.iter().map(|name| json!({"name": name, "devicePath": ""})).collect();
                    body["status"]["volumesAttached"] = json!(list);
                }));
                news.extend(fresh.into_iter().map(|(pod, reason)| (pod, Severity::Normal, reason)));
            }
        }
    }
    let outcome = if writes.is_empty() { Outcome::Settled } else { io.commit(writes).await };
    if outcome != Outcome::Again {
        for (node, reason) in forced {
            let label = ForcedLabel { reason: "out-of-service" };
            io.metrics.nodes.forced_detaches.get_or_create(&label).inc();
            news.push((node, Severity::Warning, reason));
        }
        news.into_iter().for_each(|(pod, severity, reason)| tell(io, pod, severity, &reason));
    }
    outcome
}

fn tell(io: &Io, about: Key, severity: Severity, reason: &Reason) {
    let message = reason.to_string();
    io.recorder.tell(News { about, component: COMPONENT, severity, reason: reason.name(), message });
}
