//! A pool never promises more than it has.

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, CapacityRange, Topology, VolumeCapability};
use tonic::Code;

use crate::harness::{Driver, MIB, Scratch, assert_code, mounted, needs, parameters, volume};

async fn small(capacity: i64) -> Driver {
    let scratch = Scratch::new();
    let pool = PoolConfig::image("default", scratch.path().join("pool")).with_capacity(capacity as u64);
    Driver::with(scratch, vec![pool]).await
}

async fn available(driver: &mut Driver) -> i64 {
    let answer = driver.controller.get_capacity(csi::GetCapacityRequest::default()).await;
    answer.unwrap().into_inner().available_capacity
}

#[tokio::test(flavor = "multi_thread")]
async fn a_full_pool_says_so_in_numbers() {
    needs!();
    let mut driver = small(200 * MIB).await;
    let capability = mounted("ext4");
    assert_eq!(available(&mut driver).await, 200 * MIB);
    driver.create(volume("a", 128 * MIB, &capability)).await.unwrap();
    assert_eq!(available(&mut driver).await, 72 * MIB);
    let refused = driver.create(volume("b", 100 * MIB, &capability)).await;
    assert_code(refused, Code::ResourceExhausted, "100Mi are needed and 72Mi are available");
    // Growing is promising too, and a refusal changes nothing.
    assert_code(driver.expand("default.a", 300 * MIB).await, Code::ResourceExhausted, "172Mi");
    assert_eq!(available(&mut driver).await, 72 * MIB);
    assert_eq!(driver.expand("default.a", 200 * MIB).await.unwrap().capacity_bytes, 200 * MIB);
    assert_eq!(available(&mut driver).await, 0);
    // A restart counts the same.
    driver.restart().await;
    assert_eq!(available(&mut driver).await, 0);
    driver.delete("default.a").await.unwrap();
    driver.create(volume("b", 100 * MIB, &capability)).await.unwrap();
}

/// What the file system has free counts, and what volumes have not written yet is not
/// free.
#[tokio::test(flavor = "multi_thread")]
async fn the_disk_is_a_limit() {
    needs!();
    let scratch = Scratch::new();
    let disk = scratch.path().join("disk");
    std::fs::create_dir(&disk).unwrap();
    crate::harness::command("mount", &["-t", "tmpfs", "-o", "size=256m", "none", disk.to_str().unwrap()])
        .unwrap();
    let pool = PoolConfig::image("default", disk.join("pool"));
    let mut driver = Driver::with(scratch, vec![pool]).await;
    let capability = mounted("ext4");
    assert!(available(&mut driver).await <= 256 * MIB);
    driver.create(volume("a", 200 * MIB, &capability)).await.unwrap();
    let left = available(&mut driver).await;
    assert!((40 * MIB..=56 * MIB).contains(&left), "{left}");
    assert_code(driver.create(volume("b", 64 * MIB, &capability)).await, Code::ResourceExhausted, "full");
    driver.end().await;
}

/// Many creations at once must not promise the same room twice.
#[tokio::test(flavor = "multi_thread")]
async fn at_once() {
    needs!();
    let mut driver = small(640 * MIB).await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..20 {
        let mut controller = driver.controller.clone();
        let request = volume(&format!("v{number}"), 64 * MIB, &mounted("ext4"));
        calls.spawn(async move { controller.create_volume(request).await });
    }
    let mut made = 0;
    while let Some(answer) = calls.join_next().await {
        match answer.unwrap() {
            Ok(_) => made += 1,
            Err(status) => assert_eq!(status.code(), Code::ResourceExhausted, "{status}"),
        }
    }
    assert_eq!((made, available(&mut driver).await), (10, 0));
}

#[tokio::test(flavor = "multi_thread")]
async fn sizes() {
    needs!("xfs");
    let mut driver = Driver::image().await;
    let request =
        |name: &str, required: i64, limit: i64, capability: &VolumeCapability| csi::CreateVolumeRequest {
            capacity_range: Some(CapacityRange { required_bytes: required, limit_bytes: limit }),
            ..volume(name, 0, capability)
        };
    let ext4 = mounted("ext4");
    for (name, required, limit, expected) in [
        ("default", 0, 0, 1024 * MIB),
        ("rounded", 64 * MIB + 1, 0, 65 * MIB),
        ("exact", 64 * MIB, 64 * MIB, 64 * MIB),
        ("limited", 0, 100 * MIB, 100 * MIB),
        ("tiny", 1, 0, 8 * MIB),
    ] {
        let made = driver.create(request(name, required, limit, &ext4)).await.unwrap();
        assert_eq!(made.capacity_bytes, expected, "{name}");
    }
    assert_eq!(driver.create(request("xfs", 1, 0, &mounted("xfs"))).await.unwrap().capacity_bytes, 300 * MIB);
    for (required, limit) in [(64 * MIB, 32 * MIB), (-1, 0), (0, 1), (i64::MAX, 0), (8 << 60, 0)] {
        let answer = driver.create(request("bad", required, limit, &ext4)).await;
        assert_code(answer, Code::OutOfRange, "");
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn what_cannot_be_made_has_no_room() {
    needs!("xfs");
    let mut driver = small(200 * MIB).await;
    let mut ask = async |request: csi::GetCapacityRequest| {
        driver.controller.get_capacity(request).await.map(|answer| answer.into_inner())
    };
    let xfs = csi::GetCapacityRequest { volume_capabilities: vec![mounted("xfs")], ..Default::default() };
    let answer = ask(xfs).await.unwrap();
    assert_eq!(answer.minimum_volume_size, Some(300 * MIB));
    assert_eq!(answer.maximum_volume_size, Some(200 * MIB));
    let place = |node: &str| csi::GetCapacityRequest {
        accessible_topology: Some(Topology {
            segments: parameters(&[("topology.csi.holdfast.dev/node", node)]),
        }),
        ..Default::default()
    };
    assert_eq!(ask(place("node-1")).await.unwrap().available_capacity, 200 * MIB);
    assert_eq!(ask(place("node-2")).await.unwrap().available_capacity, 0);
    let ntfs = csi::GetCapacityRequest { volume_capabilities: vec![mounted("ntfs")], ..Default::default() };
    assert_eq!(ask(ntfs).await.unwrap().available_capacity, 0);
    let unknown = csi::GetCapacityRequest { parameters: parameters(&[("pool", "x")]), ..Default::default() };
    assert_code(ask(unknown).await, Code::InvalidArgument, "no pool \"x\"");
}

/// No pool is the default: a class has to name one, and the largest volume that one could make fits the
/// pool with the most room.
#[tokio::test(flavor = "multi_thread")]
async fn the_room_of_several_pools() {
    needs!();
    let scratch = Scratch::new();
    let pool = |name: &str, capacity: i64| {
        PoolConfig::image(name, scratch.path().join(name)).with_capacity(capacity as u64)
    };
    let pools = vec![pool("large", 200 * MIB), pool("small", 100 * MIB)];
    let mut driver = Driver::with(scratch, pools).await;
    assert_eq!(available(&mut driver).await, 200 * MIB);
    let request = csi::CreateVolumeRequest {
        parameters: parameters(&[("pool", "large")]),
        ..volume("a", 150 * MIB, &mounted("ext4"))
    };
    driver.create(request).await.unwrap();
    assert_eq!(available(&mut driver).await, 100 * MIB);
    // What a class has is taken into account: with this one no volume could be made.
    let request =
        csi::GetCapacityRequest { parameters: parameters(&[("enforceSize", "true")]), ..Default::default() };
    let answer = driver.controller.get_capacity(request).await;
    assert_code(answer, Code::InvalidArgument, "the class has to name one of large, small");
}
