//! What is and what is not opened.

use std::path::Path;

use super::*;
use holdfast_volume_controller::store::OpenError;
use sqlx::sqlite::{SqliteConnectOptions, SqliteConnection};
use sqlx::{ConnectOptions, Connection};

pub(crate) async fn connect(path: &Path) -> SqliteConnection {
    SqliteConnectOptions::new().filename(path).create_if_missing(true).connect().await.unwrap()
}

async fn run(path: &Path, sql: &'static str) {
    let mut connection = connect(path).await;
    sqlx::raw_sql(sql).execute(&mut connection).await.unwrap();
    connection.close().await.unwrap();
}

/// Opening fails, and not a byte of the file changes.
async fn refused(path: &Path) -> OpenError {
    let before = std::fs::read(path).unwrap();
    let error = Store::open(Config::new(path)).await.unwrap_err();
    assert_eq!(std::fs::read(path).unwrap(), before, "{error}");
    println!("{error}");
    error
}

#[tokio::test]
async fn a_second_open_is_refused_and_says_who_has_it() {
    let (folder, store) = fresh().await;
    let link = folder.path().join("link.db");
    std::os::unix::fs::symlink(folder.path().join("state.db"), &link).unwrap();
    for path in [folder.path().join("state.db"), link] {
        let error = Store::open(Config::new(path)).await.unwrap_err();
        let OpenError::InUse { holder, .. } = &error else { panic!("{error}") };
        assert_eq!(*holder, Some(format!("process {}", std::process::id())));
        assert!(error.to_string().contains("state.db is in use by process"), "{error}");
        assert!(error.is_retryable());
    }
    store.close().await;
    Store::open(config(&folder)).await.expect("free again after a close").close().await;
}

#[tokio::test]
async fn a_store_that_nobody_has_any_more_closes_itself() {
    let (folder, store) = fresh().await;
    store.commit(vec![create("a")]).await.unwrap();
    drop(store);
    let store = loop {
        match Store::open(config(&folder)).await {
            Ok(store) => break store,
            Err(OpenError::InUse { .. }) => tokio::time::sleep(Duration::from_millis(5)).await,
            Err(error) => panic!("{error}"),
        }
    };
    assert!(store.get(&key("a")).is_some());
    store.close().await;
}

#[tokio::test]
async fn a_tool_that_holds_the_file_is_waited_for_and_then_named() {
    let (folder, store) = fresh().await;
    store.close().await;
    let mut tool = connect(&folder.path().join("state.db")).await;
    sqlx::raw_sql("BEGIN; SELECT * FROM revision;").execute(&mut tool).await.unwrap();
    let error = Store::open(config(&folder)).await.unwrap_err();
    assert!(matches!(error, OpenError::InUse { holder: None, .. }), "{error}");
    tool.close().await.unwrap();
    Store::open(config(&folder)).await.unwrap().close().await;
}

#[tokio::test]
async fn only_the_owner_may_read_the_file() {
    use std::os::unix::fs::PermissionsExt;
    let (folder, store) = fresh().await;
    store.commit(vec![create("a")]).await.unwrap();
    for name in ["state.db", "state.db-wal", "state.db.lock"] {
        let mode = std::fs::metadata(folder.path().join(name)).unwrap().permissions().mode();
        assert_eq!(mode & 0o777, 0o600, "{name}");
    }
    let index = folder.path().join("state.db-shm");
    assert!(!index.exists(), "the WAL's index is in memory: a full disk must not keep it from being made");
    store.close().await;
}

#[tokio::test]
async fn a_newer_schema_is_refused() {
    let (folder, store) = fresh().await;
    store.close().await;
    let path = folder.path().join("state.db");
    run(&path, "UPDATE schema_version SET version = 99").await;
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Newer { found: 99, known: 3, .. }), "{error}");
}

/// A file as the first version of the schema had it, left by a process that was killed.
async fn old_file(path: &Path) {
    run(path, "PRAGMA journal_mode = WAL").await;
    run(path, include_str!("../../src/store/dialect/sqlite/1.sql")).await;
    run(
        path,
        r#"INSERT INTO change (revision, kind, previous, resource, namespace, name, body) VALUES
           (2, 0, NULL, 'persistentvolumeclaims', 'default', 'old', CAST('{"metadata":{"resourceVersion":"2"},"value":1}' AS BLOB)),
           (3, 1, 2, 'persistentvolumeclaims', 'default', 'old', CAST('{"metadata":{"resourceVersion":"3"},"value":2}' AS BLOB));
           INSERT INTO object VALUES ('persistentvolumeclaims', 'default', 'old', 3);
           UPDATE revision SET current = 3;"#,
    )
    .await;
}

#[tokio::test]
async fn an_older_file_is_brought_up_to_date() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    old_file(&path).await;
    for _ in 0..2 {
        let store = Store::open(Config::new(&*path)).await.unwrap();
        assert_eq!((store.revision(), value_of(&store.get(&key("old")).unwrap())), (3, 2));
        let changes = changes_until(&mut store.watch(&[], 1).unwrap(), 3).await;
        assert_eq!(changes.len(), 2, "its past is there as well");
        assert_eq!(store.incarnation(), 0);
        store.close().await;
    }
    let mut file = connect(&path).await;
    let (version, vacuum): (i64, i64) =
        sqlx::query_as("SELECT version, auto_vacuum FROM schema_version, pragma_auto_vacuum")
            .fetch_one(&mut file)
            .await
            .unwrap();
    assert_eq!((version, vacuum), (3, 2), "it can get smaller, like a new one");
    file.close().await.unwrap();
}

#[tokio::test]
async fn an_older_file_that_is_damaged_stays_as_it_is() {
    let folder = tempfile::tempdir().unwrap();
    let path = folder.path().join("state.db");
    old_file(&path).await;
    run(&path, "UPDATE revision SET current = 4").await;
    for _ in 0..2 {
        let error = refused(&path).await.to_string();
        assert!(error.contains("revision.compacted"), "{error}");
    }
}

#[tokio::test]
async fn foreign_files_are_refused() {
    let folder = tempfile::tempdir().unwrap();
    let text = folder.path().join("notes.txt");
    std::fs::write(&text, "These are my notes, and they are longer than a header.\n".repeat(100)).unwrap();
    assert!(matches!(refused(&text).await, OpenError::Foreign { .. }));
    let other = folder.path().join("other.db");
    run(&other, "CREATE TABLE theirs (id INTEGER)").await;
    assert!(matches!(refused(&other).await, OpenError::Foreign { .. }));
    let nowhere = Store::open(Config::new(folder.path().join("no/such/folder/state.db"))).await.unwrap_err();
    assert!(matches!(nowhere, OpenError::File { .. }), "{nowhere}");
    let directory = Store::open(Config::new(folder.path())).await.unwrap_err();
    assert!(matches!(directory, OpenError::File { .. }), "{directory}");
}

#[tokio::test]
async fn damage_is_found_at_the_start() {
    for (name, sql) in [
        ("a change is missing", "DELETE FROM change WHERE revision = 5"),
        ("the log is said to be compacted further back", "UPDATE revision SET compacted = 0"),
        ("what a change replaced is missing", "UPDATE change SET previous = 1 WHERE revision = 5"),
        ("a change replaced another object", "UPDATE change SET previous = 4 WHERE revision = 5"),
        ("a name is there twice", "UPDATE change SET name = 'claim-1' WHERE revision = 5"),
        ("a body is no object", "UPDATE change SET body = x'5b5d' WHERE revision = 9"),
    ] {
        let (folder, store) = fresh().await;
        for value in 0..10 {
            put(&store, key(&format!("claim-{value}")), body("x", value)).await;
        }
        store.close().await;
        let path = folder.path().join("state.db");
        run(&path, sql).await;
        let error = refused(&path).await;
        assert!(matches!(error, OpenError::Damaged { .. }), "{name}: {error}");
    }
    let (folder, store) = fresh().await;
    for value in 0..100 {
        put(&store, key(&format!("claim-{value}")), json!({"text": "x".repeat(2_000)})).await;
    }
    store.close().await;
    let path = folder.path().join("state.db");
    let mut bytes = std::fs::read(&path).unwrap();
    // Two pages in the middle, headers included.
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xaa);
    std::fs::write(&path, bytes).unwrap();
    let error = refused(&path).await;
    assert!(matches!(error, OpenError::Damaged { .. }), "{error}");
}
