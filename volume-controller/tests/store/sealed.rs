//! Secrets at rest: in no file of the database, and readable with the right keys only.

use std::path::Path;

use super::*;
use base64::Engine as _;
use base64::engine::general_purpose::STANDARD;
use holdfast_test_needs::{Need, missing};
use holdfast_volume_controller::store::OpenError;
use sqlx::AssertSqlSafe;
use tokio::process::Command;

in_every_place! {
    a_lost_key_is_said_in_one_line,
    a_key_is_replaced_and_everything_written_anew,
    what_was_in_the_clear_is_encrypted,
    a_moved_body_is_refused,
}

const SECRETS: &str = "secrets";
const MARK: &str = "the-plaintext-of-a-secret";

fn secret(name: &str, resource: &str, value: &str) -> Write {
    let body = json!({"metadata": {"name": name, "namespace": "default", "uid": name}, "data": {"a": value}});
    Write { key: Key::new(resource, "default", name), precondition: Precondition::Absent, body: Some(body) }
}

fn sealed(place: &Place, keys: &Path) -> Config {
    let mut config = place.config();
    config.keys = Some(keys.to_owned());
    config
}

/// One line of a file of keys.
fn line(byte: u8) -> String {
    format!("{}\n", STANDARD.encode([byte; 32]))
}

fn text(store: &Store, name: &str) -> String {
    let object = store.get(&Key::new(SECRETS, "default", name)).unwrap();
    object.decode::<Value>().unwrap()["data"]["a"].as_str().unwrap().to_owned()
}

async fn refused(config: Config) -> String {
    let error = Store::open(config).await.unwrap_err();
    assert!(matches!(error, OpenError::Database { .. }), "{error:?}");
    let text = error.to_string();
    println!("{text}");
    assert!(!text.contains('\n'), "{text}");
    text
}

/// How many bodies in the database begin as encrypted ones do.
async fn count(place: &Place) -> i64 {
    let sql = match place {
        Place::File { .. } => "SELECT count(*) FROM change WHERE substr(body, 1, 4) = x'00687331'",
        Place::Postgres { .. } => {
            "SELECT count(*) FROM change WHERE substring(body FROM 1 FOR 4) = '\\x00687331'::bytea"
        }
    };
    place.number(sql).await
}

async fn a_lost_key_is_said_in_one_line(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    store.commit(vec![secret("s", SECRETS, MARK)]).await.unwrap();
    store.close().await;
    let kept = std::fs::read(&keys).unwrap();
    std::fs::remove_file(&keys).unwrap();
    let why = refused(sealed(&place, &keys)).await;
    assert!(
        why.contains("secrets default/s is encrypted with the key") && why.contains("restore that file"),
        "{why}"
    );
    assert!(!keys.exists(), "a new key would hide that the old one is lost");
    std::fs::write(&keys, line(9)).unwrap();
    refused(sealed(&place, &keys)).await;
    assert!(Store::open(place.config()).await.is_err(), "without any keys");
    std::fs::write(&keys, kept).unwrap();
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    assert_eq!(text(&store, "s"), MARK);
    store.close().await;
}

async fn a_key_is_replaced_and_everything_written_anew(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    std::fs::write(&keys, line(1)).unwrap();
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    for name in ["a", "b", "c"] {
        store.commit(vec![secret(name, SECRETS, MARK)]).await.unwrap();
    }
    let before = store.revision();
    store.close().await;
    std::fs::write(&keys, line(2) + &line(1)).unwrap();
    let mut config = sealed(&place, &keys);
    config.log.changes = 1;
    let store = Store::open(config.clone()).await.unwrap();
    assert_eq!(store.revision(), before + 3, "each is written anew");
    // The log still needs the old key, until it is compacted. What came last stays in it.
    put(&store, Key::new(CLAIMS, "default", "x"), body("x", 1)).await;
    put(&store, Key::new(CLAIMS, "default", "x"), body("x", 2)).await;
    eventually("compacted", || store.compacted() + 1 >= store.revision()).await;
    let now = store.revision();
    store.close().await;
    std::fs::write(&keys, line(2)).unwrap();
    let store = Store::open(config).await.unwrap();
    assert_eq!((text(&store, "b").as_str(), store.revision()), (MARK, now), "nothing is left to do");
    store.close().await;
}

async fn what_was_in_the_clear_is_encrypted(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let store = place.open().await;
    store.commit(vec![secret("s", SECRETS, MARK), secret("m", "configmaps", "b")]).await.unwrap();
    store.close().await;
    assert_eq!(count(&place).await, 0);
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    assert_eq!(text(&store, "s"), MARK);
    store.close().await;
    assert_eq!(count(&place).await, 1, "the secret, and not the rest");
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    assert_eq!(text(&store, "s"), MARK);
    store.close().await;
}

/// Whoever can write to the database, and has not the keys, cannot make one secret pass for another.
async fn a_moved_body_is_refused(place: Place) {
    let folder = tempfile::tempdir().unwrap();
    let keys = folder.path().join("keys");
    let store = Store::open(sealed(&place, &keys)).await.unwrap();
    store.commit(vec![secret("mine", SECRETS, "known"), secret("theirs", SECRETS, MARK)]).await.unwrap();
    store.close().await;
    let sql = "UPDATE change SET body = (SELECT body FROM change WHERE name = 'theirs') WHERE name = 'mine'";
    match &place {
        Place::File { path, .. } => {
            let mut file = file::connect(path).await;
            sqlx::query(AssertSqlSafe(sql)).execute(&mut file).await.unwrap();
            sqlx::Connection::close(file).await.unwrap();
        }
        Place::Postgres { .. } => {
            sqlx::query(AssertSqlSafe(sql)).execute(&mut place.connect().await).await.unwrap();
        }
    }
    let why = refused(sealed(&place, &keys)).await;
    assert!(why.contains("secrets default/mine") && why.contains("damaged or was moved"), "{why}");
}

/// Writes, changes and deletes a secret, and something that is none.
async fn live(store: &Store) {
    store.commit(vec![secret("s", SECRETS, MARK), secret("m", "configmaps", "in-the-clear")]).await.unwrap();
    let key = Key::new(SECRETS, "default", "s");
    for _ in 0..3 {
        put(store, key.clone(), secret("s", SECRETS, MARK).body.unwrap()).await;
    }
    store.commit(vec![Write { key, precondition: Precondition::Present, body: None }]).await.unwrap();
    store.commit(vec![secret("t", SECRETS, MARK)]).await.unwrap();
}

/// The files below a folder that contain a text.
async fn found(text: &str, folder: &Path) -> Vec<String> {
    let output = Command::new("grep").args(["-rlaF", text]).arg(folder).output().await.unwrap();
    String::from_utf8(output.stdout).unwrap().lines().map(str::to_owned).collect()
}

#[tokio::test]
async fn no_file_of_sqlite_has_it() {
    let folder = tempfile::tempdir().unwrap();
    let mut config = config(&folder);
    config.keys = Some(folder.path().join("keys"));
    let store = Store::open(config).await.unwrap();
    live(&store).await;
    let wal = folder.path().join("state.db-wal");
    assert!(wal.metadata().unwrap().len() > 0, "there is a log to look into");
    for is_open in [true, false] {
        assert!(!found("in-the-clear", folder.path()).await.is_empty(), "the search finds what is there");
        assert_eq!(found(MARK, folder.path()).await, Vec::<String>::new());
        if is_open {
            store.close().await;
        }
    }
}

#[tokio::test]
async fn no_file_of_postgresql_has_it() {
    if missing(&[Need::Root, Need::Program("pg_dump")]) {
        return;
    }
    let Some(server) =
        holdfast_test_needs::postgres::Cluster::start(holdfast_test_needs::postgres::Durability::Full)
    else {
        return;
    };
    let place = Place::on(&server).await;
    let folder = tempfile::tempdir().unwrap();
    let store = Store::open(sealed(&place, &folder.path().join("keys"))).await.unwrap();
    live(&store).await;
    sqlx::raw_sql("CHECKPOINT").execute(&mut place.connect().await).await.unwrap();
    let data = place.socket().parent().unwrap().to_owned();
    assert!(!found("in-the-clear", &data).await.is_empty(), "the search finds what is there: {data:?}");
    assert_eq!(found(MARK, &data).await, Vec::<String>::new());
    let Place::Postgres { url, .. } = &place else { panic!("not PostgreSQL") };
    let dump = Command::new("pg_dump").arg(url).output().await.unwrap();
    let dump = String::from_utf8(dump.stdout).unwrap();
    let hex = |text: &str| text.bytes().map(|byte| format!("{byte:02x}")).collect::<String>();
    assert!(dump.contains(&hex("in-the-clear")));
    assert!(!dump.contains(&hex(MARK)) && !dump.contains(MARK));
    store.close().await;
}
