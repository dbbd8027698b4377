//! The store through its public interface, on real SQLite files and real PostgreSQL servers.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    reason = "a test may stop at the first thing that is wrong"
)]

mod backup;
mod basics;
mod check;
mod crash;
mod disk;
mod election;
mod file;
mod identity;
mod lost;
mod network;
mod order;
mod place;
mod postgres;
mod replicas;
mod sealed;
mod servers;
mod speed;
mod window;

use std::collections::BTreeMap;
use std::sync::Arc;
use std::time::Duration;

use holdfast_volume_controller::store::{
    Change, ChangeKind, Config, Key, Next, Object, Precondition, Sharing, Store, Transaction, Watch, Write,
};
use place::{Place, in_every_place};
use serde_json::{Value, json};
use tempfile::TempDir;

const CLAIMS: &str = "persistentvolumeclaims";

fn config(folder: &TempDir) -> Config {
    Config::new(folder.path().join("state.db"))
}

async fn fresh() -> (TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(config(&folder)).await.unwrap();
    (folder, store)
}

fn key(name: &str) -> Key {
    Key::new(CLAIMS, "default", name)
}

fn body(name: &str, value: u64) -> Value {
    json!({"metadata": {"name": name, "namespace": "default", "uid": format!("uid-{name}")}, "value": value})
}

fn write(name: &str, precondition: Precondition, body: Option<Value>) -> Write {
    Write { key: key(name), precondition, body }
}

fn create(name: &str) -> Write {
    write(name, Precondition::Absent, Some(body(name, 0)))
}

/// Creates or replaces, whatever is there.
async fn put(store: &Store, key: Key, body: Value) -> u64 {
    let precondition = if store.get(&key).is_some() { Precondition::Present } else { Precondition::Absent };
    store.commit(vec![Write { key, precondition, body: Some(body) }]).await.unwrap()[0].revision
}

fn value_of(object: &Object) -> u64 {
    object.decode::<Value>().unwrap()["value"].as_u64().unwrap()
}

/// Waits until something holds, and not for ever.
async fn eventually(what: &str, holds: impl Fn() -> bool) {
    let waiting = async {
        while !holds() {
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
    };
    tokio::time::timeout(Duration::from_secs(60), waiting).await.expect(what);
}

async fn next(watch: &mut Watch) -> Next {
    tokio::time::timeout(Duration::from_secs(30), watch.next()).await.expect("something in time").unwrap()
}

async fn next_change(watch: &mut Watch) -> Arc<Change> {
    loop {
        if let Next::Change(change) = next(watch).await {
            return change;
        }
    }
}

/// Every change up to and with `last`.
async fn changes_until(watch: &mut Watch, last: u64) -> Vec<Arc<Change>> {
    let mut changes = Vec::new();
    loop {
        match next(watch).await {
            Next::Change(change) => {
                let revision = change.revision;
                changes.push(change);
                if revision >= last {
                    return changes;
                }
            }
            Next::Progress(revision) if revision >= last => return changes,
            Next::Progress(_) => {}
        }
    }
}

/// The objects of all resources as the changes leave them.
type State = BTreeMap<Key, Arc<Object>>;

fn replay(state: &mut State, changes: &[Arc<Change>]) {
    for change in changes {
        let key = change.object.key.clone();
        let before = match change.kind {
            ChangeKind::Created | ChangeKind::Updated => state.insert(key, change.object.clone()),
            ChangeKind::Deleted => state.remove(&key),
        };
        assert_eq!(before, change.previous, "what change {} replaced", change.revision);
    }
}

fn listed(store: &Store, resources: &[&str]) -> State {
    let lists = resources.iter().map(|resource| store.list(resource, None, None, None));
    lists.flat_map(|list| list.objects).map(|object| (object.key.clone(), object)).collect()
}
