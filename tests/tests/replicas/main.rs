//! Several `holdfast server` on one PostgreSQL: clients that write and watch through all of them, while servers are killed
//! and the database restarts; who leads; and who is let in.

mod clients;
mod fencing;
mod joining;
mod leader;
mod log;
mod writer;

use std::time::{Duration, Instant};

use anyhow::{Context, Result, ensure};
use clients::Clients;
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::server::Server;
use rand::{RngExt as _, SeedableRng as _, rngs::StdRng};

/// Repeats a run.
const SEED: &str = "HOLDFAST_TEST_SEED";
/// Acknowledged writes, and each watcher's changes, between two disturbances.
const CALM: usize = 60;

/// So many servers, all of which serve, on a database of their own.
async fn servers(cluster: &Cluster, count: usize) -> Result<Vec<Server>> {
    servers_on(&cluster.database(), count).await
}

async fn servers_on(url: &str, count: usize) -> Result<Vec<Server>> {
    let mut first = Server::new(url)?;
    first.spawn()?;
    first.ready().await?;
    let mut servers = vec![first];
    for _ in 1..count {
        let mut server = Server::joining(&servers[0])?;
        server.spawn()?;
        servers.push(server);
    }
    for server in &mut servers {
        server.ready().await?;
    }
    Ok(servers)
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn three_servers_are_one_api() -> Result<()> {
    // Restarts of the database are crashes here, so it has to keep what it acknowledged.
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let seed = match std::env::var(SEED) {
        Ok(seed) => seed.parse().context(SEED)?,
        Err(_) => 1,
    };
    let mut rng = StdRng::seed_from_u64(seed);
    let mut servers = servers(&cluster, 3).await?;
    let started = Instant::now();
    let roots = servers.iter().map(|server| server.root().to_owned()).collect();
    let mut clients = Clients::start(roots, seed).await?;
    clients.calm("at the beginning", CALM).await?;
    for round in 0..3 {
        let victim = (rng.random_range(0..3) + round) % 3;
        servers[victim].kill()?;
        clients.calm(&format!("while server {victim} is gone"), CALM).await?;
        if round > 0 {
            cluster.restart();
            clients.calm("after a crash of the database", CALM).await?;
        }
        servers[victim].spawn()?;
        // Not yet there when the next one goes, in one round.
        if round != 1 {
            servers[victim].ready().await?;
            clients.calm(&format!("with server {victim} again"), CALM).await?;
        }
    }
    for server in &mut servers {
        server.ready().await?;
    }
    clients.calm("at the end", CALM).await?;
    let said = clients.conclude().await.with_context(|| format!("{SEED}={seed}"))?;
    println!("{said}, in {:?}", started.elapsed());
    for server in &mut servers {
        ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    }
    Ok(())
}

/// Waits for a moment in a loop that waits for a condition.
async fn pause() {
    tokio::time::sleep(Duration::from_millis(20)).await;
}
