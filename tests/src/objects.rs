//! The objects of the main job, and questions about them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSINode, StorageClass, VolumeAttachment},
};
use kube::{
    Api, Client,
    api::{DeleteParams, ListParams, Patch, PatchParams, PostParams},
};
use serde::de::DeserializeOwned;
use serde_json::{Value, json};

/// The namespace that the tests use.
pub const NAMESPACE: &str = "default";

/// Whether a node has registered the driver.
///
/// # Errors
/// When the API cannot be asked.
pub async fn driver_is_registered(client: &Client) -> Result<bool> {
    let nodes = Api::<CSINode>::all(client.clone()).list(&ListParams::default()).await?;
    Ok(nodes.items.iter().flat_map(|node| &node.spec.drivers).any(|d| d.name == holdfast_api::names::DRIVER))
}

/// Typed APIs of one machine.
pub struct Objects {
    /// Claims of [`NAMESPACE`].
    pub claims: Api<PersistentVolumeClaim>,
    /// Pods of [`NAMESPACE`].
    pub pods: Api<Pod>,
    /// Volumes.
    pub volumes: Api<PersistentVolume>,
    /// Attachments.
    pub attachments: Api<VolumeAttachment>,
    /// Classes.
    pub classes: Api<StorageClass>,
}

impl Objects {
    /// The APIs behind a client.
    #[must_use]
    pub fn new(client: &Client) -> Self {
        Self {
            claims: Api::namespaced(client.clone(), NAMESPACE),
            pods: Api::namespaced(client.clone(), NAMESPACE),
            volumes: Api::all(client.clone()),
            attachments: Api::all(client.clone()),
            classes: Api::all(client.clone()),
        }
    }

    /// Every name of pods, claims, volumes and attachments that is still there.
    ///
    /// # Errors
    /// When the API cannot be asked.
    pub async fn left(&self) -> Result<Vec<String>> {
        let all = ListParams::default();
        let mut names = Vec::new();
        names.extend(self.pods.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
        names.extend(self.claims.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
        names.extend(self.volumes.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
        names.extend(self.attachments.list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
        Ok(names)
    }
}

/// Creates an object; one that is there already is as good (a test repeats a
/// create whose answer was lost in a kill).
///
/// # Errors
/// Any other refusal.
pub async fn create<K>(api: &Api<K>, object: Value) -> Result<()>
where
    K: Clone + DeserializeOwned + serde::Serialize + std::fmt::Debug,
{
    let object: K = serde_json::from_value(object)?;
    match api.create(&PostParams::default(), &object).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 409 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// Deletes an object; one that is gone already is as good.
///
/// # Errors
/// Any other refusal.
pub async fn delete<K>(api: &Api<K>, name: &str) -> Result<()>
where
    K: Clone + DeserializeOwned + std::fmt::Debug,
{
    match api.delete(name, &DeleteParams::default()).await {
        Ok(_) => Ok(()),
        Err(kube::Error::Api(status)) if status.code == 404 => Ok(()),
        Err(error) => Err(error.into()),
    }
}

/// A class of the local driver.
#[must_use]
pub fn class(name: &str) -> Value {
    json!({"metadata": {"name": name}, "provisioner": holdfast_api::names::DRIVER, "allowVolumeExpansion": true})
}

/// A class whose volumes grow while mounted for any root: ext4 needs CAP_SYS_RESOURCE.
#[must_use]
pub fn growing_class(name: &str) -> Value {
    let mut class = class(name);
    class["parameters"] = json!({"csi.storage.k8s.io/fstype": "xfs"});
    class
}

/// A claim of that class.
#[must_use]
pub fn claim(name: &str, class: &str, size: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "storageClassName": class,
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": size}},
        },
    })
}

/// A pod that uses the claim.
#[must_use]
pub fn pod(name: &str, claim: &str) -> Value {
    json!({
        "metadata": {"name": name, "namespace": NAMESPACE},
        "spec": {
            "containers": [{"name": "app", "image": "busybox", "volumeMounts": [{"name": "data", "mountPath": "/data"}]}],
            "volumes": [{"name": "data", "persistentVolumeClaim": {"claimName": claim}}],
        },
    })
}

/// Asks for a claim of another size.
///
/// # Errors
/// When the API refuses.
pub async fn resize(claims: &Api<PersistentVolumeClaim>, name: &str, size: &str) -> Result<()> {
    let patch = json!({"spec": {"resources": {"requests": {"storage": size}}}});
    claims.patch(name, &PatchParams::default(), &Patch::Merge(patch)).await?;
    Ok(())
}

/// Whether a claim is bound; then the name of its volume.
#[must_use]
pub fn bound_volume(claim: &PersistentVolumeClaim) -> Option<String> {
    let phase = claim.status.as_ref()?.phase.as_deref()?;
    (phase == "Bound").then(|| claim.spec.as_ref()?.volume_name.clone())?
}

/// Whether a pod's volumes are all published.
#[must_use]
pub fn is_published(pod: &Pod) -> bool {
    pod.status.as_ref().and_then(|s| s.reason.as_deref()) == Some("VolumesPublished")
}

/// Where a pod's CSI volume is mounted.
///
/// # Errors
/// When the pod has no UID.
pub fn volume_path(root: &Path, pod: &Pod, volume: &str) -> Result<PathBuf> {
    let uid = pod.metadata.uid.as_deref().context("a pod has a UID")?;
    Ok(root.join("kubelet/pods").join(uid).join("volumes/kubernetes.io~csi").join(volume).join("mount"))
}
