//! What a decision can ask for. One action is one effect, idempotent.

use super::{
    reason::Reason,
    view::{
        CsiVolume, Device, Growth, Lane, LocalVolume, OperationKey, PodKey, Publication, PublicationId,
        Report, VolumeId,
    },
};

/// One effect.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Write the node's whole `volumesInUse`, sorted.
    SetInUse {
        volumes: Vec<String>,
    },
    Stage {
        volume: Box<CsiVolume>,
        pod: PodKey,
    },
    Publish {
        volume: Box<CsiVolume>,
        pod: PodKey,
    },
    Expand {
        volume: Box<CsiVolume>,
        growth: Growth,
        pod: PodKey,
    },
    Unpublish {
        id: PublicationId,
        publication: Publication,
        volume: VolumeId,
    },
    Unstage {
        id: VolumeId,
        device: Device,
    },
    Mount {
        volume: LocalVolume,
        pod: PodKey,
    },
    Unmount {
        id: PublicationId,
        publication: Publication,
    },
    ReportPod {
        pod: PodKey,
        report: Report,
        attention: bool,
    },
    DeletePod {
        pod: PodKey,
    },
}

impl Action {
    /// What must not run beside it.
    pub(crate) fn lane(&self) -> Lane {
        match self {
            Self::SetInUse { .. } => Lane::Node,
            Self::Stage { volume, .. } | Self::Publish { volume, .. } | Self::Expand { volume, .. } => {
                Lane::Volume(volume.id.clone())
            }
            Self::Unpublish { volume, .. } => Lane::Volume(volume.clone()),
            Self::Unstage { id, .. } => Lane::Volume(id.clone()),
            Self::Mount { volume, pod } => Lane::Local(PublicationId {
                pod: pod.uid.clone(),
                plugin: volume.plugin,
                name: volume.name.clone(),
            }),
            Self::Unmount { id, .. } => Lane::Local(id.clone()),
            Self::ReportPod { pod, .. } | Self::DeletePod { pod } => Lane::Pod(pod.uid.clone()),
        }
    }

    /// Kubelet's name of the operation, for metrics and messages.
    pub(crate) fn operation(&self) -> &'static str {
        match self {
            Self::SetInUse { .. } => "set_volumes_in_use",
            Self::Stage { .. } => "volume_mount_device",
            Self::Publish { volume, .. } if volume.shape.block => "map_volume",
            Self::Publish { .. } | Self::Mount { .. } => "volume_mount",
            Self::Expand { .. } => "volume_fs_resize",
            Self::Unpublish { publication, .. } if publication.block => "unmap_volume",
            Self::Unpublish { .. } | Self::Unmount { .. } => "volume_unmount",
            Self::Unstage { .. } => "unmount_device",
            Self::ReportPod { .. } => "report_pod",
            Self::DeletePod { .. } => "delete_pod",
        }
    }

    /// The plugin as kubelet's metrics name it.
    pub(crate) fn plugin(&self) -> Option<String> {
        let csi = |driver: &str| Some(format!("kubernetes.io/csi:{driver}"));
        match self {
            Self::Stage { volume, .. } | Self::Publish { volume, .. } | Self::Expand { volume, .. } => {
                csi(&volume.id.driver)
            }
            Self::Unpublish { volume, .. } => csi(&volume.driver),
            Self::Unstage { id, .. } => csi(&id.driver),
            Self::Mount { volume, .. } => Some(volume.plugin.folder().replace('~', "/")),
            Self::Unmount { id, .. } => Some(id.plugin.folder().replace('~', "/")),
            Self::SetInUse { .. } | Self::ReportPod { .. } | Self::DeletePod { .. } => None,
        }
    }

    /// Names the operation across attempts.
    pub(crate) fn key(&self) -> OperationKey {
        let pod = match self {
            Self::Publish { pod, .. } | Self::Mount { pod, .. } => pod.uid.clone(),
            Self::Unpublish { id, .. } | Self::Unmount { id, .. } => id.pod.clone(),
            _ => String::new(),
        };
        (self.lane(), pod, self.operation())
    }

    /// The pod that an event is for.
    pub(crate) fn pod(&self) -> Option<&PodKey> {
        match self {
            Self::Stage { pod, .. }
            | Self::Publish { pod, .. }
            | Self::Expand { pod, .. }
            | Self::Mount { pod, .. }
            | Self::ReportPod { pod, .. }
            | Self::DeletePod { pod } => Some(pod),
            Self::Unpublish { publication, .. } | Self::Unmount { publication, .. } => {
                Some(&publication.owner).filter(|o| !o.name.is_empty())
            }
            Self::SetInUse { .. } | Self::Unstage { .. } => None,
        }
    }
}

/// An action and why.
#[derive(Debug, Clone, PartialEq)]
pub(crate) struct Planned {
    pub(crate) action: Action,
    pub(crate) reason: Reason,
}

impl Action {
    /// The action without what does not matter to whether trying again can help: a driver that
    /// refuses to stage for one pod refuses for the next one too.
    pub(crate) fn attempt(&self) -> Self {
        let mut same = self.clone();
        match &mut same {
            Self::Stage { volume, pod } => {
                *pod = PodKey::default();
                volume.read_only = false;
                volume.growth = None;
            }
            Self::Publish { volume, .. } => volume.growth = None,
            Self::Expand { volume, pod, .. } => {
                *pod = PodKey::default();
                volume.read_only = false;
            }
            _ => {}
        }
        same
    }
}
