//! A leader that is stopped in the middle of its work, and goes on when another one has led for a while: nothing
//! of what it had decided is written any more.

use anyhow::{Context, Result, ensure};
use futures::{StreamExt as _, TryStreamExt as _, stream};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{server::Server, wait::until};
use k8s_openapi::api::core::v1::{Namespace, ServiceAccount};
use kube::{Api, Client, api::PostParams};
use rustix::process::Signal;
use serde_json::json;
use sqlx::{Connection as _, PgConnection};

use super::leader::leader;

/// How often the lead goes round.
const ROUNDS: usize = 4;
/// Namespaces of a round, for each of which the controllers make an account.
const NAMESPACES: usize = 60;
/// After so many of them the leader is stopped.
const BEFORE_THE_STOP: usize = 10;

/// Notes for every change which process wrote it: a session says so in its name.
const SPY: &str = "
    CREATE TABLE spy (revision BIGINT, who TEXT);
    CREATE FUNCTION note() RETURNS trigger LANGUAGE plpgsql AS $$
        BEGIN INSERT INTO holdfast.spy VALUES (NEW.revision, current_setting('application_name')); RETURN NEW; END $$;
    CREATE TRIGGER spy AFTER INSERT ON change FOR EACH ROW EXECUTE FUNCTION note();";

/// How many changes a server wrote after a revision.
async fn written(spy: &mut PgConnection, server: &Server, after: i64) -> Result<i64> {
    let name = format!("holdfast process {} on %", server.id().context("it runs")?);
    let count = "SELECT count(*) FROM spy WHERE who LIKE $1 AND revision > $2";
    Ok(sqlx::query_scalar(count).bind(name).bind(after).fetch_one(spy).await?)
}

async fn revision(spy: &mut PgConnection) -> Result<i64> {
    Ok(sqlx::query_scalar("SELECT current FROM revision").fetch_one(spy).await?)
}

/// Makes the namespaces of a round, many at once, as fast as whoever holds the database's locks lets it.
async fn make(client: Client, round: usize) -> Result<()> {
    let namespaces = Api::<Namespace>::all(client);
    stream::iter(0..NAMESPACES)
        .map(|number| {
            let namespaces = namespaces.clone();
            async move {
                let object =
                    serde_json::from_value(json!({"metadata": {"name": format!("n-{round}-{number}")}}))?;
                // Again, where a session was ended in the middle: made or not, it is there at the end.
                until("the namespace is made", || async {
                    match namespaces.create(&PostParams::default(), &object).await {
                        Ok(_) => Ok(Some(())),
                        Err(kube::Error::Api(status)) if status.is_already_exists() => Ok(Some(())),
                        Err(error) => Err(error.into()),
                    }
                })
                .await
            }
        })
        .buffer_unordered(8)
        .try_collect()
        .await
}

/// How many namespaces of a round have what the controllers make in them.
async fn done(client: &Client, round: usize) -> Result<usize> {
    let accounts = Api::<ServiceAccount>::all(client.clone()).list(&Default::default()).await?;
    let prefix = format!("n-{round}-");
    let namespaces = accounts.items.iter().filter_map(|account| account.metadata.namespace.as_deref());
    Ok(namespaces.filter(|namespace| namespace.starts_with(&prefix)).count())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_stopped_leader_had_decided_is_not_written() -> Result<()> {
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let mut servers = super::servers_on(&url, 2).await?;
    let mut spy = PgConnection::connect(&url).await?;
    sqlx::raw_sql("SET search_path TO holdfast").execute(&mut spy).await?;
    sqlx::raw_sql(SPY).execute(&mut spy).await?;
    for round in 0..ROUNDS {
        let old = leader(&servers, None).await?;
        let new = 1 - old;
        let before = revision(&mut spy).await?;
        let client = servers[new].client().await?;
        let making = tokio::spawn(make(client.clone(), round));
        until("the controllers are at work", || async {
            Ok((done(&client, round).await? >= BEFORE_THE_STOP).then_some(()))
        })
        .await?;
        servers[old].signal(Signal::STOP)?;
        leader(&servers, Some(old)).await?;
        // From here on there is another term: whatever the stopped one had begun, it has not ended.
        let taken_over = revision(&mut spy).await?;
        ensure!(written(&mut spy, &servers[old], before).await? > 0, "it had led, and the spy knows it");
        servers[old].signal(Signal::CONT)?;
        making.await??;
        until("the work of the round is done", || async {
            Ok((done(&client, round).await? == NAMESPACES).then_some(()))
        })
        .await?;
        // It knows, and has seen everything, so that there is nothing left that it would do late.
        until("the one that was stopped knows", || async {
            let has_noticed = !servers[old].is_leading().await?;
            let has_seen = done(&servers[old].client().await?, round).await? == NAMESPACES;
            Ok((has_noticed && has_seen).then_some(()))
        })
        .await?;
        let late = written(&mut spy, &servers[old], taken_over).await?;
        ensure!(late == 0, "{late} writes of a leader whose term was over, in round {round}");
        ensure!(written(&mut spy, &servers[new], taken_over).await? > 0, "the new one has written");
        ensure!(servers[new].is_leading().await?, "the new one leads still");
        println!("round {round}: taken over at revision {taken_over}");
    }
    for server in &mut servers {
        ensure!(server.interrupt().await?.success(), "it ends in order:\n{}", server.log());
    }
    Ok(())
}
