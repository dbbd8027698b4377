//! What a commit makes of a log that somebody else has continued.

use serde_json::json;

use super::*;
use crate::store::plan::Plan;
use crate::store::{Key, Precondition, Write};

fn changes(base: u64) -> Vec<Arc<Change>> {
    let mut plan = Plan::new(base, |_: &Key| None);
    let body = Some(json!({"metadata": {"name": "a"}}));
    plan.admit(vec![Write {
        key: Key::new("pods", "default", "a"),
        precondition: Precondition::Absent,
        body,
    }])
    .unwrap();
    plan.into_changes()
}

async fn count(sqlite: &mut Sqlite) -> i64 {
    let connection = sqlite.connection().await.unwrap();
    sqlx::query_scalar("SELECT count(*) FROM change").fetch_one(connection).await.unwrap()
}

#[tokio::test]
async fn a_commit_onto_another_revision_is_refused_whole() {
    let folder = tempfile::tempdir().unwrap();
    let mut sqlite = Sqlite::open(&folder.path().join("state.db")).await.unwrap();
    let unread = sqlite.commit(&changes(1)).await.unwrap_err();
    assert!(matches!(unread, CommitFailure::Refused(_)), "nothing was begun: {unread}");
    sqlite.begin(1).await.unwrap();
    // As if somebody had got past the lock.
    let connection = sqlite.connection().await.unwrap();
    let other = "INSERT INTO change (revision, kind, resource, namespace, name, body) VALUES (2, 0, 'pods', 'x', 'b', x'')";
    sqlx::query(other).execute(connection).await.unwrap();
    let refused = sqlite.commit(&changes(1)).await.unwrap_err();
    assert!(matches!(refused, CommitFailure::Refused(_)), "{refused}");
    assert_eq!(count(&mut sqlite).await, 1);
    // It is read again before anything else is written.
    let Foreign::Changes(theirs) = sqlite.begin(1).await.unwrap() else { panic!("compacted") };
    assert_eq!(theirs.len(), 1);
    let gap = sqlite.commit(&changes(7)).await.unwrap_err();
    assert!(matches!(gap, CommitFailure::Refused(_)), "{gap}");
    sqlite.begin(2).await.unwrap();
    sqlite.commit(&changes(2)).await.unwrap();
    assert_eq!(count(&mut sqlite).await, 2);
    let connection = sqlite.connection().await.unwrap();
    assert_eq!(counter(connection).await.unwrap(), (3, 1));
    sqlite.close().await;
}
