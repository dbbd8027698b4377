//! `holdfast driver snapshot` between two drivers, as between two machines.

use std::{
    collections::HashMap,
    io::Read as _,
    path::Path,
    process::{Command, Output, Stdio},
};

use anyhow::{Context as _, Result, ensure};
use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability, VolumeContentSource,
    volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
    volume_content_source::{SnapshotSource, Type},
};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{disk::Disk, driver::Driver, process::binary};

fn start(folder: &Path, pool: &str, disk: &Disk) -> Result<Driver> {
    let path = disk.path().join("pool");
    Driver::start(
        folder,
        &format!("[[pool]]\nname = {pool:?}\nbackend = \"btrfs\"\npath = {path:?}\ncreate = true\n"),
    )
}

fn volume(pool: &str, name: &str, source: Option<&str>) -> csi::CreateVolumeRequest {
    let access_type = Some(AccessType::Mount(MountVolume::default()));
    let access_mode = Some(AccessMode { mode: Mode::SingleNodeWriter.into() });
    let source = source.map(|id| VolumeContentSource {
        r#type: Some(Type::Snapshot(SnapshotSource { snapshot_id: id.to_owned() })),
    });
    csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 64 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![VolumeCapability { access_type, access_mode }],
        parameters: HashMap::from([("pool".to_owned(), pool.to_owned())]),
        volume_content_source: source,
        ..Default::default()
    }
}

#[expect(clippy::disallowed_methods, reason = "the test starts what people start")]
fn shell(line: &str) -> Result<Output> {
    let output = Command::new("bash").args(["-o", "pipefail", "-c", line]).output()?;
    Ok(output)
}

fn done(line: &str) -> Result<String> {
    let output = shell(line)?;
    ensure!(output.status.success(), "{line}: {}", String::from_utf8_lossy(&output.stderr));
    Ok(String::from_utf8(output.stdout)?)
}

#[tokio::test(flavor = "multi_thread")]
async fn sent_through_a_pipe() -> Result<()> {
    if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("btrfs"), Need::Program("btrfs")]) {
        return Ok(());
    }
    let (here, there) = (Disk::new("btrfs", 1 << 30)?, Disk::new("btrfs", 1 << 30)?);
    let (here_folder, there_folder) = (tempfile::tempdir()?, tempfile::tempdir()?);
    let mut sender = start(here_folder.path(), "default", &here)?;
    let receiver = start(there_folder.path(), "copies", &there)?;
    let (mut from, mut into) = (sender.controller().await?, receiver.controller().await?);
    let snapshot = |driver: &Driver, args: &str| {
        format!("{} driver snapshot {args} --config {}", binary().display(), driver.config().display())
    };

    let made = from.create_volume(volume("default", "data", None)).await?.into_inner();
    let id = made.volume.context("a volume")?.volume_id;
    let data = here.path().join("pool/volumes").join(&id).join("data");
    let noise: Vec<u8> = (0..20_u32 << 20).map(|at| (at.wrapping_mul(2_654_435_761) >> 13) as u8).collect();
    std::fs::write(data.join("file"), &noise)?;
    for name in ["monday", "tuesday"] {
        let name = name.to_owned();
        let cut = csi::CreateSnapshotRequest { name, source_volume_id: id.clone(), ..Default::default() };
        from.create_snapshot(cut).await?;
        std::fs::write(data.join("more"), "more")?;
    }
    let listed = done(&snapshot(&sender, "list"))?;
    ensure!(listed.contains("default.monday") && listed.contains("64Mi"), "{listed}");

    // The driver that sends is killed in the middle: what came is not enough.
    #[expect(clippy::disallowed_methods, reason = "the test starts what people start")]
    let mut sending = Command::new(binary())
        .args(["driver", "snapshot", "send", "default.monday", "--config"])
        .arg(sender.config())
        .stdout(Stdio::piped())
        .stderr(Stdio::null())
        .spawn()?;
    let mut begun = vec![0; 1 << 20];
    sending.stdout.take().context("a pipe")?.read_exact(&mut begun)?;
    sender.restart()?;
    ensure!(!sending.wait()?.success(), "it is not sent, and says that it is");
    let file = there_folder.path().join("begun");
    std::fs::write(&file, &begun)?;
    let refused = shell(&format!("{} <{}", snapshot(&receiver, "receive --pool copies"), file.display()))?;
    let said = String::from_utf8(refused.stderr)?;
    ensure!(refused.status.code() == Some(1) && said.contains("ends before the snapshot does"), "{said}");

    sender.controller().await?;
    let send = |args: &str| snapshot(&sender, &format!("send {args}"));
    let receive = |args: &str| snapshot(&receiver, &format!("receive --pool copies {args}"));
    let told = done(&format!("{} | {}", send("default.monday"), receive("")))?;
    ensure!(told == "received copies.monday (64Mi of default.data)\n", "{told}");
    let yaml = done(&format!(
        "{} | tee {} | {}",
        send("default.tuesday --since default.monday"),
        there_folder.path().join("sent").display(),
        receive("-o yaml -n shop")
    ))?;
    for line in
        ["kind: VolumeSnapshotContent", "    snapshotHandle: \"copies.tuesday\"", "  namespace: \"shop\""]
    {
        ensure!(yaml.lines().any(|found| found == line), "no {line:?} in\n{yaml}");
    }
    let sent = std::fs::metadata(there_folder.path().join("sent"))?.len();
    ensure!(sent < 1 << 20, "{sent} bytes of changes");
    // A pipe that broke says so at both ends.
    let twice = shell(&format!("{} | {}", send("default.monday"), receive("")))?;
    let said = String::from_utf8(twice.stderr)?;
    ensure!(!twice.status.success() && said.contains("copies.monday exists already"), "{said}");

    let restored =
        into.create_volume(volume("copies", "restored", Some("copies.tuesday"))).await?.into_inner();
    let restored = restored.volume.context("a volume")?.volume_id;
    let data = there.path().join("pool/volumes").join(&restored).join("data");
    ensure!(std::fs::read(data.join("file"))? == noise && data.join("more").exists(), "not the same");
    Ok(())
}
