//! The caches that controllers are built on, kube-rs' `watcher`, `reflector` and `Controller`: over restarts of the server, and over
//! changes that nobody can tell them any more because the log of changes does not reach back that far.

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use futures::StreamExt;
use holdfast_volume_controller::store::{self, Key, Precondition, Store, Write};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::api::Api;
use kube::runtime::controller::{Action, Controller};
use kube::runtime::reflector::{self, reflector};
use kube::runtime::{WatchStreamExt, watcher};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinSet;

use super::harness::{Cluster, MAPS, PATIENCE, map};

/// The changes that the server remembers.
const WINDOW: usize = 20;

fn small_window(config: &mut store::Config) {
    config.log.changes = WINDOW;
}

/// What a client knows: the values of the objects by their names.
type Known = BTreeMap<String, String>;

fn entry(object: &ConfigMap) -> (String, String) {
    let value = object.data.as_ref().and_then(|data| data.get("n")).cloned();
    (object.metadata.name.clone().unwrap(), value.unwrap_or_default())
}

/// What there is.
fn truth(store: &Store) -> Known {
    let objects = store.list("configmaps", None, None, None).objects;
    objects.iter().map(|object| entry(&object.decode().unwrap())).collect()
}

/// Clients that begin with the server and outlive it.
struct Clients {
    /// Of a reflector that lists in pages, and of one that lists by a watch.
    reflectors: [reflector::Store<ConfigMap>; 2],
    /// What the first of them was told.
    told: Arc<Mutex<Vec<String>>>,
    /// What a controller has worked on last.
    reconciled: Arc<Mutex<Known>>,
    _tasks: JoinSet<()>,
}

impl Clients {
    fn start(client: &kube::Client) -> Self {
        let api: Api<ConfigMap> = Api::default_namespaced(client.clone());
        let (told, reconciled) = <(Arc<Mutex<Vec<String>>>, Arc<Mutex<Known>>)>::default();
        let mut tasks = JoinSet::new();
        let configs = [watcher::Config::default().page_size(3), watcher::Config::default().streaming_lists()];
        let reflectors = configs.map(|config| {
            let (reader, writer) = reflector::store();
            let told = (config.page_size == Some(3)).then(|| told.clone());
            let events = watcher(api.clone(), config).default_backoff().inspect(move |event| {
                if let (Some(told), Ok(event)) = (&told, event) {
                    told.lock().extend(describe(event));
                }
            });
            tasks.spawn(reflector(writer, events).for_each(|_| std::future::ready(())));
            reader
        });
        let reconcile = |object: Arc<ConfigMap>, known: Arc<Arc<Mutex<Known>>>| async move {
            let (name, value) = entry(&object);
            known.lock().insert(name, value);
            Ok::<_, std::convert::Infallible>(Action::await_change())
        };
        let again = |_: Arc<ConfigMap>, _: &_, _: Arc<Arc<Mutex<Known>>>| Action::requeue(Duration::ZERO);
        let controller = Controller::new(api, watcher::Config::default());
        let run = controller.run(reconcile, again, Arc::new(reconciled.clone()));
        tasks.spawn(run.for_each(|_| std::future::ready(())));
        Self { reflectors, told, reconciled, _tasks: tasks }
    }

    /// Waits until all of them know what there is: every object, and none that is gone.
    async fn agree_with(&self, store: &Store) {
        let truth = truth(store);
        let seen = |reader: &reflector::Store<ConfigMap>| -> Known {
            reader.state().iter().map(|object| entry(object)).collect()
        };
        let agreed = || {
            let reconciled = self.reconciled.lock();
            self.reflectors.iter().all(|reader| seen(reader) == truth)
                && truth.iter().all(|(name, value)| reconciled.get(name) == Some(value))
        };
        let wait = async {
            while !agreed() {
                tokio::time::sleep(Duration::from_millis(20)).await;
            }
        };
        // A client that found nobody at home comes back after some time only.
        if tokio::time::timeout(PATIENCE * 3, wait).await.is_err() {
            let [first, second] = self.reflectors.each_ref().map(seen);
            let reconciled = self.reconciled.lock();
            panic!("there is {truth:?}, but they know {first:?}, {second:?} and worked on {reconciled:?}");
        }
    }
}

fn describe(event: &watcher::Event<ConfigMap>) -> Option<String> {
    match event {
        watcher::Event::Init => Some("list".to_owned()),
        watcher::Event::Apply(object) => {
            let (name, value) = entry(object);
            Some(format!("{name}={value}"))
        }
        watcher::Event::Delete(object) => Some(format!("{} goes", entry(object).0)),
        watcher::Event::InitApply(_) | watcher::Event::InitDone => None,
    }
}

fn numbered(name: &str, number: usize) -> Value {
    let mut map = map(name);
    map["data"] = json!({"n": number.to_string()});
    map
}

/// Changes the store while no server runs on it.
async fn change(folder: &TempDir, changes: &[(&str, Option<usize>)]) {
    let mut config = store::Config::new(folder.path().join("state.db"));
    small_window(&mut config);
    let store = Store::open(config).await.unwrap();
    for (number, (name, value)) in changes.iter().enumerate() {
        let body = value.map(|value| {
            let mut body = numbered(name, value);
            body["metadata"]["namespace"] = json!("default");
            body["metadata"]["uid"] = json!(format!("made-while-nobody-served-{number}"));
            body
        });
        let key = Key::new("configmaps", "default", name);
        let is_there = store.get(&key).is_some();
        let precondition = if is_there { Precondition::Present } else { Precondition::Absent };
        store.commit(vec![Write { key, precondition, body }]).await.unwrap();
    }
    store.close().await;
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn they_know_all_and_nothing_that_is_gone() {
    let mut cluster = Cluster::start_with(small_window).await;
    for name in ["a", "b", "c", "d", "e", "f", "g"] {
        cluster.post(MAPS, &numbered(name, 0)).await.expect(201);
    }
    let clients = Clients::start(&cluster.client);
    clients.agree_with(&cluster.store).await;
    cluster.put(&format!("{MAPS}/a"), &numbered("a", 1)).await.expect(200);
    cluster.delete(&format!("{MAPS}/b")).await.expect(200);
    clients.agree_with(&cluster.store).await;
    assert_eq!(*clients.told.lock(), ["list", "a=1", "b goes"]);

    // Few changes while nobody serves: each is told, once and in order, and nothing is listed again.
    clients.told.lock().clear();
    let folder = cluster.stop().await;
    change(&folder, &[("c", Some(1)), ("d", None), ("h", Some(0)), ("c", Some(2))]).await;
    cluster = Cluster::start_in(folder, small_window).await;
    clients.agree_with(&cluster.store).await;
    cluster.delete(&format!("{MAPS}/h")).await.expect(200);
    clients.agree_with(&cluster.store).await;
    assert_eq!(*clients.told.lock(), ["c=1", "d goes", "h=0", "c=2", "h goes"]);

    // More than the server remembers: an object that came and went, one that was made anew, one that is gone.
    clients.told.lock().clear();
    let folder = cluster.stop().await;
    let mut changes = vec![("e", None), ("x", Some(0)), ("x", None), ("f", None), ("f", Some(7))];
    changes.extend((0..2 * WINDOW).map(|number| ("g", Some(number))));
    change(&folder, &changes).await;
    cluster = Cluster::start_in(folder, small_window).await;
    clients.agree_with(&cluster.store).await;
    assert_eq!(*clients.told.lock(), ["list"]);
    let known = clients.reflectors[0].state().iter().map(|object| entry(object)).collect::<Known>();
    assert!(!known.contains_key("e") && !known.contains_key("x") && known["f"] == "7", "{known:?}");

    // They go on from there, whatever comes how fast.
    for number in 0..3 * WINDOW {
        cluster.put(&format!("{MAPS}/a"), &numbered("a", 100 + number)).await.expect(200);
    }
    cluster.post(MAPS, &numbered("z", 9)).await.expect(201);
    clients.agree_with(&cluster.store).await;
    cluster.stop().await;
}
