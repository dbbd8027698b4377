//! `holdfast backup`, `restore` and `check`, beside a running `holdfast up` and without one.
#![expect(clippy::disallowed_methods, reason = "tests start the programs that users start")]

use std::{
    fs,
    os::unix::fs::PermissionsExt,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_tests::{
    cannot_run,
    machine::Machine,
    objects::{self, Objects, bound_volume},
    process::binary,
    wait::until,
};
use k8s_openapi::api::core::v1::Secret;

const PLAIN: &str = "the-plaintext-of-a-secret";
/// The same in base64.
const CODED: &str = "dGhlLXBsYWludGV4dC1vZi1hLXNlY3JldA==";

fn holdfast(command: &str, root: &Path, arguments: &[&str]) -> Result<Output> {
    let mut process = Command::new(binary());
    process.arg(command).arg("--root").arg(root).args(arguments).env_remove("HOLDFAST_STORE");
    Ok(process.output()?)
}

/// Runs to success; what it printed, and said.
fn done(command: &str, root: &Path, arguments: &[&str]) -> Result<String> {
    let output = holdfast(command, root, arguments)?;
    let said =
        String::from_utf8_lossy(&output.stdout).into_owned() + &String::from_utf8_lossy(&output.stderr);
    ensure!(output.status.success(), "{command} {arguments:?} ended with {}: {said}", output.status);
    ensure!(!said.contains('\r'), "a bar is for terminals: {said:?}");
    Ok(said)
}

/// Ends with this status and one line.
fn refused(command: &str, root: &Path, arguments: &[&str], status: i32) -> Result<String> {
    let output = holdfast(command, root, arguments)?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(status), "{command} {arguments:?}: {}: {said}", output.status);
    ensure!(said.lines().count() == 1, "one line is wanted, not: {said}");
    Ok(said)
}

async fn bound(objects: &Objects, name: &str) -> Result<String> {
    objects::create(&objects.claims, objects::claim(name, "local", "64Mi")).await?;
    until("the claim is bound", || async { Ok(bound_volume(&objects.claims.get(name).await?)) }).await
}

async fn stop(machine: &mut Machine) -> Result<()> {
    ensure!(machine.interrupt().await?.success(), "it ends in order");
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_lost_store_comes_back_from_its_backup() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let mut machine = Machine::start(&[]).await?;
    let root = machine.root().to_owned();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let file = folder.path().join("backup");
    let path = file.to_str().context("a path in UTF-8")?;
    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.classes, objects::growing_class("local")).await?;
    let volume = bound(&objects, "data").await?;
    let uid = objects.claims.get("data").await?.metadata.uid;
    let secrets = kube::Api::<Secret>::namespaced(machine.client().await?, "default");
    let secret = serde_json::json!({"metadata": {"name": "s"}, "stringData": {"a": PLAIN}});
    objects::create(&secrets, secret).await?;

    // Beside the running process.
    let said = done("backup", &root, &[path])?;
    ensure!(said.contains("objects as of revision"), "{said}");
    ensure!(fs::metadata(&file)?.permissions().mode() & 0o777 == 0o600, "it is for root");
    let text = fs::read_to_string(&file)?;
    ensure!(text.contains(r#""name":"s","sealed":"#), "the secret is not in it");
    ensure!(!text.contains(PLAIN) && !text.contains(CODED), "the secret is in the clear");
    ensure!(refused("backup", &root, &[path], 1)?.contains("exists already"), "nothing is overwritten");
    ensure!(fs::read_dir(folder.path())?.count() == 1, "nothing else is left there");
    ensure!(done("check", &root, &[])?.contains("in order"), "it is in order");
    let report: serde_json::Value = serde_json::from_str(&done("check", &root, &["--json"])?)?;
    ensure!(report["findings"] == serde_json::json!([]), "{report}");
    ensure!(refused("restore", &root, &[path], 1)?.contains("is in use by process"), "it is running");
    bound(&objects, "later").await?;
    let standard = holdfast("backup", &root, &["-"])?.stdout;
    ensure!(String::from_utf8_lossy(&standard).contains(r#""name":"later""#), "it is in the later backup");

    // Without one.
    machine.kill()?;
    ensure!(done("check", &root, &[])?.contains("in order"), "it is in order");
    let idle = folder.path().join("idle");
    done("backup", &root, &[idle.to_str().context("a path")?])?;
    ensure!(fs::read_to_string(&idle)?.contains(r#""name":"later""#), "it is in that one, too");
    ensure!(refused("restore", &root, &[path], 1)?.contains("state.db is there already"), "it is not empty");

    // An older copy of the file is not taken for the store.
    let (state, old) = (root.join("state.db"), folder.path().join("old"));
    fs::copy(&state, &old)?;
    machine.restart().await?;
    bound(&Objects::new(&machine.client().await?), "newest").await?;
    stop(&mut machine).await?;
    machine.restart().await?;
    stop(&mut machine).await?;
    let newest = folder.path().join("newest");
    fs::rename(&state, &newest)?;
    fs::copy(&old, &state)?;
    let output = holdfast("up", &root, &[])?;
    let said = String::from_utf8(output.stderr)?;
    ensure!(output.status.code() == Some(1) && said.contains("an older copy in its place"), "{said}");
    // Looked at it may be: it is in order, and its backup may be restored.
    ensure!(done("check", &root, &[])?.contains("in order"), "it is in order");

    // Damage is told from what could not be looked at.
    let mut bytes = fs::read(&newest)?;
    let middle = bytes.len() / 2 / 4096 * 4096;
    bytes[middle..middle + 8192].fill(0xaa);
    fs::write(&state, bytes)?;
    let said = refused("check", &root, &[], 1)?;
    ensure!(said.contains("is damaged") && said.contains("restore a backup"), "{said}");
    ensure!(refused("check", &root.join("nowhere"), &[], 2)?.contains("no folder"), "there is none");

    // The file is lost, the volumes are not.
    fs::remove_file(&state)?;
    let text = fs::read(&file)?;
    let half = folder.path().join("half");
    fs::write(&half, &text[..text.len() / 2])?;
    ensure!(
        refused("restore", &root, &[half.to_str().context("a path")?], 1)?.contains("cut off"),
        "half is none"
    );
    ensure!(!state.exists(), "nothing was made");
    let (keys, aside) = (root.join("encryption.keys"), folder.path().join("keys"));
    fs::rename(&keys, &aside)?;
    let said = refused("restore", &root, &[path], 1)?;
    ensure!(
        said.contains("secrets default/s is encrypted with the key") && said.contains("encryption.keys"),
        "{said}"
    );
    ensure!(!state.exists() && !keys.exists(), "nothing was made");
    fs::rename(&aside, &keys)?;
    let said = done("restore", &root, &[path])?;
    ensure!(said.contains("the store goes on at revision 10000"), "{said}");
    machine.restart().await?;
    let secrets = kube::Api::<Secret>::namespaced(machine.client().await?, "default");
    let data = secrets.get("s").await?.data.unwrap_or_default();
    ensure!(data.get("a").is_some_and(|value| value.0 == PLAIN.as_bytes()), "the secret is back");
    let objects = Objects::new(&machine.client().await?);
    let claim = objects.claims.get("data").await?;
    ensure!(claim.metadata.uid == uid && bound_volume(&claim).as_ref() == Some(&volume), "{claim:?}");
    ensure!(objects.claims.get_opt("later").await?.is_none(), "that came after the backup");
    let log = fs::read_to_string(root.with_extension("log"))?;
    ensure!(log.matches("the store was restored from a backup").count() == 1, "it is said once, in the log");
    bound(&objects, "again").await?;
    ensure!(done("check", &root, &[])?.contains("in order"), "it is in order");
    stop(&mut machine).await?;
    Ok(())
}

#[test]
fn a_backup_moves_a_root_to_postgresql() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let Some(cluster) = Cluster::start(Durability::Full) else { return Ok(()) };
    let url = cluster.database();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (root, file) = (folder.path().join("root"), folder.path().join("backup"));
    fs::write(
        &file,
        "{\"format\":\"holdfast-backup\",\"version\":1,\"taken\":\"2026-11-21T12:00:00Z\",\"revision\":9,\"incarnation\":0,\
         \"objects\":0,\"bytes\":0}\n",
    )?;
    let digest = Command::new("sha256sum").arg(&file).output()?.stdout;
    let digest = String::from_utf8(digest)?.split(' ').next().context("a checksum")?.to_owned();
    fs::write(&file, format!("{}{{\"end\":0,\"sha256\":\"{digest}\"}}\n", fs::read_to_string(&file)?))?;
    let path = file.to_str().context("a path")?;

    let said = done("restore", &root, &["--store", &url, path])?;
    ensure!(said.contains("0 objects") && said.contains("goes on at revision"), "{said}");
    ensure!(done("check", &root, &["--store", &url])?.contains("in order"), "it is in order");
    let record = fs::read_to_string(root.join("store"))?;
    ensure!(
        refused("restore", &root, &["--store", &url, path], 1)?.contains("is there already"),
        "it is taken"
    );
    // Emptied, it is made again under the name that the root knows.
    cluster.empty(&url);
    ensure!(refused("check", &root, &["--store", &url], 2)?.contains("is empty"), "it was emptied");
    done("restore", &root, &["--store", &url, path])?;
    ensure!(done("check", &root, &["--store", &url])?.contains("in order"), "it is in order");
    ensure!(fs::read_to_string(root.join("store"))? == record, "it is the same store");
    Ok(())
}
