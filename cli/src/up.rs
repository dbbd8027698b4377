//! `holdfast up`: every part in one process, on one root folder.

use std::{
    future::Future,
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use holdfast_api::names;
use holdfast_csi_driver as driver;
use holdfast_node_agent as node;
use holdfast_sidecars as sidecars;
use holdfast_volume_controller::{
    apiserver, controllers,
    store::{Database, Ended, Store},
};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::{
    bootstrap,
    log::LogArgs,
    root::Root,
    signals::{LEAVE, Signals, at_once, run_to_the_end},
    store,
};

/// As [`LEAVE`], for the API server and for the store, each, once the parts have ended: what still waits there waits
/// for a database that does not answer, and was not acknowledged.
const CLOSE: Duration = Duration::from_secs(5);

/// The most bytes of a unix socket's path (`sun_path`, without the closing zero).
const SOCKET_PATH: usize = 107;
/// The longest path of a socket below the root.
const REGISTRATION: &str = "kubelet/plugins_registry/csi.holdfast.dev-reg.sock";

/// What `holdfast up` takes.
#[derive(clap::Args)]
pub(crate) struct UpArgs {
    /// The folder that holds all state: database, keys, kubeconfig, pools, mounts. Made when missing.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_ROOT")]
    root: PathBuf,
    /// The name of this machine's Node object [default: the host name]
    #[arg(long, value_name = "NAME")]
    node_name: Option<String>,
    /// Where the API listens; without it a free port on 127.0.0.1 is chosen once and kept.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// The most that the default pool may promise, as a quantity [default: what its file system has free]
    #[arg(long, value_name = "QUANTITY")]
    pool_capacity: Option<String>,
    /// A TOML file with further pools, as [[pool]] sections with name, backend (image,
    /// directory, btrfs or tmpfs) and path; one named "default" takes the place of the built-in pool.
    #[arg(long, value_name = "FILE")]
    pools: Option<PathBuf>,
    /// A PostgreSQL database for the objects, as a URL: postgres://USER@HOST/DATABASE?sslmode=verify-full; a
    /// password may also come from PGPASSWORD or .pgpass [default: the SQLite file DIR/state.db]
    // Not parsed by clap, which would print it, password included.
    #[arg(long, value_name = "URL", env = "HOLDFAST_STORE", hide_env_values = true)]
    store: Option<String>,
    /// The most that all objects together may have, as a quantity, 0 for no limit. Beyond it nothing new is taken.
    #[arg(long, value_name = "QUANTITY", default_value = "2Gi")]
    store_quota: String,
    /// Note every request in this file, as lines of JSON (audit.k8s.io/v1)
    #[arg(long, value_name = "FILE")]
    audit_log_path: Option<PathBuf>,
    /// What is noted of which request, a Policy of audit.k8s.io/v1 [default: everything, without bodies]
    #[arg(long, value_name = "FILE", requires = "audit_log_path")]
    audit_policy_file: Option<PathBuf>,
    /// The size of the audit log, in MiB, at which it is moved aside
    #[arg(long, value_name = "MIB", default_value_t = 100, requires = "audit_log_path")]
    audit_log_maxsize: u32,
    /// How many audit logs that were moved aside are kept
    #[arg(long, value_name = "NUMBER", default_value_t = 10, requires = "audit_log_path")]
    audit_log_maxbackup: u16,
    #[command(flatten)]
    log: LogArgs,
}

/// Checks what can be checked before anything starts, then runs until a signal.
pub(crate) fn main(args: UpArgs) -> Result<()> {
    ensure!(
        rustix::process::geteuid().is_root(),
        "holdfast up needs root, because it makes loop devices and mounts file systems: run it with sudo"
    );
    let capacity = args.pool_capacity.as_deref().map(holdfast_api::quantity::parse_bytes).transpose();
    let capacity = capacity.context("--pool-capacity")?.map(u64::try_from).transpose()?;
    let quota =
        u64::try_from(holdfast_api::quantity::parse_bytes(&args.store_quota).context("--store-quota")?)
            .context("--store-quota")?;
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
    let database = args.store.as_deref().map(str::parse::<Database>).transpose().context("--store")?;
    args.log.start()?;
    crate::files::raise_limit();
    // An error here only says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();

    let longest = std::path::absolute(&args.root).context("--root")?.join(REGISTRATION);
    ensure!(
        longest.as_os_str().len() <= SOCKET_PATH,
        "--root {} is too long: the sockets below it may have paths of at most {SOCKET_PATH} bytes, so choose a root of \
         at most {} bytes",
        args.root.display(),
        SOCKET_PATH - REGISTRATION.len() - 1
    );
    let pools = args.pools.as_deref().map(driver::PoolConfig::load_all).transpose().context("--pools")?;

    let machine = Machine {
        root: Root::take(&args.root)?,
        node_name,
        capacity,
        pools: pools.unwrap_or_default(),
        listen: args.listen,
        database,
        quota: (quota > 0).then_some(quota),
        audit: args.audit_log_path.map(|path| apiserver::AuditConfig {
            path,
            policy: args.audit_policy_file,
            max_bytes: u64::from(args.audit_log_maxsize.max(1)) << 20,
            max_backups: args.audit_log_maxbackup.into(),
        }),
    };
    run_to_the_end(machine.run())
}

/// One machine, before it runs.
struct Machine {
    root: Root,
    node_name: String,
    capacity: Option<u64>,
    pools: Vec<driver::PoolConfig>,
    listen: Option<SocketAddr>,
    database: Option<Database>,
    quota: Option<u64>,
    audit: Option<apiserver::AuditConfig>,
}

impl Machine {
    /// Brings the parts up in the order in which they need each other, and runs
    /// them until a signal, or until one of them ends by itself.
    async fn run(self) -> Result<()> {
        let mut signals = Signals::listen()?;
        let registry = Arc::new(Mutex::new(Registry::default()));
        let stop = CancellationToken::new();

        let store = tokio::select! {
            store = store::open(self.root.path(), self.database.clone(), self.quota) => store?,
            // What was under way in the database is rolled back there when the connection ends.
            () = signals.recv() => return Ok(()),
        };
        store.metrics().register(&mut registry.lock());
        let mut api = apiserver::Config::new(store.clone(), self.root.path());
        api.registry = Arc::clone(&registry);
        api.audit = self.audit.clone();
        if let Some(listen) = self.listen {
            api.listen = listen;
        }
        // The API server outlives the others, so that their last words still reach it.
        let stop_api = CancellationToken::new();
        let server = match apiserver::serve(api, stop_api.clone()).await {
            Ok(server) => server,
            Err(error) => {
                store.close().await;
                return Err(error.into());
            }
        };
        let (kubeconfig, api_socket) = (server.kubeconfig.clone(), server.socket.clone());

        let mut parts = Parts { tasks: JoinSet::new(), stop: stop.clone() };
        let started = self.start(&mut parts, store.clone(), &kubeconfig, &registry).await;
        let ended = match started {
            Ok(socket) => tokio::select! {
                () = signals.recv() => Ok(()),
                ended = parts.first_to_end() => Err(ended),
                ended = store.ended() => Err(lost(ended)),
                () = store::seen::keep_noting(self.root.path(), &store) => Ok(()),
                () = announce_when_served(&kubeconfig, &api_socket, &socket) => Ok(()),
            },
            Err(error) => Err(error),
        };

        tracing::info!("stopping; what is mounted stays mounted");
        tokio::select! {
            () = leave(parts, server, &stop_api, &store) => ended,
            () = signals.recv() => at_once(),
        }
    }

    /// Everything besides store and API server; returns the CSI socket's path.
    async fn start(
        &self,
        parts: &mut Parts,
        store: Store,
        kubeconfig: &Path,
        registry: &Mutex<Registry>,
    ) -> Result<PathBuf> {
        let client = client(kubeconfig).await?;
        let socket = self.root.path().join("csi.sock");
        let driver = driver::Config::new(&self.node_name, &socket, self.pools()?);
        driver.check().context("--pools")?;
        let ephemeral = driver.pools.iter().any(|pool| pool.backend == driver::BackendKind::Tmpfs);
        bootstrap::csi_driver(client.clone(), driver.attach, ephemeral).await?;
        let kubelet = self.root.folder("kubelet")?;
        let node = node::Config::new(client.clone(), &self.node_name, &kubelet);
        let sidecars = sidecars::Config::new(client, socket.clone(), kubelet.join("plugins_registry"));
        let controllers = controllers::Config::new(store);
        {
            let mut registry = registry.lock();
            driver.metrics.register(&mut registry);
            node.metrics.register(&mut registry);
            sidecars.metrics.register(&mut registry);
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

/// Ends everything in the reverse order, and waits for none of it for ever.
async fn leave(mut parts: Parts, server: apiserver::Server, stop_api: &CancellationToken, store: &Store) {
    parts.stop.cancel();
    if tokio::time::timeout(LEAVE, parts.all_ended()).await.is_err() {
        tracing::warn!("some parts did not end within {LEAVE:?}; leaving without them");
    }
    stop_api.cancel();
    if tokio::time::timeout(CLOSE, server.stopped()).await.is_err() {
        tracing::warn!("the API server did not end within {CLOSE:?}; leaving without it");
    }
    if tokio::time::timeout(CLOSE, store.close()).await.is_err() {
        tracing::warn!("the store was not closed within {CLOSE:?}; leaving without that");
    }
}

/// Somebody else has the store now, or it is another one: nothing here may act on what it said.
fn lost(ended: Ended) -> anyhow::Error {
    match ended {
        Ended::Lost(why) => anyhow!(why).context("the store was lost"),
        Ended::Closed => anyhow!("the store closed by itself"),
    }
}

/// The pool that classes without the parameter `pool` use.
const DEFAULT_POOL: &str = "default";

/// The parts that run beside the API server.
struct Parts {
    tasks: JoinSet<(&'static str, Result<()>)>,
    stop: CancellationToken,
}

impl Parts {
    fn spawn<E>(&mut self, name: &'static str, part: impl Future<Output = Result<(), E>> + Send + 'static)
    where
        E: std::error::Error + Send + Sync + 'static,
    {
        self.tasks.spawn(async move { (name, part.await.map_err(Into::into)) });
    }

    /// A part that ends although nobody asked takes the whole machine down: half
    /// a machine would accept work that nobody does.
    async fn first_to_end(&mut self) -> anyhow::Error {
        match self.tasks.join_next().await {
            Some(Ok((name, Ok(())))) => anyhow!("{name} ended by itself"),
            Some(Ok((name, Err(error)))) => error.context(format!("{name} failed")),
            Some(Err(error)) => anyhow!("a part of the machine crashed: {error}"),
            None => anyhow!("no part of the machine is running"),
        }
    }

    async fn all_ended(&mut self) {
        while let Some(ended) = self.tasks.join_next().await {
            if let Ok((name, Err(error))) = ended {
                tracing::error!("{name} failed while stopping: {error:#}");
            }
        }
    }
}

async fn client(kubeconfig: &Path) -> Result<Client> {
    let read = Kubeconfig::read_from(kubeconfig)?;
    let mut config = kube::Config::from_custom_kubeconfig(read, &KubeConfigOptions::default()).await?;
    // Under this name the server records which fields the parts own.
    let agent = concat!("holdfast/", env!("CARGO_PKG_VERSION"));
    config.headers.push(("user-agent".parse()?, agent.parse()?));
    Ok(Client::try_from(config)?)
}

/// Says that the machine is up once the driver takes connections; never returns.
async fn announce_when_served(kubeconfig: &Path, api_socket: &Path, socket: &Path) {
    let mut look = tokio::time::interval(Duration::from_millis(10));
    while tokio::net::UnixStream::connect(socket).await.is_err() {
        look.tick().await;
    }
    announce(kubeconfig, api_socket, socket);
    std::future::pending().await
}

/// What a person needs to go on.
#[expect(clippy::print_stdout, reason = "the paths are this command's output")]
fn announce(kubeconfig: &Path, api_socket: &Path, socket: &Path) {
    println!("holdfast {} is up", env!("CARGO_PKG_VERSION"));
    println!("  kubeconfig  {}", kubeconfig.display());
    println!("  API socket  {}", api_socket.display());
    println!("  CSI socket  {}", socket.display());
    println!("  try         kubectl --kubeconfig {} get sc,pvc,pv,pods", kubeconfig.display());
}
