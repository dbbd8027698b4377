//! Snapshots of several image volumes at one moment.

use std::sync::atomic::Ordering;

use holdfast_proto::csi::{self, VolumeCapability, volume_capability::access_mode::Mode};
use tonic::Code;

use crate::{
    harness::{MIB, assert_code, block, entries, mounted, needs, volume},
    snapshots::{assert_gone, filled, from_snapshot, pool_on},
    writer::{SECTOR, Writer, assert_in_step, counted, log_of, open_for_writing, records},
};

/// Nobody syncs, and two file systems are copied at one moment all the same.
async fn counting_group(pool_fs: &str, [a, b]: [&str; 2], bytes: i64) {
    let mut driver = pool_on(pool_fs).await;
    let sources = [("a", mounted(a)), ("b", mounted(b))];
    let mut files = Vec::new();
    for (name, capability) in &sources {
        driver.bring_up(name, bytes, capability, name).await;
        files.push(open_for_writing(&driver.path(&format!("{name}/count"))));
    }
    let writer = Writer::counting(files);
    let mut cut = Vec::new();
    for round in 0..6 {
        writer.goes_on().await;
        let before = writer.safe.load(Ordering::SeqCst);
        let mut ids = ["default.a", "default.b"];
        ids.rotate_left(round % 2);
        let group = driver.group_snapshot(&format!("g{round}"), &ids).await.unwrap();
        cut.push((before, writer.begun.load(Ordering::SeqCst), group));
    }
    writer.end();
    for (before, after, group) in &cut {
        let mut found = Vec::new();
        for (name, capability) in &sources {
            let of_it = |snapshot: &&csi::Snapshot| snapshot.source_volume_id == format!("default.{name}");
            let member = group.snapshots.iter().find(of_it).unwrap();
            let copy = filled("copy", bytes, capability, from_snapshot(&member.snapshot_id));
            let copy = driver.create(copy).await.unwrap().volume_id;
            driver.use_volume(&copy, capability, "copy").await;
            found.push(counted(&driver.path("copy/count")));
            driver.take_down(&copy, "copy").await;
        }
        assert_in_step(*before, &found, *after);
        driver.delete_group(group).await.unwrap();
    }
    for (name, _) in &sources {
        driver.take_down(&format!("default.{name}"), name).await;
    }
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsynced_group_on_xfs() {
    needs!("xfs");
    counting_group("xfs", ["ext4", "xfs"], 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn an_unsynced_group_on_btrfs() {
    needs!("btrfs");
    counting_group("btrfs", ["btrfs", "ext4"], 256 * MIB).await;
}

/// Writes go to A and then to B: at no moment is B ahead of A, and so in no group snapshot.
async fn group_under_load(pool_fs: &str, capabilities: [VolumeCapability; 2], bytes: i64) {
    let mut driver = pool_on(pool_fs).await;
    let [a, b] = &capabilities;
    let one = driver.bring_up("a", bytes, a, "a").await;
    let two = driver.bring_up("b", bytes, b, "b").await;
    let files = [("a", a), ("b", b)]
        .map(|(target, capability)| open_for_writing(log_of(&driver, target, capability).to_str().unwrap()));
    let writer = Writer::start(files.into(), SECTOR);
    let mut cut = Vec::new();
    for round in 0..8 {
        writer.goes_on().await;
        let before = writer.safe.load(Ordering::SeqCst);
        // Whichever is named first.
        let sources = if round % 2 == 0 { [&one, &two] } else { [&two, &one] };
        let group = driver.group_snapshot(&format!("g{round}"), &sources.map(String::as_str)).await.unwrap();
        let after = writer.begun.load(Ordering::SeqCst);
        assert!(group.ready_to_use && group.snapshots.len() == 2);
        cut.push((before, after, group));
    }
    writer.end();
    for (before, after, group) in &cut {
        let mut found = Vec::new();
        for (source, capability) in [(&one, a), (&two, b)] {
            let member =
                group.snapshots.iter().find(|snapshot| snapshot.source_volume_id == **source).unwrap();
            assert_eq!(member.group_snapshot_id, group.group_snapshot_id);
            assert_eq!(member.creation_time, group.creation_time);
            let request = filled("copy", bytes, capability, from_snapshot(&member.snapshot_id));
            let copy = driver.create(request).await.unwrap().volume_id;
            driver.use_volume(&copy, capability, "copy").await;
            found.push(records(&log_of(&driver, "copy", capability), SECTOR));
            driver.take_down(&copy, "copy").await;
        }
        assert_in_step(*before, &found, *after);
    }
    for (_, _, group) in &cut {
        driver.delete_group(group).await.unwrap();
    }
    driver.take_down(&one, "a").await;
    driver.take_down(&two, "b").await;
    assert_gone(&driver).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_file_systems_on_xfs() {
    needs!("xfs");
    group_under_load("xfs", [mounted("ext4"), mounted("xfs")], 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_of_file_systems_on_btrfs() {
    needs!("btrfs");
    group_under_load("btrfs", [mounted("ext4"), mounted("btrfs")], 256 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_group_with_one_raw_device() {
    needs!("xfs");
    let raw = block(Mode::SingleNodeMultiWriter);
    group_under_load("xfs", [raw.clone(), mounted("ext4")], 128 * MIB).await;
    group_under_load("xfs", [mounted("ext4"), raw], 128 * MIB).await;
}

/// What cannot be in a group, and what a group is.
#[tokio::test(flavor = "multi_thread")]
async fn groups_that_do_not_fit() {
    needs!("xfs");
    let mut driver = pool_on("xfs").await;
    let raw = block(Mode::SingleNodeMultiWriter);
    let one = driver.bring_up("one", 8 * MIB, &raw, "one").await;
    let two = driver.bring_up("two", 8 * MIB, &raw, "two").await;
    let three = driver.create(volume("three", 64 * MIB, &mounted("ext4"))).await.unwrap().volume_id;
    let both = driver.group_snapshot("g", &[&one, &two]).await;
    assert_code(both, Code::FailedPrecondition, "raw devices in use");
    assert_eq!(entries(&driver.scratch.path().join("pool/snapshots")), Vec::<String>::new());
    for (sources, code, said) in [
        (vec![], Code::InvalidArgument, "at least one"),
        (vec![one.as_str(), &one], Code::InvalidArgument, "twice"),
        (vec![one.as_str(), "default.nothing"], Code::NotFound, "does not exist"),
        (vec![one.as_str(), ""], Code::InvalidArgument, "required"),
    ] {
        assert_code(driver.group_snapshot("g", &sources).await, code, said);
    }
    let group = driver.group_snapshot("g", &[&one, &three]).await.unwrap();
    assert_eq!(driver.group_snapshot("g", &[&three, &one]).await.unwrap(), group);
    assert_code(driver.group_snapshot("g", &[&one]).await, Code::AlreadyExists, "is of volumes");
    let member = &group.snapshots[0].snapshot_id;
    assert_code(driver.delete_snapshot(member).await, Code::InvalidArgument, "part of group");
    let mut fewer = group.clone();
    fewer.snapshots.pop();
    assert_code(driver.delete_group(&fewer).await, Code::InvalidArgument, "are not those");
    driver.restart().await;
    let get = csi::GetVolumeGroupSnapshotRequest {
        group_snapshot_id: group.group_snapshot_id.clone(),
        snapshot_ids: group.snapshots.iter().rev().map(|snapshot| snapshot.snapshot_id.clone()).collect(),
        ..Default::default()
    };
    let got =
        driver.groups().await.unwrap().get_volume_group_snapshot(get.clone()).await.unwrap().into_inner();
    assert_eq!(got.group_snapshot.as_ref(), Some(&group));
    for _ in 0..2 {
        driver.delete_group(&group).await.unwrap();
    }
    assert_code(
        driver.groups().await.unwrap().get_volume_group_snapshot(get).await,
        Code::NotFound,
        "does not exist",
    );
    driver.take_down(&one, "one").await;
    driver.take_down(&two, "two").await;
    driver.delete(&three).await.unwrap();
    assert_gone(&driver).await;
}

/// Where blocks cannot be shared, no group is promised.
#[tokio::test(flavor = "multi_thread")]
async fn no_groups_on_ext4() {
    needs!();
    let mut driver = pool_on("ext4").await;
    let able = driver.identity.get_plugin_capabilities(csi::GetPluginCapabilitiesRequest {}).await.unwrap();
    assert_eq!(able.into_inner().capabilities.len(), 3);
    assert_code(driver.group_snapshot("g", &["default.v"]).await, Code::Unimplemented, "GROUP_SNAPSHOT");
}
