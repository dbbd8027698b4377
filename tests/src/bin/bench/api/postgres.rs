//! The same writes with the objects in PostgreSQL, beside what PostgreSQL commits with nothing around.

use std::{
    path::Path,
    time::{Duration, Instant},
};

use anyhow::Result;
use futures::future::try_join_all;
use holdfast_test_needs::postgres::{Cluster, Durability};
use sqlx::{Connection as _, PgConnection};

use super::{CLIENTS, EACH, SINGLE, claim, median, server::Server, writes};
use crate::table::{Table, millis};

pub(super) async fn measure(root: &Path, table: &Table) -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let mut database = PgConnection::connect(&url).await?;
    sqlx::raw_sql("CREATE TABLE object (id BIGSERIAL PRIMARY KEY, body BYTEA)")
        .execute(&mut database)
        .await?;
    let bare = median(insert(&mut database, SINGLE).await?);
    table.row(
        &format!("bare PostgreSQL: a claim inserted and committed, median of {SINGLE}"),
        &millis(bare),
        "over a unix socket, with fsync",
    );
    let mut connections = Vec::new();
    for _ in 0..CLIENTS {
        connections.push(PgConnection::connect(&url).await?);
    }
    let start = Instant::now();
    try_join_all(connections.into_iter().map(|mut connection| async move {
        tokio::spawn(async move { insert(&mut connection, EACH).await }).await?
    }))
    .await?;
    let bare_rate = (CLIENTS * EACH) as f64 / start.elapsed().as_secs_f64();
    table.row(
        &format!("bare PostgreSQL: claims inserted and committed over {CLIENTS} connections"),
        &format!("{bare_rate:.0}/s"),
        "",
    );
    let server = Server::start_on(root, Some(&cluster.database())).await?;
    let rate = writes(&server, "PostgreSQL", bare, table).await?;
    table.row(
        "these beside the bare commits of as many connections",
        &format!("{:.2}", rate / bare_rate),
        "",
    );
    server.stop()
}

/// How long each of so many commits took.
async fn insert(database: &mut PgConnection, count: usize) -> Result<Vec<Duration>> {
    let body = claim("bare").to_string();
    let mut times = Vec::new();
    for _ in 0..count {
        let start = Instant::now();
        sqlx::query("INSERT INTO object (body) VALUES ($1)")
            .bind(body.as_bytes())
            .execute(&mut *database)
            .await?;
        times.push(start.elapsed());
    }
    Ok(times)
}
