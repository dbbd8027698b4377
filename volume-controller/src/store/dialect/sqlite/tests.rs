//! What a commit makes of a counter that is not where it was.

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
    sqlx::query("UPDATE revision SET current = 7").execute(connection).await.unwrap();
    let refused = sqlite.commit(&changes(1)).await.unwrap_err();
    assert!(matches!(refused, CommitFailure::Refused(_)), "{refused}");
    assert_eq!(count(&mut sqlite).await, 0);
    // It is read again before anything else is written.
    let Foreign::Changes(none) = sqlite.begin(7).await.unwrap() else { panic!("compacted") };
    assert!(none.is_empty());
    sqlite.commit(&changes(7)).await.unwrap();
    assert_eq!(count(&mut sqlite).await, 1);
    let connection = sqlite.connection().await.unwrap();
    assert_eq!(counter(connection).await.unwrap(), (8, 1));
    sqlite.close().await;
}
