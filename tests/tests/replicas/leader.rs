//! Of several servers one runs the controllers, and another one once that is gone, stops or hangs.

use std::time::Instant;

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{server::Server, wait::until};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use rustix::process::Signal;
use serde_json::json;

/// Which of those that run leads, once it is one.
pub(crate) async fn leader(servers: &[Server], not: Option<usize>) -> Result<usize> {
    until("one server leads", || async {
        let mut leaders = Vec::new();
        for (number, server) in servers.iter().enumerate().filter(|(_, server)| server.is_running()) {
            if Some(number) != not && server.is_leading().await? {
                leaders.push(number);
            }
        }
        Ok(if let [leader] = leaders[..] { Some(leader) } else { None })
    })
    .await
}

/// A namespace gets its account from a controller.
async fn controllers_work(client: &Client, name: &str) -> Result<()> {
    let namespace = serde_json::from_value(json!({"metadata": {"name": name}}))?;
    Api::<Namespace>::all(client.clone()).create(&PostParams::default(), &namespace).await?;
    let accounts = Api::<ServiceAccount>::namespaced(client.clone(), name);
    until("the namespace has its account", || async { Ok(accounts.get_opt("default").await?) }).await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn the_controllers_run_on_one_server() -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let mut servers = super::servers(&cluster, 3).await?;
    let first = leader(&servers, None).await?;
    let other = servers[(first + 1) % 3].client().await?;
    controllers_work(&other, "first").await?;

    servers[first].kill()?;
    let killed = Instant::now();
    let second = leader(&servers, None).await?;
    println!("another one led {:?} after kill -9", killed.elapsed());
    let third = 3 - first - second;
    let client = servers[third].client().await?;
    controllers_work(&client, "second").await?;

    servers[first].spawn()?;
    servers[first].ready().await?;
    ensure!(leader(&servers, None).await? == second, "it takes nothing back");
    ensure!(servers[second].interrupt().await?.success(), "it ends in order:\n{}", servers[second].log());
    let ended = Instant::now();
    let next = leader(&servers, None).await?;
    println!("another one led {:?} after a clean end", ended.elapsed());
    let log = servers[next].log();
    ensure!(log.contains("this server leads: the controllers run here"), "{log}");
    controllers_work(&servers[next].client().await?, "third").await?;

    // One that hangs keeps its connections; its session is ended by the one that waits.
    servers[next].signal(Signal::STOP)?;
    let stopped = Instant::now();
    let last = leader(&servers, Some(next)).await?;
    println!("another one led {:?} after the leader was stopped", stopped.elapsed());
    controllers_work(&servers[last].client().await?, "fourth").await?;
    servers[next].signal(Signal::CONT)?;
    until("the one that hung notices", || async { Ok((!servers[next].is_leading().await?).then_some(())) })
        .await?;
    ensure!(servers[last].is_leading().await?, "the new one leads still");
    controllers_work(&servers[next].client().await?, "fifth").await?;

    cluster.restart();
    until("the servers are back", || async {
        for server in servers.iter().filter(|server| server.is_running()) {
            let text = server.client().await?.request_text(holdfast_tests::server::get("/readyz")?).await?;
            ensure!(text == "ok", "{text}");
        }
        Ok(Some(()))
    })
    .await?;
    let after = leader(&servers, None).await?;
    controllers_work(&servers[after].client().await?, "sixth").await?;
    for server in servers.iter_mut().filter(|server| server.is_running()) {
        ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    }
    Ok(())
}

/// On a file there is nobody to be elected.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn one_server_on_a_file_runs_them_itself() -> Result<()> {
    let mut server = Server::on_file()?;
    server.spawn()?;
    server.ready().await?;
    controllers_work(&server.client().await?, "first").await?;
    ensure!(server.root().join("state.db").exists(), "the objects are in the root");
    server.kill()?;
    server.spawn()?;
    server.ready().await?;
    let namespaces = Api::<Namespace>::all(server.client().await?);
    namespaces.get_opt("first").await?.context("it is still there")?;
    ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    Ok(())
}
