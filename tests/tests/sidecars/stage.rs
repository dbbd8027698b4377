//! An API server, a driver and the objects that a node agent would make, and nothing that works on them.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result};
use holdfast_api::{
    names,
    snapshot::volume::{VolumeSnapshot, VolumeSnapshotClass, VolumeSnapshotContent},
};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{
    driver::Driver,
    objects::{self, NAMESPACE, Objects, bound_volume},
    server::Server,
    sidecar,
    wait::until,
};
use k8s_openapi::api::{
    coordination::v1::Lease,
    core::v1::Node,
    storage::v1::{CSIDriver, CSINode},
};
use kube::{
    Api, Client,
    api::{ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};

/// The one node.
pub(crate) const NODE: &str = "here";

pub(crate) struct Stage {
    pub(crate) server: Server,
    pub(crate) driver: Driver,
    pub(crate) client: Client,
    pub(crate) objects: Objects,
    pub(crate) path: PathBuf,
    pool: PathBuf,
    _folder: tempfile::TempDir,
}

/// Whether this machine cannot run a driver.
pub(crate) fn cannot_run() -> bool {
    missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4"), Need::Program("mkfs.ext4")])
}

impl Stage {
    pub(crate) async fn new() -> Result<Self> {
        Self::with(&[]).await
    }

    /// `more` are flags of the server.
    pub(crate) async fn with(more: &[&str]) -> Result<Self> {
        Self::on(None, more).await
    }

    /// The same with the pool in a folder of its own.
    pub(crate) async fn on(pool: Option<&Path>, more: &[&str]) -> Result<Self> {
        let (folder, path) = sidecar::folder()?;
        let mut server = Server::on_file()?;
        let mut flags = vec!["--listen", "127.0.0.1:0"];
        flags.extend(more);
        server.spawn_with(&flags)?;
        let pool = pool.map_or_else(|| path.join("pool"), Path::to_owned);
        let config =
            format!("[[pool]]\nname = \"default\"\nbackend = \"image\"\npath = {pool:?}\ncreate = true\n");
        let driver = Driver::start(&path, &config)?;
        server.ready().await?;
        let client = server.client().await?;
        let objects = Objects::new(&client);
        let stage = Self { server, driver, client, objects, path, pool, _folder: folder };
        stage.furnish().await?;
        Ok(stage)
    }

    /// What the manifests of a driver and a node's agent bring.
    async fn furnish(&self) -> Result<()> {
        let driver = json!({"metadata": {"name": names::DRIVER}, "spec": {"attachRequired": true}});
        objects::create(&Api::<CSIDriver>::all(self.client.clone()), driver).await?;
        let labels = json!({names::TOPOLOGY_NODE: NODE});
        let node = json!({"metadata": {"name": NODE, "labels": labels}});
        let nodes = Api::<Node>::all(self.client.clone());
        objects::create(&nodes, node).await?;
        // The word of its agent that nothing is mounted.
        let unused = json!({"status": {"volumesInUse": []}});
        nodes.patch_status(NODE, &PatchParams::default(), &Patch::Merge(unused)).await?;
        let registered =
            json!({"name": names::DRIVER, "nodeID": NODE, "topologyKeys": [names::TOPOLOGY_NODE]});
        let csi_node = json!({"metadata": {"name": NODE}, "spec": {"drivers": [registered]}});
        objects::create(&Api::<CSINode>::all(self.client.clone()), csi_node).await?;
        objects::create(&self.objects.classes, objects::class("local")).await?;
        let class =
            json!({"metadata": {"name": "snapshots"}, "driver": names::DRIVER, "deletionPolicy": "Delete"});
        objects::create(&Api::<VolumeSnapshotClass>::all(self.client.clone()), class).await
    }

    /// The flags of a sidecar of this driver and this server.
    pub(crate) fn flags<'a>(&'a self, more: &[&'a str]) -> Vec<String> {
        let kubeconfig = self.server.root().join("kubeconfig");
        self.flags_as(&kubeconfig, more)
    }

    pub(crate) fn flags_as(&self, kubeconfig: &Path, more: &[&str]) -> Vec<String> {
        let address = format!("--csi-address=unix://{}", self.driver.socket().display());
        let kubeconfig = format!("--kubeconfig={}", kubeconfig.display());
        more.iter().map(|&word| word.to_owned()).chain([address, kubeconfig]).collect()
    }

    pub(crate) fn snapshots(&self) -> Api<VolumeSnapshot> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) fn contents(&self) -> Api<VolumeSnapshotContent> {
        Api::all(self.client.clone())
    }

    pub(crate) fn leases(&self) -> Api<Lease> {
        Api::namespaced(self.client.clone(), NAMESPACE)
    }

    pub(crate) async fn claim(&self, name: &str) -> Result<()> {
        objects::create(&self.objects.claims, objects::claim(name, "local", "16Mi")).await
    }

    /// Waits until the claim has a volume, and gives its name.
    pub(crate) async fn bound(&self, name: &str) -> Result<String> {
        until(&format!("the claim {name} is bound"), || async {
            Ok(bound_volume(&self.objects.claims.get(name).await?))
        })
        .await
    }

    /// Deletes the claim and waits until object and volume are gone.
    pub(crate) async fn without(&self, name: &str, volume: &str) -> Result<()> {
        objects::delete(&self.objects.claims, name).await?;
        until(&format!("the volume of {name} is gone"), || async {
            Ok(self.objects.volumes.get_opt(volume).await?.is_none().then_some(()))
        })
        .await
    }

    /// A pod on the node that uses the claim.
    pub(crate) fn pod(name: &str, claim: &str) -> Value {
        let mut pod = objects::pod(name, claim);
        pod["spec"]["nodeName"] = json!(NODE);
        pod
    }

    /// What the driver has: the folders of volumes and snapshots.
    pub(crate) fn in_pool(&self) -> Result<Vec<String>> {
        let mut found = Vec::new();
        for kind in ["volumes", "snapshots"] {
            let folder = self.pool.join(kind);
            for entry in std::fs::read_dir(&folder).into_iter().flatten() {
                found.push(format!("{kind}/{}", entry?.file_name().to_string_lossy()));
            }
        }
        Ok(found)
    }

    /// Waits until no object and nothing in the pool is left.
    pub(crate) async fn is_empty(&self) -> Result<()> {
        until("nothing is left", || async {
            let mut left = self.objects.left().await?;
            let all = ListParams::default();
            left.extend(self.snapshots().list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
            left.extend(self.contents().list(&all).await?.items.into_iter().filter_map(|o| o.metadata.name));
            left.extend(self.in_pool()?);
            anyhow::ensure!(left.is_empty(), "still there: {left:?}");
            Ok(Some(()))
        })
        .await
        .context(self.driver.log())
    }
}
