//! `holdfast up --store postgres://…` on a real server: what is there survives kill -9, and a database has one owner.
#![expect(clippy::disallowed_methods, reason = "tests start the programs that users start")]

use std::{fs, process::Command};

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{
    cannot_run, leftovers,
    machine::Machine,
    objects::{self, Objects, bound_volume, is_published},
    process::binary,
    wait::until,
};

/// One line of complaint from `holdfast up` with these arguments.
fn refused(root: &std::path::Path, arguments: &[&str]) -> Result<String> {
    let output = Command::new(binary()).args(["up", "--root"]).arg(root).args(arguments).output()?;
    ensure!(output.status.code() == Some(1), "{arguments:?} ended with {}", output.status);
    let said = String::from_utf8(output.stderr)?;
    ensure!(!said.contains("secret"), "the password is shown: {said}");
    let lines: Vec<_> = said.lines().filter(|line| line.starts_with("holdfast: ")).collect();
    ensure!(lines.len() == 1, "one line is wanted, not: {said}");
    ensure!(lines[0].matches("os error").count() <= 1, "it is said twice: {}", lines[0]);
    Ok(lines[0].to_owned())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_claim_in_postgresql_survives_kill_9() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let mut machine = Machine::start(&["--store", &url]).await?;
    let root = machine.root().to_owned();
    ensure!(!root.join("state.db").exists(), "there are no objects beside the database");

    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.classes, objects::growing_class("local")).await?;
    objects::create(&objects.claims, objects::claim("data", "local", "1Gi")).await?;
    let volume = until("the claim is bound", || async {
        Ok(objects.claims.get("data").await.map(|claim| bound_volume(&claim))?)
    })
    .await?;
    objects::create(&objects.pods, objects::pod("first", "data")).await?;
    until("the pod's volumes are published", || async {
        Ok(objects.pods.get_opt("first").await?.filter(is_published))
    })
    .await?;
    let uid = objects.claims.get("data").await?.metadata.uid;
    let mounts = leftovers::mounts(&root);

    // Nobody else gets in, from another root either.
    let other = tempfile::tempdir_in("/var/tmp")?;
    let said = refused(other.path(), &["--store", &url])?;
    ensure!(said.contains("is in use by holdfast process"), "{said}");

    machine.kill()?;
    // Without its database, or with another, this root is not started: its mounts would be nobody's.
    let said = refused(&root, &[])?;
    ensure!(said.contains("give --store"), "{said}");
    let said = refused(&root, &["--store", &cluster.database()])?;
    ensure!(said.contains("the objects of this root are in"), "{said}");
    machine.restart().await?;

    let objects = Objects::new(&machine.client().await?);
    let claim = objects.claims.get("data").await?;
    ensure!(claim.metadata.uid == uid && bound_volume(&claim).as_ref() == Some(&volume), "{claim:?}");
    ensure!(leftovers::mounts(&root) == mounts, "what was mounted stays mounted");

    // A crash of the server under it: what it acknowledged is there, and work goes on.
    cluster.restart();
    until("a second claim is created", || async {
        objects::create(&objects.claims, objects::claim("more", "local", "1Gi")).await.map(Some)
    })
    .await?;
    until("the second claim is bound", || async {
        Ok(objects.claims.get("more").await.map(|claim| bound_volume(&claim))?)
    })
    .await?;

    objects.pods.delete("first", &kube::api::DeleteParams::default()).await?;
    until("the pod is gone", || async { Ok(objects.pods.get_opt("first").await?.is_none().then_some(())) })
        .await?;
    for claim in ["data", "more"] {
        objects.claims.delete(claim, &kube::api::DeleteParams::default()).await?;
    }
    until("all volumes are gone", || async {
        Ok(objects.volumes.list(&kube::api::ListParams::default()).await?.items.is_empty().then_some(()))
    })
    .await?;
    ensure!(machine.interrupt().await?.success(), "it ends in order");
    ensure!(leftovers::mounts(&root).is_empty(), "something is still mounted");

    // Free now, but not for another root.
    let said = refused(other.path(), &["--store", &url])?;
    ensure!(said.contains("has the objects of another root"), "{said}");
    let record = fs::read_to_string(root.join("store"))?;
    let name = record.lines().nth(1).context("the name of the store")?;
    let remedy = format!("write {name} into {}/store", other.path().display());
    ensure!(said.contains(&remedy), "{said}");
    // Without an address the name decides.
    fs::write(root.join("store"), name)?;
    machine.restart().await?;
    ensure!(machine.interrupt().await?.success(), "it ends in order");
    ensure!(fs::read_to_string(root.join("store"))? == record, "both are remembered again");
    // Emptied, it is not filled again.
    cluster.empty(&url);
    let said = refused(&root, &["--store", &url])?;
    ensure!(said.contains("is empty, but has had the objects of this root") && said.contains(name), "{said}");
    Ok(())
}

#[test]
fn what_is_no_database_is_said_in_one_line() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let root = folder.path().join("root");
    for (url, part) in [
        ("mysql://me:secret@db/store", "begin with postgres://"),
        ("postgres://me:secret@db/store?sslmod=verify-full", "parameter"),
        ("postgres://me:secret@127.0.0.1:1/store", "cannot reach postgres://me@127.0.0.1:1/store"),
        ("postgres://me:secret@no-such-host.invalid/store", "no-such-host.invalid"),
    ] {
        let said = refused(&root, &["--store", url])?;
        ensure!(said.contains(part), "{part:?} is missing in: {said}");
    }
    // Nothing of that is remembered; and objects in a file are not left behind.
    ensure!(!root.join("store").exists() && !root.join("state.db").exists(), "something is left");
    fs::write(root.join("state.db"), "").context("as an earlier version leaves it")?;
    let said = refused(&root, &["--store", "postgres://me:secret@db/store"])?;
    ensure!(said.contains("leave --store out"), "{said}");
    Ok(())
}
