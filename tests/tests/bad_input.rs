//! Bad input gets one clear line that says what was wrong and what to do;
//! nothing is lost, nothing is left behind.
#![expect(clippy::disallowed_methods, reason = "tests start the programs that users start")]

use std::{
    fs,
    path::Path,
    process::{Command, Output},
};

use anyhow::{Context, Result, ensure};
use holdfast_tests::{
    cannot_run, leftovers,
    machine::Machine,
    objects::{self, Objects},
    process::binary,
    wait::until,
};

/// Applies a manifest and gives what kubectl complained of: one line (kubectl itself adds a
/// second to what it says of a kind that it does not find).
fn refused(machine: &Machine, manifest: &str) -> Result<String> {
    let file = tempfile::NamedTempFile::with_suffix(".yaml")?;
    fs::write(file.path(), manifest)?;
    let path = file.path().display().to_string();
    let output = machine.kubectl_output(&["apply", "-f", &path])?;
    ensure!(!output.status.success(), "this was accepted: {manifest}");
    one_line(&output)
}

fn one_line(output: &Output) -> Result<String> {
    let said = String::from_utf8(output.stderr.clone())?.trim().to_owned();
    ensure!(
        said.lines().count() == 1 || said.contains("no matches for kind"),
        "one line is wanted, not: {said}"
    );
    Ok(said)
}

fn claim(size: &str) -> String {
    format!(
        "apiVersion: v1\nkind: PersistentVolumeClaim\nmetadata: {{name: bad}}\nspec:\n  accessModes: [ReadWriteOnce]\n  \
         resources: {{requests: {{storage: {size}}}}}\n"
    )
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn manifests() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    for (manifest, parts) in [
        (
            claim("0"),
            &["PersistentVolumeClaim \"bad\" is invalid", "spec.resources", "greater than zero"][..],
        ),
        (claim("8Ei"), &["PersistentVolumeClaim \"bad\" is invalid", "8Ei"]),
        (claim("1Gib"), &["1Gib"]),
        (claim("-1Gi"), &["PersistentVolumeClaim \"bad\" is invalid", "-1Gi"]),
        (claim("1Gi").replace("ReadWriteOnce", "ReadWriteSometimes"), &["ReadWriteSometimes"]),
        (claim("1Gi").replace("resources", "resurces"), &["resurces"]),
        (claim("1Gi").replace("name: bad", "name: Bad_Name"), &["Bad_Name"]),
        (
            claim("1Gi").replace("name: bad", "name: bad, namespace: nowhere"),
            &["namespaces \"nowhere\" not found"],
        ),
        (
            claim("1Gi").replace("PersistentVolumeClaim", "PersistentVolumeClaims"),
            &["PersistentVolumeClaims"],
        ),
        ("apiVersion: v1\nkind: [oops".to_owned(), &["YAML"]),
    ] {
        let said = refused(&machine, &manifest)?;
        for part in parts {
            ensure!(said.contains(part), "{part:?} is missing in: {said}");
        }
    }
    let left = Objects::new(&machine.client().await?).left().await?;
    ensure!(left.is_empty(), "a refused manifest left {left:?}");
    Ok(())
}

/// The message of the latest event with this reason on this claim.
async fn event(machine: &Machine, claim: &str, reason: &str) -> Result<String> {
    let selector = format!("involvedObject.name={claim},reason={reason}");
    until(&format!("an event {reason} on {claim}"), || async {
        let found = machine.kubectl(&[
            "get",
            "events",
            "--field-selector",
            &selector,
            "-o",
            "jsonpath={.items[0].message}",
        ]);
        Ok(found.ok().filter(|message| !message.is_empty()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn unknown_class_then_known() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.claims, objects::claim("data", "nosuch", "64Mi")).await?;
    let message = event(&machine, "data", "ProvisioningFailed").await?;
    ensure!(message.contains("\"nosuch\" not found"), "{message}");
    // The class comes: the claim goes on by itself.
    objects::create(&objects.classes, objects::class("nosuch")).await?;
    until("the claim is bound", || async { Ok(objects::bound_volume(&objects.claims.get("data").await?)) })
        .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn full_pool() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&["--pool-capacity", "1Gi"]).await?;
    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.classes, objects::class("local")).await?;
    objects::create(&objects.claims, objects::claim("fits", "local", "768Mi")).await?;
    until("the first claim is bound", || async {
        Ok(objects::bound_volume(&objects.claims.get("fits").await?))
    })
    .await?;
    objects::create(&objects.claims, objects::claim("toomuch", "local", "512Mi")).await?;
    let message = event(&machine, "toomuch", "ProvisioningFailed").await?;
    ensure!(
        message.contains("default") && !message.contains('\n'),
        "it names the pool, in one line: {message}"
    );
    ensure!(leftovers::images(machine.root()).len() == 1, "a refused volume left an image");
    // Room is made: the claim goes on by itself.
    objects::delete(&objects.claims, "fits").await?;
    until("the second claim is bound", || async {
        Ok(objects::bound_volume(&objects.claims.get("toomuch").await?))
    })
    .await?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn second_up_on_the_same_root() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let said = one_line(&Command::new(binary()).args(["up", "--root"]).arg(machine.root()).output()?)?;
    let pid = machine.pid().context("it runs")?;
    ensure!(said.contains(&format!("in use by process {pid}")) && said.contains("--root"), "{said}");
    ensure!(objects::driver_is_registered(&machine.client().await?).await?, "the first one was disturbed");
    Ok(())
}

#[test]
fn no_root_rights() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    // A copy, since the build's folder may be closed to others.
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let copy = folder.path().join("holdfast");
    fs::copy(binary(), &copy)?;
    fs::set_permissions(folder.path(), std::os::unix::fs::PermissionsExt::from_mode(0o755))?;
    let output = Command::new("setpriv")
        .args(["--reuid=65534", "--regid=65534", "--clear-groups"])
        .arg(&copy)
        .args(["up", "--root", "/var/tmp/holdfast-nobody"])
        .output()?;
    ensure!(output.status.code() == Some(1), "it ended with {}", output.status);
    let said = one_line(&output)?;
    ensure!(said.contains("root") && said.contains("sudo"), "{said}");
    ensure!(!Path::new("/var/tmp/holdfast-nobody").exists(), "it left a folder");
    Ok(())
}

#[test]
fn root_folder_that_cannot_be() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let file = tempfile::NamedTempFile::new()?;
    for (root, part) in [(file.path().to_owned(), "cannot make"), ("/proc/holdfast".into(), "cannot make")] {
        let output = Command::new(binary()).args(["up", "--root"]).arg(&root).output()?;
        ensure!(!output.status.success(), "{} was accepted", root.display());
        let said = one_line(&output)?;
        ensure!(said.contains(part) && said.contains(&root.display().to_string()), "{said}");
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn socket_that_is_not_there_any_more() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let socket = machine.root().join("csi.sock");
    fs::remove_file(&socket)?;
    until("the socket is made again", || async { Ok(std::os::unix::net::UnixStream::connect(&socket).ok()) })
        .await?;
    ensure!(machine.log_end().contains("the socket was removed; it is made again"), "nobody was told");
    // Everything goes on.
    let objects = Objects::new(&machine.client().await?);
    objects::create(&objects.classes, objects::class("local")).await?;
    objects::create(&objects.claims, objects::claim("data", "local", "64Mi")).await?;
    until("the claim is bound", || async { Ok(objects::bound_volume(&objects.claims.get("data").await?)) })
        .await?;
    Ok(())
}

/// Pools from a file: a folder pool on a file system without quotas refuses a size that
/// it cannot enforce, and takes the class's word that it need not.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn pools_from_a_file() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let (file, pool) = (folder.path().join("pools.toml"), folder.path().join("folders"));
    fs::write(
        &file,
        format!("[[pool]]\nname = \"folders\"\nbackend = \"directory\"\npath = {pool:?}\ncreate = true\n"),
    )?;
    let machine = Machine::start(&["--pools", &file.display().to_string()]).await?;
    let objects = Objects::new(&machine.client().await?);
    for (class, enforce) in [("sized", "true"), ("unsized", "false")] {
        let mut class = objects::class(class);
        class["parameters"] = serde_json::json!({"pool": "folders", "enforceSize": enforce});
        objects::create(&objects.classes, class).await?;
    }
    objects::create(&objects.claims, objects::claim("data", "unsized", "64Mi")).await?;
    objects::create(&objects.pods, objects::pod("user", "data")).await?;
    until("the folder is published", || async {
        Ok(objects.pods.get("user").await.map(|pod| objects::is_published(&pod).then_some(()))?)
    })
    .await?;
    let file_system = rustix::fs::statfs(&pool)?;
    if file_system.f_type == 0xEF53 {
        objects::create(&objects.claims, objects::claim("refused", "sized", "64Mi")).await?;
        let message = event(&machine, "refused", "ProvisioningFailed").await?;
        ensure!(message.contains("enforceSize"), "it says what to do: {message}");
    }
    objects::delete(&objects.pods, "user").await?;
    objects::delete(&objects.claims, "data").await?;
    until("no mount is left", || async { Ok(leftovers::mounts(machine.root()).is_empty().then_some(())) })
        .await?;
    until("no volume is left", || async {
        Ok(objects.volumes.list(&kube::api::ListParams::default()).await?.items.is_empty().then_some(()))
    })
    .await
}

#[test]
fn flags_that_cannot_be() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let taken = std::net::TcpListener::bind("127.0.0.1:0")?;
    let address = taken.local_addr()?.to_string();
    let folder = tempfile::tempdir_in("/var/tmp")?;
    let root = folder.path().join("root");
    for (flags, part) in [
        (["--pool-capacity", "8Ei"], "8Ei"),
        (["--pool-capacity", "0"], "leaves no room"),
        (["--node-name", "Bad_Name"], "Bad_Name"),
        (["--log", "a=b=c"], "--log"),
        (["--pools", "/nonexistent.toml"], "/nonexistent.toml"),
        (["--listen", &address], "already in use"),
    ] {
        let output = Command::new(binary()).args(["up", "--root"]).arg(&root).args(flags).output()?;
        ensure!(output.status.code() == Some(1), "{flags:?} ended with {}", output.status);
        let said = String::from_utf8(output.stderr)?;
        let complaints: Vec<_> = said.lines().filter(|line| line.starts_with("holdfast: ")).collect();
        ensure!(complaints.len() == 1 && complaints[0].contains(part), "{flags:?}: {said}");
    }
    let long = folder.path().join("x".repeat(80));
    let said = one_line(&Command::new(binary()).args(["up", "--root"]).arg(&long).output()?)?;
    ensure!(said.contains("too long") && !long.exists(), "{said}");
    // What could not start left nothing that hinders the next start.
    ensure!(leftovers::all(&root).is_empty(), "something is left");
    let state = root.join("state.db");
    fs::remove_file(&state).ok();
    fs::write(&state, "not a database")?;
    let said = one_line(&Command::new(binary()).args(["up", "--root"]).arg(&root).output()?)?;
    ensure!(said.contains("state.db") && fs::read_to_string(&state)? == "not a database", "{said}");
    Ok(())
}
