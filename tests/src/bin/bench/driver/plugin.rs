//! A `holdfast driver` in a process of its own, and the calls an orchestrator makes.

use std::{
    collections::HashMap,
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Stdio},
};

use anyhow::{Context, Result, ensure};
use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability, VolumeContentSource,
    controller_client::ControllerClient,
    node_client::NodeClient,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};
use holdfast_tests::{process::binary, wait::until};
use hyper_util::rt::TokioIo;
use tonic::transport::{Channel, Endpoint};

const NODE: &str = "bench";

/// A running driver. Dropping it ends the process; what is mounted stays.
pub(super) struct Plugin {
    process: Child,
    folder: PathBuf,
    controller: ControllerClient<Channel>,
    node: NodeClient<Channel>,
}

impl Plugin {
    /// Starts a driver whose pools are given by name, backend and path; `folder` is for its
    /// socket and for the paths at which volumes are used.
    pub(super) async fn start(folder: &Path, pools: &[(&str, &str, &Path)]) -> Result<Self> {
        let config = folder.join("pools.toml");
        let text: String = pools
            .iter()
            .map(|(name, backend, path)| {
                let path = path.display();
                format!(
                    "[[pool]]\nname = {name:?}\nbackend = {backend:?}\npath = \"{path}\"\ncreate = true\n"
                )
            })
            .collect();
        fs::write(&config, text)?;
        let socket = folder.join("csi.sock");
        let log = fs::File::create(folder.join("driver.log"))?;
        let process = Command::new(binary())
            .args(["driver", "--node-id", NODE, "--config"])
            .arg(&config)
            .arg("--endpoint")
            .arg(format!("unix://{}", socket.display()))
            .env_remove("RUST_LOG")
            .stdin(Stdio::null())
            .stdout(log.try_clone()?)
            .stderr(log)
            .spawn()
            .context("cannot start holdfast driver")?;
        until("the driver listens", || async { Ok(UnixStream::connect(&socket).is_ok().then_some(())) })
            .await?;
        let channel = Endpoint::from_static("http://csi.sock")
            .connect_with_connector(tower::service_fn(move |_| {
                let socket = socket.clone();
                async move {
                    Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(socket).await?))
                }
            }))
            .await?;
        Ok(Self {
            process,
            folder: folder.to_owned(),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
        })
    }

    pub(super) fn pid(&self) -> u32 {
        self.process.id()
    }

    /// CreateVolume; the volume's id.
    pub(super) async fn create(&self, pool: &str, name: &str, bytes: u64, fs: &str) -> Result<String> {
        self.create_from(pool, name, bytes, fs, None).await
    }

    /// CreateVolume with the content of a snapshot or a volume.
    pub(super) async fn create_from(
        &self,
        pool: &str,
        name: &str,
        bytes: u64,
        fs: &str,
        source: Option<csi::volume_content_source::Type>,
    ) -> Result<String> {
        let request = csi::CreateVolumeRequest {
            name: name.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: i64::try_from(bytes)?, limit_bytes: 0 }),
            volume_capabilities: vec![capability(fs)],
            parameters: HashMap::from([("pool".to_owned(), pool.to_owned())]),
            volume_content_source: source.map(|source| VolumeContentSource { r#type: Some(source) }),
            ..Default::default()
        };
        let answer = self.controller.clone().create_volume(request).await?.into_inner();
        Ok(answer.volume.context("an answer has a volume")?.volume_id)
    }

    pub(super) async fn delete(&self, id: &str) -> Result<()> {
        let request = csi::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        self.controller.clone().delete_volume(request).await?;
        Ok(())
    }

    /// CreateSnapshot; the snapshot's id.
    pub(super) async fn snapshot(&self, volume: &str, name: &str) -> Result<String> {
        let request = csi::CreateSnapshotRequest {
            source_volume_id: volume.to_owned(),
            name: name.to_owned(),
            ..Default::default()
        };
        let answer = self.controller.clone().create_snapshot(request).await?.into_inner();
        let snapshot = answer.snapshot.context("an answer has a snapshot")?;
        ensure!(snapshot.ready_to_use, "a snapshot is ready at once");
        Ok(snapshot.snapshot_id)
    }

    pub(super) async fn delete_snapshot(&self, id: &str) -> Result<()> {
        let request = csi::DeleteSnapshotRequest { snapshot_id: id.to_owned(), ..Default::default() };
        self.controller.clone().delete_snapshot(request).await?;
        Ok(())
    }

    /// ListVolumes, one page from the start; how many were in it.
    pub(super) async fn list(&self, entries: i32) -> Result<usize> {
        let request = csi::ListVolumesRequest { max_entries: entries, starting_token: String::new() };
        Ok(self.controller.clone().list_volumes(request).await?.into_inner().entries.len())
    }

    /// ControllerPublishVolume: what comes before staging.
    pub(super) async fn attach(&self, id: &str, fs: &str) -> Result<()> {
        let request = csi::ControllerPublishVolumeRequest {
            volume_id: id.to_owned(),
            node_id: NODE.to_owned(),
            volume_capability: Some(capability(fs)),
            ..Default::default()
        };
        self.controller.clone().controller_publish_volume(request).await?;
        Ok(())
    }

    pub(super) async fn detach(&self, id: &str) -> Result<()> {
        let request = csi::ControllerUnpublishVolumeRequest {
            volume_id: id.to_owned(),
            node_id: NODE.to_owned(),
            ..Default::default()
        };
        self.controller.clone().controller_unpublish_volume(request).await?;
        Ok(())
    }

    /// NodeStageVolume and NodePublishVolume; where the volume is then. The folders are there
    /// already, see [`Plugin::make_room`].
    pub(super) async fn bring_up(&self, id: &str, fs: &str) -> Result<PathBuf> {
        let target = self.target(id);
        let stage = csi::NodeStageVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id).display().to_string(),
            volume_capability: Some(capability(fs)),
            ..Default::default()
        };
        let publish = csi::NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: stage.staging_target_path.clone(),
            target_path: target.display().to_string(),
            volume_capability: stage.volume_capability.clone(),
            ..Default::default()
        };
        let mut node = self.node.clone();
        node.node_stage_volume(stage).await?;
        node.node_publish_volume(publish).await?;
        Ok(target)
    }

    pub(super) async fn take_down(&self, id: &str) -> Result<()> {
        let target_path = self.target(id).display().to_string();
        let staging_target_path = self.staging(id).display().to_string();
        let mut node = self.node.clone();
        let volume_id = id.to_owned();
        node.node_unpublish_volume(csi::NodeUnpublishVolumeRequest { volume_id, target_path }).await?;
        let volume_id = id.to_owned();
        node.node_unstage_volume(csi::NodeUnstageVolumeRequest { volume_id, staging_target_path }).await?;
        Ok(())
    }

    /// Makes the folders that an orchestrator makes before its calls.
    pub(super) fn make_room(&self, id: &str) -> Result<()> {
        fs::create_dir_all(self.staging(id))?;
        Ok(fs::create_dir_all(self.folder.join("targets"))?)
    }

    fn staging(&self, id: &str) -> PathBuf {
        self.folder.join("staging").join(id)
    }

    fn target(&self, id: &str) -> PathBuf {
        self.folder.join("targets").join(id)
    }
}

impl Drop for Plugin {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// A mounted file system, or a raw device for the name "raw".
fn capability(fs: &str) -> VolumeCapability {
    let access = match fs {
        "raw" => AccessType::Block(BlockVolume {}),
        fs => AccessType::Mount(MountVolume { fs_type: fs.to_owned(), ..Default::default() }),
    };
    VolumeCapability {
        access_type: Some(access),
        access_mode: Some(AccessMode { mode: Mode::SingleNodeWriter.into() }),
    }
}
