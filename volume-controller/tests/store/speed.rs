//! How fast the store commits, next to a bare loop of commits of the same database. A measurement,
//! not an assertion: `cargo test --release --test store -- --ignored --nocapture speed`.

use std::time::Instant;

use super::*;
use holdfast_test_needs::postgres::{Cluster, Durability};
use sqlx::Connection;

const WRITES: usize = 2_000;

fn rate(name: &str, writes: usize, started: Instant) {
    println!("{name:<44} {:>8.0} writes/s", writes as f64 / started.elapsed().as_secs_f64());
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    let folder = tempfile::tempdir().unwrap();
    let text = serde_json::to_vec(&json!({"metadata": {"name": "x"}, "text": "x".repeat(2_000)})).unwrap();
    let mut bare = file::connect(&folder.path().join("bare.db")).await;
    sqlx::raw_sql(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
         CREATE TABLE object (id INTEGER PRIMARY KEY, body BLOB)",
    )
    .execute(&mut bare)
    .await
    .unwrap();
    let started = Instant::now();
    for _ in 0..WRITES {
        sqlx::query("INSERT INTO object (body) VALUES (?1)").bind(&text).execute(&mut bare).await.unwrap();
    }
    rate("bare SQLite, one insert a commit", WRITES, started);
    bare.close().await.unwrap();

    for clients in [1, 8, 64, 512] {
        let (_folder, store) = fresh().await;
        commit_all(&store, clients).await;
        store.close().await;
    }
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed_on_postgres() {
    let Some(cluster) = Cluster::start(Durability::Full) else { return };
    let place = Place::on(&cluster).await;
    let text = serde_json::to_vec(&json!({"metadata": {"name": "x"}, "text": "x".repeat(2_000)})).unwrap();
    let store = place.open().await;
    store.close().await;
    let mut bare = place.connect().await;
    sqlx::raw_sql("CREATE TABLE bare (id BIGINT GENERATED ALWAYS AS IDENTITY PRIMARY KEY, body BYTEA)")
        .execute(&mut bare)
        .await
        .unwrap();
    let started = Instant::now();
    for _ in 0..WRITES {
        sqlx::query("INSERT INTO bare (body) VALUES ($1)").bind(&text).execute(&mut bare).await.unwrap();
    }
    rate("bare PostgreSQL, one insert a commit", WRITES, started);
    let started = Instant::now();
    for _ in 0..WRITES {
        sqlx::raw_sql("BEGIN; SELECT current FROM revision FOR UPDATE").execute(&mut bare).await.unwrap();
        sqlx::query("INSERT INTO bare (body) VALUES ($1)").bind(&text).execute(&mut bare).await.unwrap();
        sqlx::raw_sql("COMMIT").execute(&mut bare).await.unwrap();
    }
    rate("the same in three round trips, with a lock", WRITES, started);
    bare.close().await.unwrap();
    for clients in [1, 8, 64, 512] {
        let store = Place::on(&cluster).await.open().await;
        commit_all(&store, clients).await;
        store.close().await;
    }
}

/// So many clients that each write one object after the other.
async fn commit_all(store: &Store, clients: usize) {
    let started = Instant::now();
    let each = WRITES * clients.min(8) / clients;
    let tasks: Vec<_> = (0..clients)
        .map(|client| {
            let store = store.clone();
            tokio::spawn(async move {
                for number in 0..each {
                    let name = format!("{client}-{number}");
                    let body = json!({"metadata": {"name": name}, "text": "x".repeat(2_000)});
                    store.commit(vec![write(&name, Precondition::Absent, Some(body))]).await.unwrap();
                }
            })
        })
        .collect();
    futures::future::join_all(tasks).await;
    rate(&format!("the store, {clients} at a time"), each * clients, started);
}

#[tokio::test]
#[ignore = "a measurement"]
async fn speed_of_opening() {
    let (folder, store) = fresh().await;
    for hundred in 0..500 {
        let writes = (0..100).map(|number| {
            let name = format!("{hundred}-{number}");
            let body = json!({"metadata": {"name": name}, "text": "x".repeat(2_000)});
            write(&name, Precondition::Absent, Some(body))
        });
        store.commit(writes.collect::<Vec<_>>()).await.unwrap();
    }
    store.close().await;
    let started = Instant::now();
    let store = Store::open(config(&folder)).await.unwrap();
    println!("opening 50,000 objects of 2 KB took {:?}", started.elapsed());
    let started = Instant::now();
    let list = store.list(CLAIMS, None, None, None);
    println!("listing {} took {:?}", list.objects.len(), started.elapsed());
    let started = Instant::now();
    let snapshot = store.snapshot();
    println!("taking hold of them for a backup took {:?}", started.elapsed());
    let bytes: usize = snapshot.into_text().map(|piece| piece.unwrap().len()).sum();
    println!("and writing it, {bytes} bytes, {:?}", started.elapsed());
    let started = Instant::now();
    assert!(store.check().await.unwrap().findings.is_empty());
    println!("checking took {:?}", started.elapsed());
    store.close().await;
}
