//! The API server: the Kubernetes API for the kinds of storage, over TLS.
//!
//! One request goes: [`router`] (who asks: [`auth`] and [`impersonation`]; whether they may: [`rbac`]) → [`route`], [`options`],
//! [`accept`], [`body`] (what is asked) → [`verbs`] (what is done, with
//! [`metadata`] and [`admission`]) → [`reply`] or [`status`] (the answer).

mod accept;
mod admin;
mod admission;
mod admit;
pub(crate) mod apply;
mod audit;
mod auth;
mod body;
mod client_certificates;
mod connection;
mod converted;
mod credentials;
mod discovery;
mod duplicates;
pub(crate) mod durable;
mod error;
mod fixed;
#[cfg(test)]
mod fuzz_tests;
mod gzip;
mod health;
mod impersonation;
mod joined;
pub mod kinds;
mod limits;
mod listen;
mod local;
mod metadata;
mod metrics;
pub mod openapi;
mod options;
pub mod patch;
mod peer;
mod protobuf;
pub(crate) mod quota;
pub(crate) mod rbac;
mod reply;
mod reviews;
pub(crate) mod route;
mod router;
mod selection;
mod size;
pub(crate) mod status;
pub mod table;
mod tls;
mod tokens;
mod unknown;
mod unread;
mod user;
mod verbs;
mod within;
mod writer;

use std::net::{Ipv4Addr, SocketAddr};
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use serde_json::{Value, json};
use tokio::task::JoinHandle;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use crate::store::{Object, Store};
pub use admin::{BACKUP_PATH, CHECK_PATH};
pub use audit::AuditConfig;
pub use credentials::{kubeconfig_for, shared_credentials};
pub use error::ServeError;
use route::Target;
use status::ApiError;
use verbs::update::Recorded;
pub use within::{Crashed, Within};

/// Where all parts of the process register their metrics; `/metrics` serves it.
pub type SharedRegistry = Arc<Mutex<Registry>>;

/// The namespaces that a cluster always has.
const NAMESPACES: [&str; 4] = ["default", "kube-system", "kube-public", "kube-node-lease"];

/// The most watches and connections of one user, where nothing else is said: several clients of a dozen watches each on each
/// of hundreds of machines.
pub const MAX_WATCHES: usize = 5_000;
/// See [`MAX_WATCHES`].
pub const MAX_CONNECTIONS: usize = 2_000;

/// What an API server is started with.
pub struct Config {
    /// The objects. Whoever opened the store closes it, after the server has stopped.
    pub store: Store,
    /// The root folder: `kubeconfig` and `pki/` are written there.
    pub root: PathBuf,
    /// Where to listen. Port 0 is a free port at first and the same one ever after.
    pub listen: SocketAddr,
    /// Other names and IP addresses by which it is reached: of a load balancer, for example. Its certificate has them.
    pub names: Vec<String>,
    /// Where the server's metrics go, and what `/metrics` shows.
    pub registry: SharedRegistry,
    /// Where requests are noted, if they are.
    pub audit: Option<AuditConfig>,
    /// How often a watch with `allowWatchBookmarks` hears of progress, at most.
    pub bookmark_interval: Duration,
    /// The most bytes of stored objects in one list that is not sent as it is stored: as a table, as YAML,
    /// in protobuf, metadata only, or in another version. Four times that may be in memory at once.
    pub max_converted_list: usize,
    /// The most watches that one user may have open, members of `system:masters` excepted. All users together may have four
    /// times as many.
    pub max_watches: usize,
    /// The most connections that one user may have, members of `system:masters` excepted. A connection is that of whoever
    /// is first known over it.
    pub max_connections: usize,
}

impl Config {
    /// A server for this machine only.
    #[must_use]
    pub fn new(store: Store, root: impl Into<PathBuf>) -> Self {
        Self {
            store,
            root: root.into(),
            listen: (Ipv4Addr::LOCALHOST, 0).into(),
            names: Vec::new(),
            registry: SharedRegistry::default(),
            audit: None,
            bookmark_interval: Duration::from_secs(10),
            max_converted_list: 256 << 20,
            max_watches: MAX_WATCHES,
            max_connections: MAX_CONNECTIONS,
        }
    }
}

/// A running API server.
#[derive(Debug)]
pub struct Server {
    /// Where it listens.
    pub address: SocketAddr,
    /// A kubeconfig with all rights, readable by root only.
    pub kubeconfig: PathBuf,
    /// The unix socket on which it serves the same, without TLS, to root and whoever runs it.
    pub socket: PathBuf,
    router: Router,
    task: JoinHandle<()>,
}

impl Server {
    /// The API for a client in this process, which is recorded as `agent` where it names no manager of fields.
    #[must_use]
    pub fn within(&self, agent: &'static str) -> Within {
        Within::new(self.router.clone(), agent)
    }

    /// Waits until the server has stopped: its token was cancelled, watches have
    /// ended and requests under way have been answered (at most 5 s).
    pub async fn stopped(self) {
        if let Err(error) = self.task.await {
            tracing::error!(%error, "the API server ended badly");
        }
    }
}

/// What every request needs.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) authenticator: auth::Authenticator,
    pub(crate) access: rbac::Access,
    pub(crate) limits: limits::Limits,
    pub(crate) turns: size::Turns,
    /// What those who watch are told, made once for all of them.
    pub(crate) shared: verbs::watch::Shared,
    pub(crate) audit: Option<Arc<audit::Audit>>,
    pub(crate) metrics: metrics::Metrics,
    pub(crate) registry: SharedRegistry,
    pub(crate) bookmark_interval: Duration,
    pub(crate) stop: CancellationToken,
}

/// Starts the API server: makes or reads its keys, listens, writes the
/// kubeconfig, creates the namespaces and roles that a cluster always has. It serves until
/// `stop` is cancelled.
///
/// # Errors
/// See [`ServeError`]. A failed start leaves nothing that hinders the next one.
pub async fn serve(config: Config, stop: CancellationToken) -> Result<Server, ServeError> {
    let most = limits::Most {
        list: config.max_converted_list,
        watches: config.max_watches,
        connections: config.max_connections,
    };
    let Config { store, root, listen, names, registry, audit, bookmark_interval, .. } = config;
    let pki = root.join("pki");
    durable::private_folder(&pki).map_err(|source| ServeError::File {
        doing: "create",
        path: pki.clone(),
        source,
    })?;
    let now = Timestamp::now();
    let authority = tls::Authority::open(&pki, now)?;
    let certificate = authority.pem.clone();
    let clients = client_certificates::Believed::new(authority.der()?)?;
    let token = credentials::token(&pki)?;
    let keys = Arc::new(tokens::Keys::open(&pki)?);
    create_namespaces(&store).await?;
    let failed = |error: ApiError| ServeError::Roles { why: error.to_string() };
    rbac::defaults::reconcile(&store).await.map_err(failed)?;
    let audit =
        audit.map(|config| audit::Audit::open(&config, &mut registry.lock()).map(Arc::new)).transpose()?;
    let (listener, address) = listen::bind(listen, &pki).await?;
    let identity = tls::Identity::new(authority, address.ip(), names, now)?;
    let acceptor = TlsAcceptor::from(Arc::new(identity.tls(&clients)?));
    let (local, socket) = local::bind(&root, &pki)?;
    // Written last: whoever waits for the file can connect at once.
    let kubeconfig = credentials::write_kubeconfig(&root, address, &certificate, &token)?;
    let metrics = metrics::Metrics::register(&mut registry.lock());
    let limits = limits::Limits::register(&mut registry.lock(), most);
    let tokens = tokens::Tokens::new(keys, store.clone());
    let authenticator = auth::Authenticator::new(&token, tokens);
    let access = rbac::Access::new(store.clone());
    let noted = audit.clone();
    let api = Api {
        store,
        authenticator,
        access,
        limits,
        turns: size::Turns::new(),
        shared: verbs::watch::Shared::default(),
        audit,
        metrics,
        registry,
        bookmark_interval,
        stop: stop.clone(),
    };
    let router = router::router(Arc::new(api));
    let doors = listen::Doors { network: listener, acceptor, identity, clients, local };
    let served = router.clone();
    let task = tokio::spawn(async move {
        listen::serve(doors, served, stop).await;
        if let Some(audit) = noted {
            audit.end().await;
        }
    });
    Ok(Server { address, kubeconfig, socket, router, task })
}

/// Creates an object for a controller as for any client: completed, defaulted, admitted, checked and
/// charged to quotas.
pub(crate) async fn create(store: &Store, namespace: &str, body: Value) -> Result<Arc<Object>, ApiError> {
    let text = |field: &str| body[field].as_str().unwrap_or_default();
    let kind = kinds::named(text("apiVersion"), text("kind"))
        .ok_or_else(|| ApiError::Internal(format!("there is no kind {}", body["kind"])))?;
    let target = Target {
        kind,
        stored: kinds::stored(kind),
        namespace: namespace.to_owned(),
        name: String::new(),
        part: route::Part::Main,
    };
    verbs::create::insert(store, &target, body, Recorded::By(apply::SERVER)).await
}

/// Creates what is missing of the namespaces; a crash in between leaves some,
/// and the next start adds the others.
async fn create_namespaces(store: &Store) -> Result<(), ServeError> {
    for name in NAMESPACES {
        let failed = |error: ApiError| ServeError::Namespace { name, why: error.to_string() };
        let target = route::parse("/api/v1/namespaces").map_err(failed)?;
        if store.get(&target.key_of(name)).is_some() {
            continue;
        }
        let body = json!({"apiVersion": "v1", "kind": "Namespace", "metadata": {"name": name}});
        match verbs::create::insert(store, &target, body, Recorded::By(apply::SERVER)).await {
            Ok(_) | Err(ApiError::AlreadyExists { .. }) => {}
            Err(error) => return Err(failed(error)),
        }
    }
    Ok(())
}
