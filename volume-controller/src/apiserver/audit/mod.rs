//! The audit log: who asked for what, whether they might, and what came of it. One line of JSON a
//! request, an `Event` of `audit.k8s.io/v1`, for a watch when it begins, else when it is answered.

mod event;
mod log;
mod policy;

use std::path::PathBuf;
use std::sync::atomic::AtomicU64;
use std::time::Duration;

use axum::response::Response;
use prometheus_client::encoding::EncodeLabelSet;
use prometheus_client::metrics::counter::Counter;
use prometheus_client::metrics::family::Family;
use prometheus_client::registry::Registry;
use tokio::time::timeout;
use tokio_util::task::TaskTracker;

use super::error::ServeError;
use super::rbac::attributes::Attributes;
use super::user::User;
pub(crate) use event::{AUDIT_ID, Event};
use log::Log;
pub(crate) use policy::Level;
use policy::Policy;

/// How long requests whose clients have left have at the end.
const FAREWELL: Duration = Duration::from_secs(5);

/// An audit log.
#[derive(Debug, Clone)]
pub struct AuditConfig {
    /// The file that events are appended to, as lines of JSON.
    pub path: PathBuf,
    /// A `Policy` of `audit.k8s.io/v1`, as YAML or JSON. Without one every request is written down
    /// without bodies, but those about health and version.
    pub policy: Option<PathBuf>,
    /// The size in bytes at which the file is moved aside.
    pub max_bytes: u64,
    /// How many files that were moved aside are kept.
    pub max_backups: usize,
}

/// By which way an event was lost, in upstream's words.
#[derive(Debug, Clone, PartialEq, Eq, Hash, EncodeLabelSet)]
struct Plugin {
    plugin: &'static str,
}

/// Writes events down.
pub(crate) struct Audit {
    policy: Policy,
    log: Log,
    events: Counter<u64, AtomicU64>,
    /// Requests go on in these when their clients leave: what is done is written down.
    tasks: TaskTracker,
}

impl Audit {
    pub(crate) fn open(config: &AuditConfig, registry: &mut Registry) -> Result<Self, ServeError> {
        let policy = match &config.policy {
            None => Policy::standard().map_err(ServeError::Policy),
            Some(path) => {
                let file = |source| ServeError::File { doing: "read", path: path.clone(), source };
                let text = std::fs::read_to_string(path).map_err(file)?;
                Policy::read(&text).map_err(|why| ServeError::Policy(format!("{}: {why}", path.display())))
            }
        }?;
        let (events, errors) = (Counter::default(), Family::<Plugin, Counter<u64, AtomicU64>>::default());
        registry.register("apiserver_audit_event", "Events of the audit log", events.clone());
        registry.register("apiserver_audit_error", "Events that could not be written", errors.clone());
        let lost = errors.get_or_create(&Plugin { plugin: "log" }).clone();
        let log = Log::open(&config.path, config.max_bytes, config.max_backups, lost);
        let log =
            log.map_err(|source| ServeError::File { doing: "open", path: config.path.clone(), source })?;
        Ok(Self { policy, log, events, tasks: TaskTracker::new() })
    }

    /// How much is written of a request.
    pub(crate) fn level(&self, user: &User, asked: &Attributes) -> Level {
        self.policy.level(user, asked)
    }

    /// Does the work of a request to its end, even if nobody waits for it any more.
    pub(crate) async fn finish(
        &self,
        work: impl Future<Output = Response> + Send + 'static,
    ) -> Option<Response> {
        self.tasks.spawn(work).await.ok()
    }

    /// Writes an event down.
    pub(crate) async fn put(&self, event: Event) {
        self.events.inc();
        self.log.put(event.into_line()).await;
    }

    /// Returns when every event is in the file.
    pub(crate) async fn end(&self) {
        self.tasks.close();
        if timeout(FAREWELL, self.tasks.wait()).await.is_err() {
            tracing::warn!("some requests are still under way and will not be in the audit log");
        }
        self.log.end().await;
    }
}
