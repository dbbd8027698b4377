//! Where things lie below the kubelet folder. The paths are kubelet's, so that a driver that
//! checks its target paths, and a person who knows kubelet, find what they expect.

use std::{
    fs,
    path::{Path, PathBuf},
};

use sha2::{Digest, Sha256};

use crate::error::Error;

/// The name of a staging folder: kubelet hashes the handle, which may have any character.
pub(crate) fn handle_hash(handle: &str) -> String {
    format!("{:x}", Sha256::digest(handle))
}

const CSI_PLUGIN: &str = "kubernetes.io~csi";
/// The name of the journal, next to the folder that it stands for.
pub(crate) const JOURNAL: &str = "vol_data.json";

/// The paths below one kubelet folder. All are absolute and free of symbolic links, because they
/// are compared with the kernel's mount table.
#[derive(Debug, Clone)]
pub(crate) struct Layout {
    root: PathBuf,
}

impl Layout {
    /// Makes the folders that must be there from the start.
    pub(crate) fn prepare(root: &Path) -> Result<Self, Error> {
        fs::create_dir_all(root).map_err(Error::io("create the folder", root))?;
        let root = fs::canonicalize(root).map_err(Error::io("resolve", root))?;
        let layout = Self { root };
        for folder in [layout.registry(), layout.csi(), layout.pods()] {
            fs::create_dir_all(&folder).map_err(Error::io("create the folder", &folder))?;
        }
        Ok(layout)
    }

    #[cfg(test)]
    pub(crate) fn at(root: impl Into<PathBuf>) -> Self {
        Self { root: root.into() }
    }

    /// Where plugins put their registration sockets.
    pub(crate) fn registry(&self) -> PathBuf {
        self.root.join("plugins_registry")
    }

    /// What belongs to CSI volumes and not to one pod.
    pub(crate) fn csi(&self) -> PathBuf {
        self.root.join("plugins/kubernetes.io/csi")
    }

    pub(crate) fn pods(&self) -> PathBuf {
        self.root.join("pods")
    }

    pub(crate) fn pod(&self, uid: &str) -> PathBuf {
        self.pods().join(uid)
    }

    /// The folder of a filesystem volume's staging: journal and `globalmount` lie in it.
    pub(crate) fn device(&self, driver: &str, handle: &str) -> PathBuf {
        self.csi().join(driver).join(handle_hash(handle))
    }

    /// The staging path of a filesystem volume.
    pub(crate) fn global_mount(&self, driver: &str, handle: &str) -> PathBuf {
        self.device(driver, handle).join("globalmount")
    }

    pub(crate) fn device_journal(&self, driver: &str, handle: &str) -> PathBuf {
        self.device(driver, handle).join(JOURNAL)
    }

    /// What belongs to raw block volumes.
    pub(crate) fn block(&self) -> PathBuf {
        self.csi().join("volumeDevices")
    }

    pub(crate) fn block_staging(&self, volume: &str) -> PathBuf {
        self.block().join("staging").join(volume)
    }

    /// The target of a raw block volume for one pod; the driver makes the file.
    pub(crate) fn block_target(&self, volume: &str, pod: &str) -> PathBuf {
        self.block().join("publish").join(volume).join(pod)
    }

    /// The folder with the journals of a raw block volume.
    pub(crate) fn block_data(&self, volume: &str) -> PathBuf {
        self.block().join(volume).join("data")
    }

    pub(crate) fn block_device_journal(&self, volume: &str) -> PathBuf {
        self.block_data(volume).join(JOURNAL)
    }

    /// Kubelet keeps one journal per block volume; one per pod as well says who may hold it.
    pub(crate) fn block_publication_journal(&self, volume: &str, pod: &str) -> PathBuf {
        self.block_data(volume).join(format!("{pod}.json"))
    }

    /// The folder of one volume of one pod.
    pub(crate) fn pod_volume(&self, pod: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod(pod).join("volumes").join(plugin).join(name)
    }

    /// The target of a filesystem CSI volume; the driver makes and removes it.
    pub(crate) fn csi_target(&self, pod: &str, volume: &str) -> PathBuf {
        self.pod_volume(pod, CSI_PLUGIN, volume).join("mount")
    }

    pub(crate) fn csi_publication_journal(&self, pod: &str, volume: &str) -> PathBuf {
        self.pod_volume(pod, CSI_PLUGIN, volume).join(JOURNAL)
    }

    /// The link to a raw block device of one pod.
    pub(crate) fn pod_device(&self, pod: &str, plugin: &str, name: &str) -> PathBuf {
        self.pod(pod).join("volumeDevices").join(plugin).join(name)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_kubelets() {
        let layout = Layout::at("/k");
        // printf %s h1 | sha256sum
        let hash = "33112ee14ee469c3eb52fe90322ec81dd404a0093d565a6d71ce77cbc8124e3b";
        assert_eq!(
            layout.global_mount("d.example", "h1"),
            Path::new("/k/plugins/kubernetes.io/csi/d.example").join(hash).join("globalmount")
        );
        assert_eq!(
            layout.csi_target("u1", "pv1"),
            Path::new("/k/pods/u1/volumes/kubernetes.io~csi/pv1/mount")
        );
        assert_eq!(
            layout.block_target("pv1", "u1"),
            Path::new("/k/plugins/kubernetes.io/csi/volumeDevices/publish/pv1/u1")
        );
    }
}
