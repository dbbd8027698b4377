//! What the writer makes of a database that fails at the worst moment, and of one
//! that others write to: the real SQLite, with faults put between.

use std::collections::VecDeque;
use std::sync::Arc;
use std::time::Duration;

use async_trait::async_trait;
use parking_lot::Mutex;
use serde_json::json;

use super::dialect::{CommitFailure, Dialect, DialectError, Foreign, Loaded, Settled, Size, Sqlite};
use super::plan::Plan;
use super::{Change, Restored, Term, Watch};
use super::{ChangeKind, CommitError, Config, Key, Next, Precondition, Store, Write, open};

enum Fault {
    /// COMMIT does its work and reports an error.
    CommitHappens,
    /// COMMIT does nothing and reports an error.
    CommitFails,
    /// A row cannot be written.
    AppendFails,
    /// The connection is gone.
    BeginFails,
    /// Nobody can tell what became of the commit.
    SettleFails,
    /// Another replica commits these just before.
    Foreign(Vec<Write>),
}

struct Faulty {
    inner: Sqlite,
    faults: Arc<Mutex<VecDeque<Fault>>>,
}

impl Faulty {
    /// The next fault, if it is one that this step is subject to.
    fn next(&self, concerns: fn(&Fault) -> bool) -> Option<Fault> {
        let mut faults = self.faults.lock();
        if concerns(faults.front()?) { faults.pop_front() } else { None }
    }
}

fn error() -> DialectError {
    DialectError { doing: "go on", source: sqlx::Error::Io(std::io::ErrorKind::StorageFull.into()).into() }
}

#[async_trait]
impl Dialect for Faulty {
    fn term(&self) -> Option<Term> {
        self.inner.term()
    }

    async fn load(&mut self, changes: usize) -> Result<Loaded, DialectError> {
        self.inner.load(changes).await
    }

    async fn begin(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        match self.next(|fault| matches!(fault, Fault::BeginFails | Fault::Foreign(_))) {
            Some(Fault::Foreign(writes)) => {
                let current = self.inner.load(0).await?;
                let mut plan = Plan::new(current.revision, |key: &Key| {
                    let row = current.objects.iter().find(|row| row.key == *key)?;
                    let (key, revision, body) = (row.key.clone(), row.revision, row.body.clone());
                    Some(Arc::new(super::Object { key, revision, uid: "".into(), body }))
                });
                plan.admit(writes).unwrap();
                self.inner.begin(seen).await?;
                self.inner.commit(&plan.into_changes()).await.unwrap();
                self.inner.begin(seen).await
            }
            Some(_) => Err(error()),
            None => self.inner.begin(seen).await,
        }
    }

    async fn rollback(&mut self) -> Result<(), DialectError> {
        self.inner.rollback().await
    }

    async fn commit(&mut self, changes: &[Arc<Change>]) -> Result<(), CommitFailure> {
        let concerns =
            |fault: &Fault| matches!(fault, Fault::CommitHappens | Fault::CommitFails | Fault::AppendFails);
        match self.next(concerns) {
            Some(Fault::CommitHappens) => {
                self.inner.commit(changes).await?;
                Err(CommitFailure::Unknown(error()))
            }
            Some(Fault::CommitFails) => {
                self.inner.rollback().await.map_err(CommitFailure::Refused)?;
                Err(CommitFailure::Unknown(error()))
            }
            Some(_) => {
                self.inner.rollback().await.map_err(CommitFailure::Refused)?;
                Err(CommitFailure::Refused(error()))
            }
            None => self.inner.commit(changes).await,
        }
    }

    async fn settle(&mut self, base: u64, last: u64) -> Result<Settled, DialectError> {
        match self.next(|fault| matches!(fault, Fault::SettleFails)) {
            Some(_) => Err(error()),
            None => self.inner.settle(base, last).await,
        }
    }

    async fn tail(&mut self, seen: u64) -> Result<Foreign, DialectError> {
        self.inner.tail(seen).await
    }

    async fn changed(&mut self) {
        self.inner.changed().await;
    }

    async fn compact(&mut self, to: u64) -> Result<u64, DialectError> {
        self.inner.compact(to).await
    }

    async fn maintain(&mut self, is_idle: bool) -> Result<(), DialectError> {
        self.inner.maintain(is_idle).await
    }

    async fn integrity(&mut self) -> Result<Vec<String>, DialectError> {
        self.inner.integrity().await
    }

    async fn fill(&mut self, changes: &[Arc<Change>], restored: Restored) -> Result<(), DialectError> {
        self.inner.fill(changes, restored).await
    }

    async fn size(&mut self) -> Result<Size, DialectError> {
        self.inner.size().await
    }

    fn contradicted(&mut self, seen: u64) {
        self.inner.contradicted(seen);
    }

    fn lost(&self) -> Option<&str> {
        self.inner.lost()
    }

    async fn close(&mut self) {
        self.inner.close().await;
    }
}

/// A store with `before` in it that then meets the faults, in this order.
async fn faulty(folder: &tempfile::TempDir, faults: Vec<Fault>) -> (Store, Watch) {
    let config = Config::new(folder.path().join("state.db"));
    let store = Store::open(config.clone()).await.unwrap();
    store.commit(vec![create("before")]).await.unwrap();
    store.close().await;
    let inner = Sqlite::open(&folder.path().join("state.db")).await.unwrap();
    let dialect = Faulty { inner, faults: Arc::new(Mutex::new(faults.into())) };
    let store = open::start(Box::new(dialect), config).await.unwrap();
    let watch = store.watch(&[], store.revision()).unwrap();
    (store, watch)
}

fn key(name: &str) -> Key {
    Key::new("pods", "default", name)
}

fn write(name: &str, precondition: Precondition) -> Write {
    Write { key: key(name), precondition, body: Some(json!({"metadata": {"name": name}})) }
}

fn create(name: &str) -> Write {
    write(name, Precondition::Absent)
}

/// The names and revisions of the next changes.
async fn seen(watch: &mut Watch, count: usize) -> Vec<(String, u64)> {
    let mut changes = Vec::new();
    while changes.len() < count {
        let next = tokio::time::timeout(Duration::from_secs(20), watch.next()).await.unwrap();
        if let Next::Change(change) = next.unwrap() {
            changes.push((change.object.key.name.to_string(), change.revision));
        }
    }
    changes
}

/// After everything: the same objects in a store that reads the file anew.
async fn reopened(folder: &tempfile::TempDir, store: Store) {
    store.close().await;
    let again = Store::open(Config::new(folder.path().join("state.db"))).await.unwrap();
    assert_eq!(again.revision(), store.revision());
    assert_eq!(again.list("pods", None, None, None).objects, store.list("pods", None, None, None).objects);
    again.close().await;
}

#[tokio::test]
async fn a_commit_that_happened_although_it_failed_is_a_success() {
    let folder = tempfile::tempdir().unwrap();
    let (store, mut watch) = faulty(&folder, vec![Fault::CommitHappens, Fault::SettleFails]).await;
    assert_eq!(store.commit(vec![create("a"), create("b")]).await.unwrap()[1].revision, 4);
    assert_eq!(store.commit(vec![create("c")]).await.unwrap()[0].revision, 5);
    assert_eq!(seen(&mut watch, 3).await, [("a".into(), 3), ("b".into(), 4), ("c".into(), 5)]);
    reopened(&folder, store).await;
}

#[tokio::test]
async fn a_commit_that_did_not_happen_takes_no_revision() {
    for fault in [Fault::CommitFails, Fault::AppendFails] {
        let folder = tempfile::tempdir().unwrap();
        let (store, mut watch) = faulty(&folder, vec![fault]).await;
        let refused = store.commit(vec![create("a")]).await.unwrap_err();
        assert!(matches!(refused, CommitError::Full(_)), "{refused}");
        assert!(store.get(&key("a")).is_none());
        assert_eq!(store.commit(vec![create("a")]).await.unwrap()[0].revision, 3);
        assert_eq!(seen(&mut watch, 1).await, [("a".into(), 3)]);
        reopened(&folder, store).await;
    }
}

#[tokio::test]
async fn a_lost_connection_is_replaced() {
    let folder = tempfile::tempdir().unwrap();
    let (store, _watch) = faulty(&folder, vec![Fault::BeginFails]).await;
    store.commit(vec![create("a")]).await.expect("the second attempt to begin works");
    reopened(&folder, store).await;
}

#[tokio::test]
async fn while_nobody_knows_nothing_is_written() {
    for fault in [Fault::CommitHappens, Fault::CommitFails] {
        let happens = matches!(fault, Fault::CommitHappens);
        let folder = tempfile::tempdir().unwrap();
        let mut faults = vec![fault];
        // Five attempts while the caller waits, one for the write after it.
        faults.extend((0..6).map(|_| Fault::SettleFails));
        let (store, mut watch) = faulty(&folder, faults).await;
        let unknown = store.commit(vec![create("a")]).await.unwrap_err();
        assert!(matches!(unknown, CommitError::Unknown(_)), "{unknown}");
        assert!(!unknown.is_retryable());
        let refused = store.commit(vec![create("b")]).await.unwrap_err();
        assert!(matches!(refused, CommitError::Database(_)), "{refused}");
        assert!(refused.to_string().contains("earlier write"), "{refused}");
        assert!(store.get(&key("before")).is_some(), "reads go on");
        assert!(store.get(&key("a")).is_none(), "what may not have happened is not shown");

        let next = store.commit(vec![create("b")]).await.unwrap()[0].revision;
        assert_eq!(store.get(&key("a")).is_some(), happens, "what is known is shown");
        if happens {
            assert_eq!(seen(&mut watch, 2).await, [("a".into(), 3), ("b".into(), next)]);
        } else {
            assert_eq!(seen(&mut watch, 1).await, [("b".into(), next)]);
        }
        assert_eq!(next, if happens { 4 } else { 3 });
        reopened(&folder, store).await;
    }
}

#[tokio::test]
async fn what_others_committed_is_known_before_preconditions_are_checked() {
    let folder = tempfile::tempdir().unwrap();
    let first = vec![create("a"), write("before", Precondition::Present), create("c")];
    let second = vec![Write { body: None, ..write("c", Precondition::Present) }];
    let (store, mut watch) = faulty(&folder, vec![Fault::Foreign(first), Fault::Foreign(second)]).await;
    let refused = store.commit(vec![create("a")]).await.unwrap_err();
    assert!(matches!(refused, CommitError::Exists { ref current, .. } if current.revision == 3), "{refused}");
    assert_eq!(store.revision(), 5, "it is visible although the transaction was refused");
    let done = store.commit(vec![create("c"), write("before", Precondition::Revision(4))]).await.unwrap();
    assert_eq!((done[0].revision, done[1].revision), (7, 8));
    let names = ["a", "before", "c", "c", "c", "before"];
    let expected: Vec<(String, u64)> = names.iter().map(|name| (*name).to_owned()).zip(3..).collect();
    assert_eq!(seen(&mut watch, 6).await, expected);
    let mut past = store.watch(&[], 2).unwrap();
    for (kind, previous) in [
        (ChangeKind::Created, None),
        (ChangeKind::Updated, Some(2)),
        (ChangeKind::Created, None),
        (ChangeKind::Deleted, Some(5)),
        (ChangeKind::Created, None),
        (ChangeKind::Updated, Some(4)),
    ] {
        let Next::Change(change) = past.next().await.unwrap() else { panic!("changes come first") };
        assert_eq!(
            (change.kind, change.previous.as_ref().map(|previous| previous.revision)),
            (kind, previous)
        );
    }
    reopened(&folder, store).await;
}
