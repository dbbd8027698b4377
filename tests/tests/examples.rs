//! Every manifest of `deploy/examples/` works with kubectl, as it stands.

use std::path::{Path, PathBuf};

use anyhow::{Context, Result, ensure};
use holdfast_tests::{cannot_run, leftovers, machine::Machine, wait::until};

fn example(name: &str) -> String {
    let path: PathBuf = [env!("CARGO_MANIFEST_DIR"), "../deploy/examples", name].iter().collect();
    path.display().to_string()
}

/// One field of one object, empty when it is not set.
fn field(machine: &Machine, object: &[&str], path: &str) -> Result<String> {
    let path = format!("jsonpath={{{path}}}");
    machine.kubectl(&[&["get"], object, &["-o", &path]].concat())
}

async fn field_is(machine: &Machine, object: &[&str], path: &str, expected: &str) -> Result<()> {
    until(&format!("{} {path} is {expected}", object.join(" ")), || async {
        let found = field(machine, object, path)?;
        ensure!(found == expected, "it is {found:?}");
        Ok(Some(()))
    })
    .await
}

/// Deletes what an example made and waits until nothing of it is left.
async fn gone(machine: &Machine, file: &str, objects: &str) -> Result<()> {
    machine.kubectl(&["delete", "--wait=false", "--ignore-not-found", "-f", file])?;
    until("the example's objects are gone", || async {
        let left = machine.kubectl(&["get", objects, "--all-namespaces", "-o", "name"])?;
        ensure!(left.is_empty(), "still there: {left}");
        Ok(Some(()))
    })
    .await?;
    until("nothing is left on the machine", || async {
        let left = leftovers::all(machine.root());
        ensure!(left.is_empty(), "still there: {left:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_hand() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("by-hand.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    let claim = ["-n", "dev", "pvc", "task-pv-claim"];
    field_is(&machine, &claim, ".status.phase", "Bound").await?;
    field_is(&machine, &claim, ".status.capacity.storage", "10Gi").await?;
    field_is(&machine, &["-n", "dev", "pod", "task-pv-pod"], ".status.reason", "VolumesPublished").await?;
    let mounts = leftovers::mounts(machine.root());
    ensure!(mounts.len() == 1, "one mount, not {mounts:?}");
    std::fs::write(mounts[0].join("index.html"), "hello")?;
    let host = Path::new("/var/tmp/holdfast-example");
    ensure!(std::fs::read_to_string(host.join("index.html"))? == "hello", "the file is not on the host");

    // The namespace goes first and may take the rest along before kubectl comes to it.
    machine.kubectl(&["delete", "--wait=false", "--ignore-not-found", "-f", &file])?;
    until("the namespace is gone", || async {
        let left = machine.kubectl(&["get", "namespace", "dev", "--ignore-not-found", "-o", "name"])?;
        Ok(left.is_empty().then_some(()))
    })
    .await?;
    until("no mount is left", || async { Ok(leftovers::mounts(machine.root()).is_empty().then_some(())) })
        .await?;
    ensure!(host.join("index.html").exists(), "a hand-made volume's data was deleted");
    std::fs::remove_file(host.join("index.html"))?;
    std::fs::remove_dir(host).context("the host's folder")
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_selector() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("by-selector.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    field_is(&machine, &["pvc", "by-selector"], ".spec.volumeName", "shelf-gold").await?;
    field_is(&machine, &["pvc", "by-selector"], ".status.phase", "Bound").await?;
    field_is(&machine, &["pv", "shelf-silver"], ".status.phase", "Available").await?;
    machine.kubectl(&["delete", "pvc", "by-selector"])?;
    field_is(&machine, &["pv", "shelf-gold"], ".status.phase", "Released").await?;
    machine.kubectl(&["delete", "pv", "shelf-gold", "shelf-silver"])?;
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn by_default_class() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("by-default-class.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    field_is(&machine, &["pvc", "by-default-class"], ".spec.storageClassName", "standard").await?;
    field_is(&machine, &["pvc", "by-default-class"], ".status.phase", "Bound").await?;
    ensure!(
        machine.kubectl(&["get", "sc"])?.contains("standard (default)"),
        "kubectl marks the default class"
    );
    gone(&machine, &file, "pvc,pv").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn raw_block() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("raw-block.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    field_is(&machine, &["pod", "raw-block"], ".status.reason", "VolumesPublished").await?;
    let volume = field(&machine, &["pvc", "raw-block"], ".spec.volumeName")?;
    let uid = field(&machine, &["pod", "raw-block"], ".metadata.uid")?;
    // Where a kubelet has the device of a pod: a link or a bind of the device node.
    let device =
        machine.root().join("kubelet/pods").join(uid).join("volumeDevices/kubernetes.io~csi").join(volume);
    let found = std::fs::metadata(&device).with_context(|| format!("{}", device.display()))?;
    ensure!(std::os::unix::fs::FileTypeExt::is_block_device(&found.file_type()), "not a block device");
    let size = {
        use std::io::{Seek, SeekFrom};
        std::fs::File::open(&device)?.seek(SeekFrom::End(0))?
    };
    ensure!(size == 128 << 20, "the device has {size} bytes");
    gone(&machine, &file, "pods,pvc,pv,volumeattachments").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn two_pods() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("two-pods.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    for pod in ["shared-first", "shared-second"] {
        field_is(&machine, &["pod", pod], ".status.reason", "VolumesPublished").await?;
    }
    let mounts = leftovers::mounts(machine.root());
    let staged = mounts.iter().filter(|path| path.ends_with("globalmount")).count();
    let published: Vec<_> = mounts.iter().filter(|path| path.ends_with("mount")).collect();
    ensure!(staged == 1 && published.len() == 2, "staged once, published twice, not {mounts:?}");
    std::fs::write(published[0].join("file"), "from one pod")?;
    ensure!(
        std::fs::read_to_string(published[1].join("file"))? == "from one pod",
        "the pods share the volume"
    );

    // One pod goes: the other keeps the volume.
    machine.kubectl(&["delete", "pod", "shared-first"])?;
    ensure!(leftovers::mounts(machine.root()).len() == 2, "staged once, published once");
    gone(&machine, &file, "pods,pvc,pv,volumeattachments").await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn snapshot() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let machine = Machine::start(&[]).await?;
    let file = example("snapshot.yaml");
    machine.kubectl(&["apply", "-f", &file])?;
    field_is(&machine, &["volumesnapshot", "monday"], ".status.readyToUse", "true").await?;
    field_is(&machine, &["volumesnapshot", "monday"], ".spec.volumeSnapshotClassName", "snapshots").await?;
    field_is(&machine, &["pvc", "restored"], ".status.phase", "Bound").await?;
    gone(&machine, &file, "volumesnapshots,volumesnapshotcontents,pvc,pv").await
}
