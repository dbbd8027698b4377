//! `bench api`: what the API server answers and remembers, alone, without controllers.
#![expect(clippy::disallowed_methods, reason = "a benchmark runs the server in a process of its own")]

mod connection;
mod postgres;
mod server;
mod watchers;

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result, ensure};
use connection::Door;
use futures::future::try_join_all;
use serde_json::{Value, json};
use server::Server;
pub(crate) use server::serve;
use sqlx::{ConnectOptions as _, Connection as _};

use crate::table::{Table, mebibytes, millis, ratio, resident};

/// How many writes one after the other, and how many by each of many.
const SINGLE: usize = 500;
const EACH: usize = 200;
/// How many clients write at once.
const CLIENTS: usize = 64;
/// The objects of the list.
const LISTED: usize = 10_000;
/// How often the list is asked for.
const LISTS: usize = 20;
/// How many gets in all, over how many connections.
const GETS: usize = 100_000;
const READERS: usize = 32;
/// Claims, and as many volumes, that a server finds at its start.
const LOADED: usize = 100_000;

const CLAIMS: &str = "/api/v1/namespaces/default/persistentvolumeclaims";
const VOLUMES: &str = "/api/v1/persistentvolumes";

/// Runs it all and prints the table.
pub(crate) async fn run() -> Result<()> {
    server::allow_many_files()?;
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let table = Table::start("The API server");
    let bare = bare_commit(&folder.path().join("bare.db")).await?;
    table.row(&format!("bare SQLite: a claim inserted and committed, median of {SINGLE}"), &millis(bare), "");

    let root = folder.path().join("root");
    let server = Server::start(&root).await?;
    let empty = resident(server.pid())?;
    table.row("resident memory, empty", &mebibytes(empty), "");
    writes(&server, "SQLite", bare, &table).await?;
    reads(&server, &table).await?;
    watchers::measure(&server, &table).await?;
    drop(server);
    postgres::measure(&folder.path().join("postgres"), &table).await?;
    many(&folder.path().join("many"), &table).await
}

fn claim(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolumeClaim",
        "metadata": {
            "name": name,
            "namespace": "default",
            "labels": {"app.kubernetes.io/name": "database", "app.kubernetes.io/instance": name},
            "annotations": {"volume.kubernetes.io/storage-provisioner": "csi.holdfast.dev"},
        },
        "spec": {
            "accessModes": ["ReadWriteOnce"],
            "resources": {"requests": {"storage": "10Gi"}},
            "storageClassName": "fast",
            "volumeMode": "Filesystem",
            "volumeName": format!("pvc-{name}"),
        },
    })
}

fn volume(name: &str) -> Value {
    json!({
        "apiVersion": "v1",
        "kind": "PersistentVolume",
        "metadata": {"name": format!("pvc-{name}")},
        "spec": {
            "capacity": {"storage": "10Gi"},
            "accessModes": ["ReadWriteOnce"],
            "claimRef": {"apiVersion": "v1", "kind": "PersistentVolumeClaim", "namespace": "default", "name": name},
            "csi": {"driver": "csi.holdfast.dev", "volumeHandle": format!("default.pvc-{name}"), "fsType": "xfs"},
            "persistentVolumeReclaimPolicy": "Delete",
            "storageClassName": "fast",
            "nodeAffinity": {"required": {"nodeSelectorTerms": [{"matchExpressions": [
                {"key": "topology.csi.holdfast.dev/node", "operator": "In", "values": ["node-1"]},
            ]}]}},
        },
    })
}

/// The median of durable commits of one claim each, with nothing around.
async fn bare_commit(path: &Path) -> Result<Duration> {
    let options = sqlx::sqlite::SqliteConnectOptions::new().filename(path).create_if_missing(true);
    let mut database = options.connect().await?;
    sqlx::raw_sql(
        "PRAGMA journal_mode = WAL; PRAGMA synchronous = FULL; PRAGMA locking_mode = EXCLUSIVE;
         CREATE TABLE object (id INTEGER PRIMARY KEY, body BLOB)",
    )
    .execute(&mut database)
    .await?;
    let body = claim("bare").to_string();
    let mut times = Vec::new();
    for _ in 0..SINGLE {
        let start = Instant::now();
        sqlx::query("INSERT INTO object (body) VALUES (?1)").bind(&body).execute(&mut database).await?;
        times.push(start.elapsed());
    }
    database.close().await?;
    Ok(median(times))
}

fn median(mut times: Vec<Duration>) -> Duration {
    times.sort();
    times[times.len() / 2]
}

/// Durable writes, one at a time and by many; returns how many a second these did.
async fn writes(server: &Server, on: &str, bare: Duration, table: &Table) -> Result<f64> {
    for door in [Door::Unix, Door::Tls] {
        let mut connection = server.connect(door).await?;
        let mut times = Vec::new();
        for number in 0..SINGLE {
            let body = claim(&format!("single-{door}-{number}").to_lowercase());
            let start = Instant::now();
            connection.create(CLAIMS, &body).await?;
            times.push(start.elapsed());
        }
        let median = median(times);
        table.row(
            &format!("a claim created over {door} on {on}, one at a time, median of {SINGLE}"),
            &millis(median),
            &format!("{:.2} of the bare commit", ratio(median, bare)),
        );
    }
    let took = create_all(server, CLAIMS, CLIENTS, CLIENTS * EACH, |number| claim(&format!("many-{number}")))
        .await?;
    let rate = (CLIENTS * EACH) as f64 / took.as_secs_f64();
    table.row(
        &format!("claims created by {CLIENTS} clients over unix on {on}"),
        &format!("{rate:.0}/s"),
        &format!("{:.1} in the time of a bare commit", rate * bare.as_secs_f64()),
    );
    Ok(rate)
}

/// Creates so many objects by so many clients; how long it took.
async fn create_all(
    server: &Server,
    path: &str,
    clients: usize,
    count: usize,
    object: impl Fn(usize) -> Value,
) -> Result<Duration> {
    let mut connections = Vec::new();
    for client in 0..clients {
        let bodies: Vec<_> =
            (client..count).step_by(clients).map(|number| object(number).to_string()).collect();
        connections.push((server.connect(Door::Unix).await?, bodies));
    }
    let start = Instant::now();
    try_join_all(connections.into_iter().map(|(mut connection, bodies)| {
        let path = path.to_owned();
        let work = async move {
            for body in bodies {
                connection.create_text(&path, &body).await?;
            }
            anyhow::Ok(())
        };
        async { tokio::spawn(work).await? }
    }))
    .await?;
    Ok(start.elapsed())
}

async fn reads(server: &Server, table: &Table) -> Result<()> {
    let there = SINGLE * 2 + CLIENTS * EACH;
    ensure!(there >= LISTED, "the list has fewer than {LISTED} claims");
    for door in [Door::Unix, Door::Tls] {
        let mut connection = server.connect(door).await?;
        let mut bytes = 0;
        let start = Instant::now();
        for _ in 0..LISTS {
            bytes += connection.get(&format!("{CLAIMS}?limit={LISTED}&resourceVersion=0")).await?;
        }
        let rate = bytes as f64 / start.elapsed().as_secs_f64() / 1e6;
        table.row(
            &format!("lists of {there} claims over {door}"),
            &format!("{rate:.0} MB/s"),
            &format!("{:.1} MB each", bytes as f64 / LISTS as f64 / 1e6),
        );
        let mut connections = Vec::new();
        for _ in 0..READERS {
            connections.push(server.connect(door).await?);
        }
        let start = Instant::now();
        try_join_all(connections.into_iter().enumerate().map(|(reader, mut connection)| async move {
            let path = format!("{CLAIMS}/many-{reader}");
            let work = async move {
                for _ in 0..GETS / READERS {
                    connection.get(&path).await?;
                }
                anyhow::Ok(())
            };
            tokio::spawn(work).await?
        }))
        .await?;
        table.row(
            &format!("claims read one by one over {READERS} connections of {door}"),
            &format!("{:.0}/s", GETS as f64 / start.elapsed().as_secs_f64()),
            "the client on the same processors",
        );
    }
    Ok(())
}

/// What a server with many objects takes, and how long it needs to start.
async fn many(root: &Path, table: &Table) -> Result<()> {
    let server = Server::start(root).await?;
    let empty = resident(server.pid())?;
    create_all(&server, CLAIMS, CLIENTS, LOADED, |number| claim(&format!("data-{number}"))).await?;
    create_all(&server, VOLUMES, CLIENTS, LOADED, |number| volume(&format!("data-{number}"))).await?;
    let mut connection = server.connect(Door::Unix).await?;
    let mut json = 0;
    for path in [CLAIMS, VOLUMES] {
        json += connection.get(&format!("{path}?resourceVersion=0")).await?;
    }
    // A connection that has just carried all that keeps none of it in the server.
    drop(connection);
    let row = |when: &str, taken: u64| {
        let beside = format!(
            "{:.2} of the {} of JSON, above {} empty",
            taken.saturating_sub(empty) as f64 / json as f64,
            mebibytes(json as u64),
            mebibytes(empty)
        );
        table.row(
            &format!("resident memory with {LOADED} claims and volumes, {when}"),
            &mebibytes(taken),
            &beside,
        );
    };
    row("just made", resident(server.pid())?);
    server.stop()?;
    let server = Server::start(root).await?;
    table.row(
        &format!("a start with {LOADED} claims and {LOADED} volumes, to the first answer"),
        &format!("{:.2} s", server.started.as_secs_f64()),
        "",
    );
    row("just started", resident(server.pid())?);
    server.stop().context("stopping the server")
}
