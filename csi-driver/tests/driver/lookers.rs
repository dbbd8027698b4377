//! Somebody looks at a volume's device while it comes and goes: udev, blkid, a node's exporter, the driver's
//! own ListVolumes.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicUsize, Ordering},
    },
};

use holdfast_proto::csi::{self, volume_capability::access_mode::Mode};

use crate::harness::{Driver, MIB, block, command, mounted, needs, until, volume};

/// Whoever has the device open when it is unstaged takes nothing from who stages it again, when they close it.
#[tokio::test(flavor = "multi_thread")]
async fn a_device_that_was_open_at_unstage_stays_the_volumes() {
    needs!();
    let mut driver = Driver::image().await;
    let raw = block(Mode::SingleNodeMultiWriter);
    let [a, b] = ["a", "b"];
    let mut ids = Vec::new();
    for name in [a, b] {
        let id = driver.create(volume(name, 16 * MIB, &raw)).await.unwrap().volume_id;
        driver.attach(&id, &raw).await.unwrap();
        ids.push(id);
    }
    driver.stage(&ids[0], &raw).await.unwrap();
    let device = driver.scratch.loops()[0].clone();
    let looker = File::open(format!("/dev/{device}")).unwrap();
    driver.unstage(&ids[0]).await.unwrap();
    driver.stage(&ids[0], &raw).await.unwrap();
    driver.publish(&ids[0], a, &raw).await.unwrap();
    drop(looker);
    driver.stage(&ids[1], &raw).await.unwrap();
    driver.publish(&ids[1], b, &raw).await.unwrap();

    let written = [0x5a; 4096];
    let target = File::options().write(true).open(driver.path(a)).unwrap();
    target.write_all_at(&written, 0).unwrap();
    target.sync_all().unwrap();
    drop(target);
    let begin = |id: &String| {
        let mut begin = [0; 4096];
        File::open(driver.volume_folder(id).join("disk.img")).unwrap().read_exact_at(&mut begin, 0).unwrap();
        begin
    };
    assert!(begin(&ids[0]) == written, "what was written into a is not in it");
    assert!(begin(&ids[1]) == [0; 4096], "what was written into a is in b");
    for (id, target) in ids.iter().zip([a, b]) {
        driver.take_down(id, target).await;
    }
    driver.assert_nothing_left("pool").await;
}

/// Volumes that come and go are listed all the time: none of them is ever said to be ill, none loses its device, and
/// none is kept by who looks.
#[tokio::test(flavor = "multi_thread")]
async fn what_comes_and_goes_is_not_ill() {
    needs!();
    const ROUNDS: usize = 30;
    let mut driver = Driver::image().await;
    let over = Arc::new(AtomicBool::new(false));
    let lists = Arc::new(AtomicUsize::new(0));
    let mut pollers = Vec::new();
    for _ in 0..3 {
        let (mut controller, over, lists) = (driver.controller.clone(), over.clone(), lists.clone());
        pollers.push(tokio::spawn(async move {
            let mut ill = Vec::new();
            while !over.load(Ordering::Relaxed) {
                let list =
                    controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap().into_inner();
                let conditions = list.entries.into_iter().filter_map(|entry| entry.status?.volume_condition);
                ill.extend(
                    conditions.filter(|condition| condition.abnormal).map(|condition| condition.message),
                );
                lists.fetch_add(1, Ordering::Relaxed);
            }
            ill
        }));
    }
    let raw = block(Mode::SingleNodeMultiWriter);
    for round in 0..ROUNDS {
        for capability in [&raw, &mounted("")] {
            let id = driver.bring_up("v", 16 * MIB, capability, "pod").await;
            if capability == &raw {
                let loops = driver.scratch.loops();
                assert_eq!(loops.len(), 1, "round {round}");
                let clears = fs::read_to_string(format!("/sys/block/{}/loop/autoclear", loops[0])).unwrap();
                assert_eq!(clears.trim(), "0", "round {round}: it goes with the next who closes it");
                command("blockdev", &["--getsize64", &driver.path("pod")]).unwrap();
            }
            // Deletes it at once.
            driver.take_down(&id, "pod").await;
        }
    }
    over.store(true, Ordering::Relaxed);
    for poller in pollers {
        assert_eq!(poller.await.unwrap(), Vec::<String>::new());
    }
    assert!(lists.load(Ordering::Relaxed) >= ROUNDS, "hardly anybody looked");
    until("no device is left", || driver.scratch.loops().is_empty()).await;
    driver.assert_nothing_left("pool").await;
}
