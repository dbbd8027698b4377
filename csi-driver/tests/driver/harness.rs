//! A driver in this process, and a client on its socket.

mod calls;
mod scratch;

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
    Code, Status,
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
pub(crate) use scratch::{Scratch, command, filesystem, filesystem_of};

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
