//! `holdfast up`: every part in one process, on one root folder.

use std::path::{Path, PathBuf};
use std::time::Duration;

use anyhow::{Context, Result, ensure};
use holdfast_api::names;
use holdfast_csi_driver as driver;
use holdfast_node_agent as node;
use holdfast_sidecars as sidecars;
use holdfast_volume_controller::controllers;
use kube::Client;

use crate::{
    api::{Api, ApiArgs, ApiPlan},
    bootstrap,
    nodes::NodeArgs,
    parts::Parts,
    root::Root,
    signals::{Signals, run_to_the_end},
    store::Purpose,
};

/// The longest path of a socket below the root.
const REGISTRATION: &str = "kubelet/plugins_registry/csi.holdfast.dev-reg.sock";

/// What `holdfast up` takes.
#[derive(clap::Args)]
pub(crate) struct UpArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    /// The name of this machine's Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// The most that the default pool may promise, as a quantity [default: what its file system has free]
    #[arg(long, value_name = "QUANTITY")]
    pool_capacity: Option<String>,
    /// A TOML file with further pools, as [[pool]] sections with name, backend (image,
    /// directory, btrfs or tmpfs) and path; one named "default" takes the place of the built-in pool.
    #[arg(long, value_name = "FILE")]
    pools: Option<PathBuf>,
}

/// Checks what can be checked before anything starts, then runs until a signal.
pub(crate) fn main(args: UpArgs) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "holdfast up needs root, because it makes loop devices and mounts file systems: run it with sudo"
    );
    let capacity = args.pool_capacity.as_deref().map(holdfast_api::quantity::parse_bytes).transpose();
    let capacity = capacity.context("--pool-capacity")?.map(u64::try_from).transpose()?;
    let node_name = match args.node_name {
        Some(name) => name,
        None => rustix::system::uname().nodename().to_str().context("the host name")?.to_lowercase(),
    };
    ensure!(
        capacity != Some(0),
        "--pool-capacity 0 leaves no room for any volume: give a size such as 100Gi"
    );
    ensure!(
        names::is_subdomain(&node_name),
        "{node_name:?} cannot be a node's name: give --node-name with lower case letters, digits, '-' and '.'"
    );
    let patience = args.nodes.patience()?;
    let api = args.api.check(REGISTRATION)?;
    let pools = args.pools.as_deref().map(driver::PoolConfig::load_all).transpose().context("--pools")?;
    let root = api.take_root()?;
    let machine = Machine { root, api, node_name, patience, capacity, pools: pools.unwrap_or_default() };
    run_to_the_end(machine.run())
}

/// One machine, before it runs.
struct Machine {
    root: Root,
    api: ApiPlan,
    node_name: String,
    patience: controllers::Patience,
    capacity: Option<u64>,
    pools: Vec<driver::PoolConfig>,
}

impl Machine {
    /// Brings the parts up in the order in which they need each other, and runs
    /// them until a signal, or until one of them ends by itself.
    async fn run(self) -> Result<()> {
        let mut signals = Signals::listen()?;
        let api = tokio::select! {
            api = self.api.start(&self.root, Purpose::Alone) => api?,
            // What was under way in the database is rolled back there when the connection ends.
            () = signals.recv() => return Ok(()),
        };
        let mut parts = Parts::default();
        let ended = match self.start(&mut parts, &api).await {
            Ok(socket) => tokio::select! {
                () = signals.recv() => Ok(()),
                ended = api.watch(&self.root, &mut parts) => Err(ended),
                () = announce_when_served(&api, &socket) => Ok(()),
            },
            Err(error) => Err(error),
        };
        tracing::info!("stopping; what is mounted stays mounted");
        api.leave(parts, &mut signals).await;
        ended
    }

    /// Everything besides store and API server; returns the CSI socket's path.
    async fn start(&self, parts: &mut Parts, api: &Api) -> Result<PathBuf> {
        let client = Client::new(api.server.within(AGENT), NAMESPACE);
        let socket = self.root.path().join("csi.sock");
        let driver = driver::Config::new(&self.node_name, &socket, self.pools()?);
        driver.check().context("--pools")?;
        let ephemeral = driver.pools.iter().any(|pool| pool.backend == driver::BackendKind::Tmpfs);
        bootstrap::csi_driver(client.clone(), driver.attach, ephemeral).await?;
        let kubelet = self.root.folder("kubelet")?;
        let mut node = node::Config::new(client.clone(), &self.node_name, &kubelet);
        node.lease_duration = self.patience.lease();
        let sidecars = sidecars::Config::new(client, socket.clone(), kubelet.join("plugins_registry"));
        let mut controllers = controllers::Config::new(api.store.clone());
        controllers.patience = self.patience;
        {
            let mut registry = api.registry.lock();
            driver.metrics.register(&mut registry);
            node.metrics.register(&mut registry);
            sidecars.metrics.register_beside(&mut registry);
            controllers.metrics.register(&mut registry);
        }
        let stop = parts.stop.clone();
        parts.spawn("the CSI driver", driver::run(driver, stop.clone()));
        parts.spawn("the controllers", controllers::run(controllers, stop.clone()));
        parts.spawn("the sidecars", sidecars::run(sidecars, stop.clone()));
        parts.spawn("the node agent", node::run(node, stop));
        Ok(socket)
    }
}

impl Machine {
    /// The built-in pool, unless the file has one of its name, and those of the file.
    fn pools(&self) -> Result<Vec<driver::PoolConfig>> {
        let mut pools = self.pools.clone();
        if pools.iter().all(|pool| pool.name != DEFAULT_POOL) {
            let folder = self.root.folder("pools")?.join(DEFAULT_POOL);
            let pool = driver::PoolConfig::image(DEFAULT_POOL, folder);
            pools.push(match self.capacity {
                Some(capacity) => pool.with_capacity(capacity),
                None => pool,
            });
        }
        Ok(pools)
    }
}

/// Under this name the server records which fields the parts own.
const AGENT: &str = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
/// What the client takes for granted where a request names none; the parts always name one.
const NAMESPACE: &str = "default";
/// The pool that classes without the parameter `pool` use.
const DEFAULT_POOL: &str = "default";

/// Says that the machine is up once the driver takes connections; never returns.
async fn announce_when_served(api: &Api, socket: &Path) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        look.tick().await;
    }
    announce(api, socket);
    std::future::pending().await
}

/// What a person needs to go on.
#[expect(clippy::print_stdout, reason = "the paths are this command's output")]
fn announce(api: &Api, socket: &Path) {
    let kubeconfig = api.kubeconfig().display();
    println!("holdfast {} is up", env!("CARGO_PKG_VERSION"));
    println!("  kubeconfig  {kubeconfig}");
    println!("  API socket  {}", api.server.socket.display());
    println!("  CSI socket  {}", socket.display());
    println!("  try         kubectl --kubeconfig {kubeconfig} get sc,pvc,pv,pods");
}
