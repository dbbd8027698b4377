//! The store of a root and the API server on it: what `holdfast up` and `holdfast server` begin with.

use std::{
    net::SocketAddr,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, ensure};
use holdfast_volume_controller::{
    apiserver,
    store::{Candidate, Database, Ended, Store},
};
use parking_lot::Mutex;
use prometheus_client::registry::Registry;
use tokio_util::sync::CancellationToken;

use crate::{
    log::LogArgs,
    parts::Parts,
    root::Root,
    signals::{LEAVE, Signals, at_once},
    store::{self, Purpose},
};

/// As [`LEAVE`], for the API server and for the store, each, once the parts have ended: what still waits there waits
/// for a database that does not answer, and was not acknowledged.
const CLOSE: Duration = Duration::from_secs(5);

/// The most bytes of a unix socket's path (`sun_path`, without the closing zero).
const SOCKET_PATH: usize = 107;

/// What every command takes that serves the API.
#[derive(clap::Args)]
pub(crate) struct ApiArgs {
    /// The folder that holds all state: keys, kubeconfig, and whatever else is not in a database elsewhere. Made when
    /// missing.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_ROOT")]
    root: PathBuf,
    /// Where the API listens; without it a free port on 127.0.0.1 is chosen once and kept.
    #[arg(long, value_name = "ADDRESS:PORT")]
    listen: Option<SocketAddr>,
    /// Another name or IP address by which clients reach this server, a load balancer's for example, so that its certificate
    /// has it; may be given several times
    #[arg(long, value_name = "NAME")]
    tls_san: Vec<String>,
    /// A PostgreSQL database for the objects, as a URL: postgres://USER@HOST/DATABASE?sslmode=verify-full; a
    /// password may also come from PGPASSWORD or .pgpass [default: the SQLite file DIR/state.db]
    // Not parsed by clap, which would print it, password included.
    #[arg(long, value_name = "URL", env = "HOLDFAST_STORE", hide_env_values = true)]
    store: Option<String>,
    /// The most that all objects together may have, as a quantity, 0 for no limit. Beyond it nothing new is taken.
    #[arg(long, value_name = "QUANTITY", default_value = "2Gi")]
    store_quota: String,
    /// The most watches that one user may have open. All users together may have four times as many, members of
    /// system:masters more
    #[arg(long, value_name = "NUMBER", default_value_t = apiserver::MAX_WATCHES)]
    max_watches_per_user: usize,
    /// The most connections that one user may have, members of system:masters excepted
    #[arg(long, value_name = "NUMBER", default_value_t = apiserver::MAX_CONNECTIONS)]
    max_connections_per_user: usize,
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

/// What is to be started, checked as far as that goes without starting anything.
pub(crate) struct ApiPlan {
    root: PathBuf,
    listen: Option<SocketAddr>,
    names: Vec<String>,
    database: Option<Database>,
    quota: Option<u64>,
    audit: Option<apiserver::AuditConfig>,
    max_watches: usize,
    max_connections: usize,
}

impl ApiArgs {
    /// Reads the arguments and starts the log. `longest` is the longest path of a socket below the root.
    pub(crate) fn check(self, longest: &str) -> Result<ApiPlan> {
        let quota =
            u64::try_from(holdfast_api::quantity::parse_bytes(&self.store_quota).context("--store-quota")?)
                .context("--store-quota")?;
        let database = self.store.as_deref().map(str::parse::<Database>).transpose().context("--store")?;
        self.log.start()?;
        crate::files::raise_limit();
        // An error here only says that there is one already, which is as good.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let path = std::path::absolute(&self.root).context("--root")?.join(longest);
        ensure!(
            path.as_os_str().len() <= SOCKET_PATH,
            "--root {} is too long: the sockets below it may have paths of at most {SOCKET_PATH} bytes, so choose a root of \
             at most {} bytes",
            self.root.display(),
            SOCKET_PATH - longest.len() - 1
        );
        Ok(ApiPlan {
            root: self.root,
            listen: self.listen,
            names: self.tls_san,
            database,
            quota: (quota > 0).then_some(quota),
            audit: self.audit_log_path.map(|path| apiserver::AuditConfig {
                path,
                policy: self.audit_policy_file,
                max_bytes: u64::from(self.audit_log_maxsize.max(1)) << 20,
                max_backups: self.audit_log_maxbackup.into(),
            }),
            max_watches: self.max_watches_per_user,
            max_connections: self.max_connections_per_user,
        })
    }
}

impl ApiPlan {
    /// Takes the root folder.
    pub(crate) fn take_root(&self) -> Result<Root> {
        Root::take(&self.root)
    }

    /// Opens the store and serves the API.
    pub(crate) async fn start(&self, root: &Root, purpose: Purpose) -> Result<Api> {
        let registry = Arc::new(Mutex::new(Registry::default()));
        let opened = store::open(root.path(), self.database.clone(), purpose, self.quota).await?;
        let store = opened.store.clone();
        store.metrics().register(&mut registry.lock());
        let mut config = apiserver::Config::new(store.clone(), root.path());
        config.registry = Arc::clone(&registry);
        config.audit = self.audit.clone();
        config.names.clone_from(&self.names);
        config.max_watches = self.max_watches;
        config.max_connections = self.max_connections;
        if let Some(listen) = self.listen {
            config.listen = listen;
        }
        let stop = CancellationToken::new();
        let served = apiserver::serve(config, stop.clone()).await;
        let api = match served {
            Ok(server) => Api { store, server, registry, candidate: opened.candidate(), stop },
            Err(error) => {
                store.close().await;
                return Err(error.into());
            }
        };
        // Only now that all keys are there.
        match opened.note_credentials().await {
            Ok(()) => Ok(api),
            Err(error) => {
                api.end().await;
                Err(error)
            }
        }
    }
}

/// A store and the API server on it.
pub(crate) struct Api {
    pub(crate) store: Store,
    pub(crate) server: apiserver::Server,
    /// What `/metrics` shows.
    pub(crate) registry: Arc<Mutex<Registry>>,
    /// Where several servers may have the store.
    pub(crate) candidate: Option<Candidate>,
    /// The API server outlives the parts, so that their last words still reach it.
    stop: CancellationToken,
}

impl Api {
    /// Waits until a part ends by itself, or the store is lost, and says why; brings up to date meanwhile how far the root
    /// has seen its store.
    pub(crate) async fn watch(&self, root: &Root, parts: &mut Parts) -> anyhow::Error {
        tokio::select! {
            ended = parts.first_to_end() => ended,
            ended = self.store.ended() => lost(ended),
            never = store::seen::keep_noting(root.path(), &self.store) => match never {},
        }
    }

    /// Ends everything in the reverse order, and waits for none of it for ever; for nothing at all once somebody asks again.
    pub(crate) async fn leave(self, parts: Parts, signals: &mut Signals) {
        tokio::select! {
            () = self.end_after(parts) => {}
            () = signals.recv() => at_once(),
        }
    }

    async fn end_after(self, mut parts: Parts) {
        parts.stop.cancel();
        if tokio::time::timeout(LEAVE, parts.all_ended()).await.is_err() {
            tracing::warn!("some parts did not end within {LEAVE:?}; leaving without them");
        }
        self.end().await;
    }

    async fn end(self) {
        self.stop.cancel();
        if tokio::time::timeout(CLOSE, self.server.stopped()).await.is_err() {
            tracing::warn!("the API server did not end within {CLOSE:?}; leaving without it");
        }
        if tokio::time::timeout(CLOSE, self.store.close()).await.is_err() {
            tracing::warn!("the store was not closed within {CLOSE:?}; leaving without that");
        }
    }

    /// Where the kubeconfig is.
    pub(crate) fn kubeconfig(&self) -> &Path {
        &self.server.kubeconfig
    }
}

/// Somebody else has the store now, or it is another one: nothing here may act on what it said.
fn lost(ended: Ended) -> anyhow::Error {
    match ended {
        Ended::Lost(why) => anyhow!(why).context("the store was lost"),
        Ended::Closed => anyhow!("the store closed by itself"),
    }
}
