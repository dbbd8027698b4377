//! The store through its public interface, on real SQLite files.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    reason = "a test may stop at the first thing that is wrong"
)]

use std::time::Duration;

use holdfast_volume_controller::store::{
    Change, ChangeKind, CommitError, Config, Key, Next, OpenError, Precondition, Store, Watch, WatchError,
    Write,
};
use serde_json::{Value, json};

fn config(folder: &tempfile::TempDir) -> Config {
    Config::new(folder.path().join("state.db"))
}

async fn fresh() -> (tempfile::TempDir, Store) {
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(config(&folder)).await.unwrap();
    (folder, store)
}

fn key(name: &str) -> Key {
    Key::new("persistentvolumeclaims", "default", name)
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

async fn next_change(watch: &mut Watch) -> std::sync::Arc<Change> {
    loop {
        let next =
            tokio::time::timeout(Duration::from_secs(20), watch.next()).await.expect("a change in time");
        if let Next::Change(change) = next.unwrap() {
            return change;
        }
    }
}

#[tokio::test]
async fn what_is_written_is_read_listed_watched_and_there_after_a_restart() {
    let (folder, store) = fresh().await;
    let start = store.revision();
    assert_eq!(start, 1, "revision 0 means `any` to Kubernetes' clients");
    let mut watch = store.watch(&[], start).unwrap();

    let made = store.commit(vec![create("a"), create("b")]).await.unwrap();
    assert_eq!(made.iter().map(|one| one.revision).collect::<Vec<_>>(), [2, 3]);
    let stored: Value = made[0].object.decode().unwrap();
    assert_eq!(stored["metadata"]["resourceVersion"], "2");
    assert_eq!(&*made[0].object.uid, "uid-a");
    let changed = store
        .commit(vec![
            write("a", Precondition::Revision(2), Some(body("a", 7))),
            write("b", Precondition::Uid("uid-b".into()), None),
        ])
        .await
        .unwrap();
    let last: Value = changed[1].object.decode().unwrap();
    assert_eq!(last["metadata"]["resourceVersion"], "5", "a deletion's body carries the deletion's revision");

    for (revision, kind, previous) in [
        (2, ChangeKind::Created, None),
        (3, ChangeKind::Created, None),
        (4, ChangeKind::Updated, Some(2)),
        (5, ChangeKind::Deleted, Some(3)),
    ] {
        let change = next_change(&mut watch).await;
        assert_eq!((change.revision, change.kind), (revision, kind));
        assert_eq!(change.previous.as_ref().map(|previous| previous.revision), previous);
    }
    let before = store.list("persistentvolumeclaims", None, None, None);
    store.close().await;
    assert_eq!(watch.next().await.unwrap_err(), WatchError::Closed);
    assert!(matches!(store.commit(vec![create("c")]).await, Err(CommitError::Closed)));

    let store = Store::open(config(&folder)).await.unwrap();
    assert_eq!(store.revision(), 5);
    assert_eq!(store.list("persistentvolumeclaims", None, None, None).objects, before.objects);
    let mut watch = store.watch(&["persistentvolumeclaims"], 3).unwrap();
    let change = next_change(&mut watch).await;
    assert_eq!((change.revision, change.previous.as_ref().unwrap().revision), (4, 2), "watches resume");
    store.close().await;
}

#[tokio::test]
async fn a_second_open_is_refused_and_says_who_has_it() {
    let (folder, store) = fresh().await;
    let error = Store::open(config(&folder)).await.unwrap_err();
    let OpenError::InUse { pid, .. } = &error else { panic!("{error}") };
    assert_eq!(*pid, Some(std::process::id()));
    assert!(error.to_string().contains("state.db is in use by process"), "{error}");
    store.close().await;
    Store::open(config(&folder)).await.expect("free again after a close").close().await;
}
