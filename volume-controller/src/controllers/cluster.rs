//! A small cluster for tests: a real store in a folder of its own, and, where
//! wanted, all the controllers running on it.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::{task::JoinHandle, time::timeout};
use tokio_util::sync::CancellationToken;

use super::{
    Config, Error, Metrics,
    engine::{Io, Underway},
    nodelifecycle::Pulses,
    recorder::Recorder,
    run,
    view::{self, Index, RESOURCES, View, fixture::Made},
};
use crate::{
    lifecycle,
    store::{self, ChangeKind, Key, Precondition, Store, Write},
};

/// Nothing here takes so long; more is a hang.
const PATIENCE: Duration = Duration::from_secs(60);

pub(crate) struct Cluster {
    pub(crate) store: Store,
    pub(crate) metrics: Metrics,
    cancel: CancellationToken,
    running: Option<JoinHandle<Result<(), Error>>>,
    _folder: TempDir,
}

impl Cluster {
    /// A store with these objects.
    pub(crate) async fn new(objects: &[Made]) -> Self {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Config::new(folder.path().join("state.db"))).await.unwrap();
        let cluster = Self {
            store,
            metrics: Metrics::default(),
            cancel: CancellationToken::new(),
            running: None,
            _folder: folder,
        };
        cluster.create(objects).await;
        cluster
    }

    /// The same, with the controllers running.
    pub(crate) async fn started(objects: &[Made]) -> Self {
        let mut cluster = Self::new(objects).await;
        cluster.start();
        cluster
    }

    pub(crate) fn start(&mut self) {
        let config = Config { metrics: self.metrics.clone(), ..Config::new(self.store.clone()) };
        self.cancel = CancellationToken::new();
        self.running = Some(tokio::spawn(run(config, self.cancel.clone())));
    }

    /// Stops the controllers and waits until all of them have ended.
    pub(crate) async fn stop(&mut self) {
        self.cancel.cancel();
        if let Some(running) = self.running.take() {
            timeout(PATIENCE, running).await.expect("the controllers do not stop").unwrap().unwrap();
        }
    }

    /// What one controller works with, and the task that keeps its view.
    pub(crate) async fn io(&self) -> (Io, JoinHandle<()>) {
        let (recorder, write_events) = Recorder::new(self.store.clone());
        let index = Arc::new(Index::new());
        let io = Io {
            store: self.store.clone(),
            index: Arc::clone(&index),
            recorder,
            underway: Underway::default(),
            pulses: Pulses::default(),
            metrics: self.metrics.clone(),
        };
        let store = self.store.clone();
        let feeding = tokio::spawn(async move {
            tokio::join!(write_events, async { view::feed(&index, &store).await.unwrap_err() });
        });
        io.index.filled().await;
        (io, feeding)
    }

    /// Creates objects with the UIDs that they have, all in one transaction.
    pub(crate) async fn create(&self, objects: &[Made]) {
        let writes = objects.iter().map(|made| Write {
            key: made.key(),
            precondition: Precondition::Absent,
            body: Some(made.0.clone()),
        });
        self.store.commit(writes.collect::<Vec<_>>()).await.unwrap();
    }

    pub(crate) fn get(&self, key: &Key) -> Option<Value> {
        self.store.get(key).map(|object| object.decode().unwrap())
    }

    /// Changes an object as a client would: again when somebody was faster.
    pub(crate) async fn edit(&self, key: &Key, edit: impl Fn(&mut Value)) {
        self.write(key, |revision, mut body| {
            edit(&mut body);
            lifecycle::update(key.clone(), revision, body)
        })
        .await;
    }

    /// Begins a deletion, as a client would.
    pub(crate) async fn delete(&self, key: &Key) {
        let now = jiff::Timestamp::now();
        self.write(key, |revision, body| lifecycle::delete(key.clone(), revision, body, 0, now)).await;
    }

    pub(crate) async fn write(&self, key: &Key, write: impl Fn(Precondition, Value) -> Write) {
        loop {
            let object = self.store.get(key).unwrap_or_else(|| panic!("{key} is not there"));
            let write = write(Precondition::Revision(object.revision), object.decode().unwrap());
            match self.store.commit(vec![write]).await {
                Ok(_) => return,
                Err(store::CommitError::Conflict { .. }) => {}
                Err(error) => panic!("{error}"),
            }
        }
    }

    /// Waits until a condition holds; looks again after every change.
    pub(crate) async fn until(&self, what: &str, holds: impl Fn(&Self) -> bool) {
        let waiting = async {
            loop {
                let mut watch = self.store.watch(&[], self.store.revision()).unwrap();
                if holds(self) {
                    return;
                }
                let _ = watch.next().await;
            }
        };
        timeout(PATIENCE, waiting).await.unwrap_or_else(|_| panic!("waited in vain until {what}"));
    }

    /// Waits until something holds for each of these objects.
    pub(crate) async fn until_each(&self, keys: &[Key], what: &str, holds: impl Fn(&Value) -> bool) {
        for key in keys {
            self.until(what, |cluster| cluster.get(key).is_some_and(|body| holds(&body))).await;
        }
    }

    pub(crate) async fn until_gone(&self, key: &Key) {
        self.until(&format!("{key} is gone"), |cluster| cluster.get(key).is_none()).await;
    }

    /// Waits until an event with this reason is told about an object.
    pub(crate) async fn until_told(&self, uid: &str, reason: &str) {
        self.until(&format!("{reason} is told of {uid}"), |cluster| {
            let events = cluster.store.list("events", None, None, None).objects;
            events.iter().any(|event| {
                let event: Value = event.decode().unwrap();
                event["involvedObject"]["uid"] == uid && event["reason"] == reason
            })
        })
        .await;
    }

    /// The present as the controllers would see it.
    pub(crate) fn view(&self) -> View {
        let mut view = View::default();
        for resource in RESOURCES {
            for object in self.store.list(resource, None, None, None).objects {
                view.apply(ChangeKind::Created, object.revision, &object);
            }
        }
        view
    }

    /// Every claim's volume and every volume's claim (by UID), checked against each other: what is
    /// bound is bound on both sides, and to one only.
    pub(crate) fn owners(&self) -> BTreeMap<String, String> {
        let view = self.view();
        let mut owners = BTreeMap::new();
        for claim in view.claims.iter().filter(|claim| view::claim_phase(claim) == "Bound") {
            let name = view::claim_volume(claim).unwrap();
            let volume =
                view.volumes.get("", name).unwrap_or_else(|| panic!("{name}, of {}, is gone", claim.key));
            assert_eq!(view::claim_ref_uid(volume), Some(&*claim.uid), "{name} does not know {}", claim.key);
            assert_eq!(view::volume_phase(volume), "Bound", "{name}");
            assert!(owners.insert(name.to_owned(), claim.uid.to_string()).is_none(), "{name} has two owners");
        }
        owners
    }
}

/// An edit that replaces a field of a status.
pub(crate) fn status(field: &'static str, value: impl Into<Value>) -> impl Fn(&mut Value) {
    let value = value.into();
    move |body| body["status"][field] = json!(value)
}
