//! A driver in this process, a client on its socket, and a scratch folder that is
//! cleaned up however the test ends.

use std::{
    collections::HashMap,
    fs,
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_csi_driver::{Config, Error, PoolConfig, run};
use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability,
    controller_client::ControllerClient,
    identity_client::IdentityClient,
    node_client::NodeClient,
    volume_capability::{AccessMode, AccessType, BlockVolume, MountVolume, access_mode::Mode},
};
use hyper_util::rt::TokioIo;
use tokio::{net::UnixStream, task::JoinHandle};
use tokio_util::sync::CancellationToken;
use tonic::{
    Code, Response, Status,
    transport::{Channel, Endpoint},
};

pub(crate) const MIB: i64 = 1 << 20;
pub(crate) const NODE: &str = "node-1";

/// Ends the test, by name, where the machine lacks what it needs: root, loop devices,
/// ext4, and the file systems named besides.
macro_rules! needs {
    ($($fs:literal),*) => {{
        use holdfast_test_needs::{Need, missing};
        if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4"), $(Need::FileSystem($fs)),*]) {
            return;
        }
    }};
}
pub(crate) use needs;

/// A scratch folder. When it goes, so does everything that was mounted or attached
/// below it.
pub(crate) struct Scratch(tempfile::TempDir);

impl Scratch {
    pub(crate) fn new() -> Self {
        Self(tempfile::Builder::new().prefix("holdfast-csi-").tempdir_in("/tmp").unwrap())
    }

    pub(crate) fn path(&self) -> &Path {
        self.0.path()
    }

    /// The mount points below, deepest last.
    pub(crate) fn mounts(&self) -> Vec<PathBuf> {
        let text = fs::read_to_string("/proc/self/mountinfo").unwrap();
        text.lines()
            .filter_map(|line| line.split(' ').nth(4).map(unescaped))
            .filter(|point| point.starts_with(self.path()))
            .collect()
    }

    /// The loop devices whose files lie below.
    pub(crate) fn loops(&self) -> Vec<String> {
        let mut found = Vec::new();
        for entry in fs::read_dir("/sys/block").unwrap() {
            let path = entry.unwrap().path();
            if let Ok(backing) = fs::read_to_string(path.join("loop/backing_file"))
                && Path::new(backing.trim()).starts_with(self.path())
            {
                found.push(path.file_name().unwrap().to_string_lossy().into_owned());
            }
        }
        found
    }
}

impl Scratch {
    pub(crate) fn unmount(&self, point: &Path) {
        assert!(point.starts_with(self.path()));
        rustix::mount::unmount(point, rustix::mount::UnmountFlags::NOFOLLOW).unwrap();
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        for point in self.mounts().iter().rev() {
            // A driver that was not ended has the pool open for a moment more: the mount goes now
            // and the file system with its loop device when the driver has let go.
            let flags = rustix::mount::UnmountFlags::NOFOLLOW | rustix::mount::UnmountFlags::DETACH;
            let _ = rustix::mount::unmount(point, flags);
        }
        for name in self.loops() {
            let _ = command("losetup", &["-d", &format!("/dev/{name}")]);
        }
    }
}

/// A path of the mount table, where some characters are written as `\040` (proc_pid_mountinfo(5)).
fn unescaped(field: &str) -> PathBuf {
    let mut parts = field.split('\\');
    let mut path = parts.next().unwrap_or_default().to_owned();
    for part in parts {
        let (code, rest) = part.split_at(3);
        path.push(char::from(u8::from_str_radix(code, 8).unwrap()));
        path.push_str(rest);
    }
    path.into()
}

/// Runs a tool to prepare or to check something; its stdout, or its stderr as error.
#[expect(clippy::disallowed_methods, reason = "tests prepare the machine with plain tools")]
pub(crate) fn command(program: &str, args: &[&str]) -> Result<String, String> {
    let output = std::process::Command::new(program)
        .args(args)
        .env("LC_ALL", "C")
        .output()
        .map_err(|error| format!("{program}: {error}"))?;
    if output.status.success() {
        Ok(String::from_utf8_lossy(&output.stdout).into_owned())
    } else {
        Err(format!("{program} {args:?}: {}", String::from_utf8_lossy(&output.stderr)))
    }
}

/// A file system of its own kind and of 512 MiB, mounted in the scratch folder; where.
pub(crate) fn filesystem(scratch: &Scratch, fs: &str) -> PathBuf {
    filesystem_of(scratch, fs, 512 * MIB)
}

/// As [`filesystem`], of so many bytes.
pub(crate) fn filesystem_of(scratch: &Scratch, fs: &str, bytes: i64) -> PathBuf {
    let image = scratch.path().join(format!("{fs}.img"));
    fs::File::create(&image).unwrap().set_len(bytes as u64).unwrap();
    command(&format!("mkfs.{fs}"), &["-q", image.to_str().unwrap()]).unwrap();
    let disk = scratch.path().join(format!("disk-{fs}"));
    fs::create_dir(&disk).unwrap();
    command("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
    disk
}

/// A running driver and its clients.
pub(crate) struct Driver {
    pub(crate) config: Config,
    stop: CancellationToken,
    served: Option<JoinHandle<Result<(), Error>>>,
    pub(crate) identity: IdentityClient<Channel>,
    pub(crate) controller: ControllerClient<Channel>,
    pub(crate) node: NodeClient<Channel>,
    pub(crate) scratch: Scratch,
}

impl Driver {
    /// A driver with one image pool, `default`.
    pub(crate) async fn image() -> Self {
        let scratch = Scratch::new();
        let pool = PoolConfig::image("default", scratch.path().join("pool"));
        Self::with(scratch, vec![pool]).await
    }

    pub(crate) async fn with(scratch: Scratch, pools: Vec<PoolConfig>) -> Self {
        let config = Config::new(NODE, scratch.path().join("csi.sock"), pools);
        Self::start(scratch, config).await
    }

    pub(crate) async fn start(scratch: Scratch, config: Config) -> Self {
        let stop = CancellationToken::new();
        let served = tokio::spawn(run(config.clone(), stop.clone()));
        let channel = connect(&config.endpoint, &served).await;
        Self {
            config,
            stop,
            served: Some(served),
            identity: IdentityClient::new(channel.clone()),
            controller: ControllerClient::new(channel.clone()),
            node: NodeClient::new(channel),
            scratch,
        }
    }

    /// The clients of a driver in another process, which listens already.
    pub(crate) async fn of_process(scratch: Scratch, config: Config) -> Self {
        let (identity, controller, node) = Self::of_process_clients(&config).await;
        Self { config, stop: CancellationToken::new(), served: None, identity, controller, node, scratch }
    }

    pub(crate) async fn of_process_clients(config: &Config) -> Clients {
        clients(channel(&config.endpoint).await)
    }

    /// As [`Driver::of_process_clients`], where the driver may be gone again.
    pub(crate) async fn try_process_clients(config: &Config) -> Result<Clients, Status> {
        try_channel(&config.endpoint).await.map(clients)
    }

    /// Ends the driver and starts it anew on the same pools.
    pub(crate) async fn restart(&mut self) {
        self.end().await;
        self.stop = CancellationToken::new();
        let served = tokio::spawn(run(self.config.clone(), self.stop.clone()));
        let channel = connect(&self.config.endpoint, &served).await;
        self.served = Some(served);
        self.identity = IdentityClient::new(channel.clone());
        self.controller = ControllerClient::new(channel.clone());
        self.node = NodeClient::new(channel);
    }

    pub(crate) async fn end(&mut self) {
        self.stop.cancel();
        if let Some(served) = self.served.take() {
            served.await.unwrap().unwrap();
        }
        assert!(!self.config.endpoint.exists(), "the socket is left behind");
    }

    pub(crate) fn path(&self, name: &str) -> String {
        self.scratch.path().join(name).to_str().unwrap().to_owned()
    }

    /// Where a volume's folder is in the pool `default`.
    pub(crate) fn volume_folder(&self, id: &str) -> PathBuf {
        self.scratch.path().join("pool/volumes").join(id)
    }

    pub(crate) async fn create(&mut self, request: csi::CreateVolumeRequest) -> Result<csi::Volume, Status> {
        Ok(self.controller.create_volume(request).await?.into_inner().volume.unwrap())
    }

    pub(crate) async fn delete(&mut self, id: &str) -> Result<(), Status> {
        let request = csi::DeleteVolumeRequest { volume_id: id.to_owned(), ..Default::default() };
        done(self.controller.delete_volume(request).await)
    }

    pub(crate) async fn attach(&mut self, id: &str, capability: &VolumeCapability) -> Result<(), Status> {
        done(
            self.controller
                .controller_publish_volume(csi::ControllerPublishVolumeRequest {
                    volume_id: id.to_owned(),
                    node_id: NODE.to_owned(),
                    volume_capability: Some(capability.clone()),
                    ..Default::default()
                })
                .await,
        )
    }

    pub(crate) async fn detach(&mut self, id: &str) -> Result<(), Status> {
        done(
            self.controller
                .controller_unpublish_volume(csi::ControllerUnpublishVolumeRequest {
                    volume_id: id.to_owned(),
                    node_id: NODE.to_owned(),
                    ..Default::default()
                })
                .await,
        )
    }

    /// Stages at `staging-<id>`, which is made as an orchestrator does.
    pub(crate) async fn stage(&mut self, id: &str, capability: &VolumeCapability) -> Result<(), Status> {
        let staging = self.staging(id);
        fs::create_dir_all(&staging).unwrap();
        done(
            self.node
                .node_stage_volume(csi::NodeStageVolumeRequest {
                    volume_id: id.to_owned(),
                    staging_target_path: staging,
                    volume_capability: Some(capability.clone()),
                    ..Default::default()
                })
                .await,
        )
    }

    pub(crate) fn staging(&self, id: &str) -> String {
        self.path(&format!("staging-{id}"))
    }

    pub(crate) async fn unstage(&mut self, id: &str) -> Result<(), Status> {
        let staging_target_path = self.staging(id);
        let request = csi::NodeUnstageVolumeRequest { volume_id: id.to_owned(), staging_target_path };
        done(self.node.node_unstage_volume(request).await)
    }

    pub(crate) fn publish_request(
        &self,
        id: &str,
        target: &str,
        capability: &VolumeCapability,
    ) -> csi::NodePublishVolumeRequest {
        csi::NodePublishVolumeRequest {
            volume_id: id.to_owned(),
            staging_target_path: self.staging(id),
            target_path: self.path(target),
            volume_capability: Some(capability.clone()),
            ..Default::default()
        }
    }

    pub(crate) async fn publish(
        &mut self,
        id: &str,
        target: &str,
        capability: &VolumeCapability,
    ) -> Result<(), Status> {
        let request = self.publish_request(id, target, capability);
        done(self.node.node_publish_volume(request).await)
    }

    pub(crate) async fn unpublish(&mut self, id: &str, target: &str) -> Result<(), Status> {
        let target_path = self.path(target);
        let request = csi::NodeUnpublishVolumeRequest { volume_id: id.to_owned(), target_path };
        done(self.node.node_unpublish_volume(request).await)
    }

    pub(crate) async fn expand(
        &mut self,
        id: &str,
        bytes: i64,
    ) -> Result<csi::ControllerExpandVolumeResponse, Status> {
        let request = csi::ControllerExpandVolumeRequest {
            volume_id: id.to_owned(),
            capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
            ..Default::default()
        };
        Ok(self.controller.controller_expand_volume(request).await?.into_inner())
    }

    pub(crate) async fn node_expand(&mut self, id: &str, target: &str) -> Result<i64, Status> {
        let request = csi::NodeExpandVolumeRequest {
            volume_id: id.to_owned(),
            volume_path: self.path(target),
            ..Default::default()
        };
        Ok(self.node.node_expand_volume(request).await?.into_inner().capacity_bytes)
    }

    /// Makes the node take up the new size `bytes`: online where that is possible, else
    /// by staging the volume anew.
    pub(crate) async fn grow_on_node(
        &mut self,
        id: &str,
        bytes: i64,
        target: &str,
        capability: &VolumeCapability,
    ) {
        let is_ext4 =
            matches!(&capability.access_type, Some(AccessType::Mount(mount)) if mount.fs_type == "ext4");
        if is_ext4
            && !can_grow_ext4_online()
            && let Err(status) = self.node_expand(id, target).await
        {
            assert_code(Err::<(), _>(status), Code::FailedPrecondition, "CAP_SYS_RESOURCE");
            self.unpublish(id, target).await.unwrap();
            self.unstage(id).await.unwrap();
            self.stage(id, capability).await.unwrap();
            self.publish(id, target, capability).await.unwrap();
        }
        for _ in 0..2 {
            assert_eq!(self.node_expand(id, target).await.unwrap(), bytes);
        }
    }

    pub(crate) async fn stats(&mut self, id: &str, target: &str) -> Result<Vec<csi::VolumeUsage>, Status> {
        let request = csi::NodeGetVolumeStatsRequest {
            volume_id: id.to_owned(),
            volume_path: self.path(target),
            ..Default::default()
        };
        Ok(self.node.node_get_volume_stats(request).await?.into_inner().usage)
    }

    /// Makes, attaches, stages and publishes a volume at `target`.
    pub(crate) async fn bring_up(
        &mut self,
        name: &str,
        bytes: i64,
        capability: &VolumeCapability,
        target: &str,
    ) -> String {
        let id = self.create(volume(name, bytes, capability)).await.unwrap().volume_id;
        self.attach(&id, capability).await.unwrap();
        self.stage(&id, capability).await.unwrap();
        self.publish(&id, target, capability).await.unwrap();
        id
    }

    /// The way back, to the end.
    pub(crate) async fn take_down(&mut self, id: &str, target: &str) {
        self.unpublish(id, target).await.unwrap();
        self.unstage(id).await.unwrap();
        self.detach(id).await.unwrap();
        self.delete(id).await.unwrap();
    }

    /// Fails unless nothing is left: no mount, no loop device, no file.
    pub(crate) async fn assert_nothing_left(&self, pool: &str) {
        assert_eq!(self.scratch.loops(), Vec::<String>::new(), "loop devices");
        let pool = self.scratch.path().join(pool);
        assert_eq!(entries(&pool.join("volumes")), Vec::<String>::new());
        until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        self.stop.cancel();
    }
}

type Clients = (IdentityClient<Channel>, ControllerClient<Channel>, NodeClient<Channel>);

fn clients(channel: Channel) -> Clients {
    (IdentityClient::new(channel.clone()), ControllerClient::new(channel.clone()), NodeClient::new(channel))
}

async fn connect(socket: &Path, served: &JoinHandle<Result<(), Error>>) -> Channel {
    let socket = socket.to_owned();
    // A stale socket is there before the driver is: only a connection shows it.
    until("the driver listens", || {
        served.is_finished() || std::os::unix::net::UnixStream::connect(&socket).is_ok()
    })
    .await;
    assert!(!served.is_finished(), "the driver ended at its start");
    channel(&socket).await
}

pub(crate) async fn channel(socket: &Path) -> Channel {
    try_channel(socket).await.unwrap()
}

/// As [`channel`], where the driver may be gone.
pub(crate) async fn try_channel(socket: &Path) -> Result<Channel, Status> {
    let socket = socket.to_owned();
    Endpoint::from_static("http://csi.sock")
        .connect_with_connector(tower::service_fn(move |_| {
            let socket = socket.clone();
            async move { Ok::<_, std::io::Error>(TokioIo::new(UnixStream::connect(socket).await?)) }
        }))
        .await
        .map_err(|error| Status::unavailable(error.to_string()))
}

/// Whether this process may grow a mounted ext4: the kernel asks for CAP_SYS_RESOURCE.
pub(crate) fn can_grow_ext4_online() -> bool {
    use rustix::thread::{CapabilitySet, capabilities};
    let can = capabilities(None).unwrap().effective.contains(CapabilitySet::SYS_RESOURCE);
    if !can {
        println!("NOT SHOWN: growing a mounted ext4 (needs CAP_SYS_RESOURCE); it grows when staged next");
    }
    can
}

/// Waits for a condition; a minute without it fails the test.
pub(crate) async fn until(what: &str, mut holds: impl FnMut() -> bool) {
    for _ in 0..6000 {
        if holds() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(10)).await;
    }
    panic!("waited a minute in vain until {what}");
}

pub(crate) fn entries(folder: &Path) -> Vec<String> {
    fs::read_dir(folder)
        .unwrap()
        .map(|entry| entry.unwrap().file_name().to_string_lossy().into_owned())
        .collect()
}

fn done<T>(response: Result<Response<T>, Status>) -> Result<(), Status> {
    response.map(|_| ())
}

#[track_caller]
pub(crate) fn assert_code<T: std::fmt::Debug>(result: Result<T, Status>, code: Code, said: &str) {
    let status = result.unwrap_err();
    assert_eq!(status.code(), code, "{status}");
    assert!(status.message().contains(said), "{:?} does not say {said:?}", status.message());
}

pub(crate) fn mounted(fs_type: &str) -> VolumeCapability {
    mounted_as(fs_type, &[], Mode::SingleNodeMultiWriter)
}

pub(crate) fn mounted_as(fs_type: &str, flags: &[&str], mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Mount(MountVolume {
            fs_type: fs_type.to_owned(),
            mount_flags: flags.iter().map(|flag| (*flag).to_owned()).collect(),
            ..Default::default()
        })),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

pub(crate) fn block(mode: Mode) -> VolumeCapability {
    VolumeCapability {
        access_type: Some(AccessType::Block(BlockVolume {})),
        access_mode: Some(AccessMode { mode: mode.into() }),
    }
}

pub(crate) fn volume(name: &str, bytes: i64, capability: &VolumeCapability) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: bytes, limit_bytes: 0 }),
        volume_capabilities: vec![capability.clone()],
        ..Default::default()
    }
}

pub(crate) fn parameters(pairs: &[(&str, &str)]) -> HashMap<String, String> {
    pairs.iter().map(|(key, value)| ((*key).to_owned(), (*value).to_owned())).collect()
}

/// The size in bytes of the file system at `path`, as df shows it.
pub(crate) fn df(path: &str) -> i64 {
    let stat = rustix::fs::statvfs(path).unwrap();
    (stat.f_blocks * stat.f_frsize) as i64
}
