//! `bench claims`: what the main job costs, from the claim to the bound volume.

use std::{
    collections::HashMap,
    path::Path,
    time::{Duration, Instant},
};

use anyhow::{Context, Result};
use futures::{StreamExt, TryStreamExt, stream};
use holdfast_tests::{
    leftovers,
    machine::Machine,
    objects::{self, Objects, bound_volume},
    wait::until,
};
use kube::{
    Api,
    api::WatchEvent,
    api::{DeleteParams, ListParams, PostParams, WatchParams},
};

use crate::table::{Table, fsync as bare_fsync, mebibytes, millis, ratio, resident};

/// How many claims are created one after the other.
const SINGLE: usize = 50;
/// How many are created at once.
const MANY: usize = 1000;
/// What each asks for: small, since a pool promises no more than its disk has.
const SIZE: &str = "16Mi";
/// How many requests the client has under way at once.
const CONNECTIONS: usize = 32;

/// Runs the main job and prints its table.
pub(crate) async fn run() -> Result<()> {
    let table = Table::start("Claims");
    let fsync = bare_fsync(Path::new("/var/tmp"))?;
    table.row("bare: 4 KiB appended and fsynced, median of 200", &millis(fsync), "");

    let machine = Machine::start(&[]).await?;
    let pid = machine.pid().context("it runs")?;
    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.classes, objects::class("local")).await?;
    table.row("resident memory, idle", &mebibytes(resident(pid)?), "");

    let mut single = Vec::new();
    for i in 0..SINGLE {
        single.push(create_until_bound(&objects, &format!("single-{i}")).await?);
    }
    single.sort();
    let median = single[SINGLE / 2];
    table.row(
        &format!("one claim, create to Bound, median of {SINGLE}"),
        &millis(median),
        &format!("{:.1} bare fsyncs", ratio(median, fsync)),
    );
    table.row(&format!("one claim, slowest of {SINGLE}"), &millis(single[SINGLE - 1]), "");

    let (total, mut each) = many_at_once(&objects).await?;
    each.sort();
    table.row(
        &format!("{MANY} claims at once, all Bound"),
        &format!("{:.2} s", total.as_secs_f64()),
        &format!(
            "{:.0} claims/s, {:.1} bare fsyncs a claim",
            MANY as f64 / total.as_secs_f64(),
            ratio(total, fsync) / MANY as f64
        ),
    );
    table.row(
        &format!("of these, median and 99th of {MANY}"),
        &millis(each[MANY / 2]),
        &millis(each[MANY * 99 / 100]),
    );
    table.row(&format!("resident memory, after {} claims", MANY + SINGLE), &mebibytes(resident(pid)?), "");

    let start = Instant::now();
    objects.claims.delete_collection(&DeleteParams::default(), &ListParams::default()).await?;
    until("everything is deleted", || async {
        let left = objects.volumes.list_metadata(&ListParams::default()).await?.items.len();
        Ok((left == 0).then_some(()))
    })
    .await?;
    let total = start.elapsed();
    table.row(
        &format!("{} claims deleted to the last volume", MANY + SINGLE),
        &format!("{:.2} s", total.as_secs_f64()),
        &format!("{:.0} claims/s", (MANY + SINGLE) as f64 / total.as_secs_f64()),
    );
    until("no image is left", || async { Ok(leftovers::all(machine.root()).is_empty().then_some(())) })
        .await?;
    Ok(())
}

/// From sending the create to receiving the watch event that says Bound.
async fn create_until_bound(objects: &Objects, name: &str) -> Result<Duration> {
    let version =
        objects.claims.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let only = WatchParams::default().fields(&format!("metadata.name={name}"));
    let mut events = objects.claims.watch(&only, version.as_deref().unwrap_or("0")).await?.boxed();
    let claim = serde_json::from_value(objects::claim(name, "local", SIZE))?;
    let start = Instant::now();
    objects.claims.create(&PostParams::default(), &claim).await?;
    while let Some(event) = events.try_next().await? {
        if let WatchEvent::Modified(claim) = event
            && bound_volume(&claim).is_some()
        {
            return Ok(start.elapsed());
        }
    }
    anyhow::bail!("the watch ended before {name} was bound")
}

/// From the first create to the watch event of the last Bound, and of each.
async fn many_at_once(objects: &Objects) -> Result<(Duration, Vec<Duration>)> {
    let version =
        objects.claims.list_metadata(&ListParams::default().limit(1)).await?.metadata.resource_version;
    let claims: Api<_> = objects.claims.clone();
    let mut events =
        claims.watch(&WatchParams::default().timeout(120), version.as_deref().unwrap_or("0")).await?.boxed();
    let start = Instant::now();
    let creator = {
        let claims = objects.claims.clone();
        tokio::spawn(async move {
            stream::iter(0..MANY)
                .map(|i| {
                    let claims = claims.clone();
                    async move {
                        let name = format!("many-{i}");
                        let claim = serde_json::from_value(objects::claim(&name, "local", SIZE))?;
                        let sent = start.elapsed();
                        claims.create(&PostParams::default(), &claim).await?;
                        anyhow::Ok((name, sent))
                    }
                })
                .buffer_unordered(CONNECTIONS)
                .try_collect::<HashMap<_, _>>()
                .await
        })
    };
    let mut bound = HashMap::new();
    while bound.len() < MANY {
        let event = events.try_next().await?.context("the watch ended before all were bound")?;
        if let WatchEvent::Modified(claim) = event
            && bound_volume(&claim).is_some()
            && let Some(name) = claim.metadata.name
            && name.starts_with("many-")
        {
            bound.entry(name).or_insert_with(|| start.elapsed());
        }
    }
    let total = start.elapsed();
    let sent = creator.await??;
    Ok((total, bound.iter().map(|(name, at)| at.saturating_sub(sent[name])).collect()))
}
