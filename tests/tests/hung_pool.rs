//! A pool whose storage answers nothing any more: the driver's other pools go on, and the
//! process ends when it is told to.

use std::{collections::HashMap, os::unix::process::ExitStatusExt as _, time::Duration};

use anyhow::{Result, ensure};
use holdfast_proto::csi::{
    self, CapacityRange, VolumeCapability,
    volume_capability::{AccessMode, AccessType, MountVolume, access_mode::Mode},
};
use holdfast_test_needs::{Need, missing};
use holdfast_tests::{disk::Disk, driver::Driver, hang::Hang};
use tokio::time::timeout;

/// Calls of the pool that hangs: as many as may run there at once, and more.
const HANGING: usize = 80;

fn volume(pool: &str, name: &str) -> csi::CreateVolumeRequest {
    let access_type = Some(AccessType::Mount(MountVolume::default()));
    let access_mode = Some(AccessMode { mode: Mode::SingleNodeWriter.into() });
    csi::CreateVolumeRequest {
        name: name.to_owned(),
        capacity_range: Some(CapacityRange { required_bytes: 8 << 20, limit_bytes: 0 }),
        volume_capabilities: vec![VolumeCapability { access_type, access_mode }],
        parameters: HashMap::from([("pool".to_owned(), pool.to_owned())]),
        ..Default::default()
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn one_pool_hangs() -> Result<()> {
    if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4")]) {
        return Ok(());
    }
    let (hung, well) = (Disk::new("ext4", 1 << 30)?, Disk::new("ext4", 1 << 30)?);
    let folder = tempfile::tempdir()?;
    let pool = |name: &str, disk: &Disk| {
        let path = disk.path().join("pool");
        format!("[[pool]]\nname = \"{name}\"\nbackend = \"image\"\npath = {path:?}\ncreate = true\n")
    };
    let config = pool("hung", &hung) + &pool("well", &well);
    let mut driver = Driver::start(folder.path(), &config)?;
    let mut controller = driver.controller().await?;
    for pool in ["hung", "well"] {
        controller.create_volume(volume(pool, &format!("before-{pool}"))).await?;
    }

    let hang = Hang::everything_opened_on(&hung.path())?;
    let mut waiting = tokio::task::JoinSet::new();
    for number in 0..HANGING {
        let mut controller = controller.clone();
        waiting.spawn(async move {
            timeout(Duration::from_secs(2), controller.create_volume(volume("hung", &format!("v{number}"))))
                .await
        });
    }
    while let Some(answer) = waiting.join_next().await {
        ensure!(answer?.is_err(), "the pool does not hang");
    }
    // Who asks for another pool waits for nothing of it.
    for round in 0..3 {
        let name = format!("after-{round}");
        let made =
            timeout(Duration::from_secs(30), controller.create_volume(volume("well", &name))).await??;
        let volume_id = made.into_inner().volume.map(|volume| volume.volume_id).unwrap_or_default();
        let request = csi::DeleteVolumeRequest { volume_id, ..Default::default() };
        timeout(Duration::from_secs(30), controller.delete_volume(request)).await??;
    }

    // It ends by itself, and says what it left.
    let status = driver.terminate().await?;
    ensure!(status.code() == Some(1), "it ended with {status}, by signal {:?}", status.signal());
    ensure!(driver.log().contains("some calls did not end within"), "{}", driver.log());
    drop(hang);

    // Whatever was begun: the next driver has both pools, and each volume once.
    driver.restart()?;
    let mut controller = driver.controller().await?;
    for number in 0..HANGING {
        controller.create_volume(volume("hung", &format!("v{number}"))).await?;
    }
    let list = controller.list_volumes(csi::ListVolumesRequest::default()).await?.into_inner();
    ensure!(list.entries.len() == HANGING + 2, "{} volumes", list.entries.len());
    Ok(())
}
