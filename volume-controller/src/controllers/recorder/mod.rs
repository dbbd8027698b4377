//! Events: what the controllers tell people, as `core/v1` Event objects.
//!
//! Events are a courtesy: writing them never makes a controller wait, and none is
//! written twice within a short while, however often a decision is repeated.

use std::{
    collections::HashMap,
    future::Future,
    hash::{DefaultHasher, Hash, Hasher},
    time::Duration,
};

use futures::future::join_all;
use jiff::Timestamp;
use serde_json::{Value, json};
use tokio::{sync::mpsc, time::Instant};

use super::view::{self, EVENTS, NAMESPACES};
use crate::{
    lifecycle,
    store::{Key, Precondition, Store, Transaction, Write},
};

/// How many events may wait to be written; more are dropped.
const WAITING: usize = 4096;
/// How many are written at once.
const TOGETHER: usize = 64;
/// The same event is not repeated within this time.
const QUIET: Duration = Duration::from_secs(15);
/// Past this many remembered events those that are no longer quiet are forgotten.
const REMEMBERED: usize = 10_000;

/// How much an event matters.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Severity {
    Normal,
    Warning,
}

/// One thing to tell about one object.
#[derive(Debug, Clone)]
pub(crate) struct News {
    pub(crate) about: Key,
    pub(crate) component: &'static str,
    pub(crate) severity: Severity,
    pub(crate) reason: &'static str,
    pub(crate) message: String,
}

/// Takes events; cheap to clone.
#[derive(Clone)]
pub(crate) struct Recorder {
    sender: mpsc::Sender<News>,
}

impl Recorder {
    /// A recorder, and the task that writes. The task ends when the last recorder is gone.
    pub(crate) fn new(store: Store) -> (Self, impl Future<Output = ()> + Send) {
        let (sender, receiver) = mpsc::channel(WAITING);
        (Self { sender }, write_all(store, receiver))
    }

    /// Tells something; never waits.
    pub(crate) fn tell(&self, news: News) {
        if self.sender.try_send(news).is_err() {
            tracing::debug!("too many events at once: one was dropped");
        }
    }
}

async fn write_all(store: Store, mut receiver: mpsc::Receiver<News>) {
    let mut told: HashMap<u64, Instant> = HashMap::new();
    let mut batch = Vec::with_capacity(TOGETHER);
    while receiver.recv_many(&mut batch, TOGETHER).await > 0 {
        let fresh = batch.drain(..).filter_map(|news| fresh(&store, &mut told, news));
        join_all(fresh.map(|write| async {
            // One of a namespace that is just going, or of which a copy was written meanwhile.
            if let Err(error) = store.commit(write).await {
                tracing::debug!(%error, "an event was not written");
            }
        }))
        .await;
    }
}

/// The write of an event, unless it was told a moment ago or what it is about is gone.
fn fresh(store: &Store, told: &mut HashMap<u64, Instant>, news: News) -> Option<Transaction> {
    let object = store.get(&news.about)?;
    if is_going(store, &news.about.namespace) {
        return None;
    }
    let identity = identity(&news, &object.uid);
    let now = Instant::now();
    if told.get(&identity).is_some_and(|at| now - *at < QUIET) {
        return None;
    }
    if told.len() >= REMEMBERED {
        told.retain(|_, at| now - *at < QUIET);
    }
    told.insert(identity, now);
    tracing::info!(about = %news.about, reason = news.reason, "{}", news.message);
    let writes = vec![write(store, &news, &object.uid, identity)];
    Some(Transaction { writes, is_patient: true, ..Transaction::default() })
}

/// Whether a namespace is being deleted: nothing new may come to be in it.
fn is_going(store: &Store, namespace: &str) -> bool {
    let body =
        store.get(&Key::new(NAMESPACES, "", namespace)).and_then(|object| object.decode::<Value>().ok());
    body.is_some_and(|body| !body["metadata"]["deletionTimestamp"].is_null())
}

/// The same for the same event about the same object, also after a restart.
fn identity(news: &News, uid: &str) -> u64 {
    let mut hasher = DefaultHasher::new();
    (uid, news.component, news.severity, news.reason, &news.message).hash(&mut hasher);
    hasher.finish()
}

fn write(store: &Store, news: &News, uid: &str, identity: u64) -> Write {
    let time = Timestamp::now();
    let now = lifecycle::time(time);
    // Objects without a namespace have their events in `default`, as upstream.
    let namespace = if news.about.namespace.is_empty() { "default" } else { &news.about.namespace };
    let name = format!("{}.{identity:016x}", news.about.name);
    let key = Key::new(EVENTS, namespace, &name);
    match store.get(&key).and_then(|object| Some((object.revision, object.decode::<Value>().ok()?))) {
        Some((revision, mut body)) => {
            body["count"] = json!(body["count"].as_i64().unwrap_or(1).saturating_add(1));
            body["lastTimestamp"] = json!(now);
            lifecycle::update(key, Precondition::Revision(revision), body)
        }
        None => {
            let (api_version, kind) = view::kind_of(&news.about.resource);
            let body = json!({
                "apiVersion": "v1",
                "kind": "Event",
                "metadata": {},
                "involvedObject": {
                    "apiVersion": api_version, "kind": kind, "namespace": &*news.about.namespace,
                    "name": &*news.about.name, "uid": uid,
                },
                "reason": news.reason,
                "message": news.message,
                "type": match news.severity { Severity::Normal => "Normal", Severity::Warning => "Warning" },
                "source": {"component": news.component},
                "reportingComponent": news.component,
                "reportingInstance": "",
                "count": 1,
                "firstTimestamp": now,
                "lastTimestamp": now,
            });
            lifecycle::create(key, body, time)
        }
    }
}
