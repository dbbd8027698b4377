//! The effects: the only place of the volume loop that changes anything outside.

use std::{path::PathBuf, sync::Arc};

use k8s_openapi::api::core::v1::ObjectReference;
use kube::Client;

use super::{
    action::Action,
    api::{self, Confirmed},
    csi_ops, local,
    view::{Device, Growth, PodKey, Publication, PublicationId, State, VolumeId},
};
use crate::{csi::Driver, error::Error, events::Recorder, layout::Layout, plugins::Drivers};

/// What effects need.
pub(crate) struct Io {
    pub(crate) client: Client,
    pub(crate) node: String,
    pub(crate) layout: Arc<Layout>,
    pub(crate) drivers: Drivers,
    pub(crate) recorder: Recorder,
    pub(crate) boot_id: String,
    /// What tells this machine from others that may have had the node's name.
    pub(crate) machine_id: String,
}

/// What an effect made known, also when it failed half way.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Change {
    Device(VolumeId, Option<Device>),
    Publication(PublicationId, Option<Publication>),
    InUse(Confirmed),
    Reported(String, super::view::Report),
    Deleted(String),
    Grown(Growth),
}

impl Io {
    pub(crate) fn driver(&self, name: &str) -> Result<Driver, Error> {
        self.drivers.get(name).ok_or_else(|| Error::NoDriver(name.to_owned()))
    }

    /// Runs file and mount work where it may block. It cannot be cancelled: when the caller goes
    /// away, it runs to its end, and the volume's lane stays taken until then.
    pub(crate) async fn blocking<T: Send + 'static>(
        &self,
        work: impl FnOnce(&Layout, &str) -> Result<T, Error> + Send + 'static,
    ) -> Result<T, Error> {
        let (layout, boot_id) = (Arc::clone(&self.layout), self.boot_id.clone());
        tokio::task::spawn_blocking(move || work(&layout, &boot_id))
            .await
            .unwrap_or_else(|e| Err(Error::Task(e.to_string())))
    }

    /// Tells a person, at the pod.
    pub(crate) async fn tell(&self, pod: &PodKey, warning: bool, reason: &str, message: &str) {
        self.recorder.record(reference(pod), warning, reason, message).await;
    }

    /// Tells of folders that were not empty and so were left.
    pub(crate) async fn tell_left(&self, pod: Option<&PodKey>, left: &[PathBuf]) {
        for path in left {
            let message = format!("{} is not empty and was left; look into it and remove it", path.display());
            tracing::warn!("{message}");
            if let Some(pod) = pod {
                self.tell(pod, true, "LeftoverFolder", &message).await;
            }
        }
    }
}

fn reference(pod: &PodKey) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("Pod".to_owned()),
        namespace: Some(pod.namespace.clone()),
        name: Some(pod.name.clone()),
        uid: Some(pod.uid.clone()),
        ..ObjectReference::default()
    }
}

/// Does one action. `changes` gets what became known, in order, also when an error follows.
pub(crate) async fn apply(io: &Io, action: &Action, changes: &mut Vec<Change>) -> Result<(), Error> {
    match action {
        Action::SetInUse { volumes } => {
            changes.push(Change::InUse(api::set_in_use(io, volumes).await?));
            Ok(())
        }
        Action::Stage { volume, pod } => csi_ops::stage(io, volume, pod, changes).await,
        Action::Publish { volume, pod } => csi_ops::publish(io, volume, pod, changes).await,
        Action::Unpublish { id, publication, volume } => {
            csi_ops::unpublish(io, id, publication, volume, changes).await
        }
        Action::Unstage { id, device } => csi_ops::unstage(io, id, device, changes).await,
        Action::Expand { volume, growth, pod } => {
            csi_ops::expand(io, volume, growth, pod).await?;
            api::finish_growth(io, growth).await?;
            changes.push(Change::Grown(growth.clone()));
            let message = format!("volume {} was grown to {} on this node", volume.pv, growth.quantity);
            io.tell(pod, false, "FileSystemResizeSuccessful", &message).await;
            io.recorder.record(claim_reference(growth), false, "FileSystemResizeSuccessful", &message).await;
            Ok(())
        }
        Action::Mount { volume, pod } => {
            let id = PublicationId { pod: pod.uid.clone(), plugin: volume.plugin, name: volume.name.clone() };
            let mut publication = Publication {
                volume: None,
                block: volume.block,
                state: State::Uncertain,
                owner: pod.clone(),
            };
            changes.push(Change::Publication(id.clone(), Some(publication.clone())));
            let (wanted, uid) = (volume.clone(), pod.uid.clone());
            io.blocking(move |layout, _| local::mount_local(layout, &wanted, &uid)).await?;
            publication.state = State::Done;
            changes.push(Change::Publication(id, Some(publication)));
            io.tell(pod, false, "SuccessfulMountVolume", &format!("volume {:?} is mounted", volume.name))
                .await;
            Ok(())
        }
        Action::Unmount { id, publication } => {
            let uncertain = Publication { state: State::Uncertain, ..publication.clone() };
            changes.push(Change::Publication(id.clone(), Some(uncertain)));
            let (gone, block) = (id.clone(), publication.block);
            let left = io.blocking(move |layout, _| local::unmount(layout, &gone, block)).await?;
            changes.push(Change::Publication(id.clone(), None));
            io.tell_left(action.pod(), &left).await;
            Ok(())
        }
        Action::ReportPod { pod, report, attention } => {
            api::report_pod(io, pod, report).await?;
            changes.push(Change::Reported(pod.uid.clone(), report.clone()));
            if *attention {
                io.tell(pod, true, "FailedMount", &report.message).await;
            }
            Ok(())
        }
        Action::DeletePod { pod } => {
            api::delete_pod(io, pod).await?;
            changes.push(Change::Deleted(pod.uid.clone()));
            Ok(())
        }
    }
}

fn claim_reference(growth: &Growth) -> ObjectReference {
    ObjectReference {
        api_version: Some("v1".to_owned()),
        kind: Some("PersistentVolumeClaim".to_owned()),
        namespace: Some(growth.namespace.clone()),
        name: Some(growth.claim.clone()),
        uid: Some(growth.claim_uid.clone()),
        ..ObjectReference::default()
    }
}
