//! Inline ephemeral volumes in memory.

use std::{
    collections::HashMap,
    fs::{self, File},
    io::{ErrorKind, Write as _},
};

use holdfast_csi_driver::{Config, PoolConfig, inspect, run};
use holdfast_proto::csi::{
    self, VolumeCapability, plugin_capability::Type, volume_capability::access_mode::Mode,
};
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::harness::{
    Driver, MIB, NODE, Scratch, assert_code, block, entries, mounted, mounted_as, needs, parameters, volume,
};

/// As a kubelet makes them.
const ID: &str = "csi-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// A driver with an image pool `default` and a pool of memory.
async fn with_memory() -> Driver {
    let scratch = Scratch::new();
    let image = PoolConfig::image("default", scratch.path().join("pool"));
    start(scratch, vec![image, PoolConfig::tmpfs("memory", 64 << 20)]).await
}

/// A driver of a name of its own: what is in memory is counted on the whole machine.
async fn start(scratch: Scratch, pools: Vec<PoolConfig>) -> Driver {
    let mut config = Config::new(NODE, scratch.path().join("csi.sock"), pools);
    let folder = scratch.path().file_name().unwrap().to_string_lossy();
    config.driver_name = format!("csi.{folder}.test");
    Driver::start(scratch, config).await
}

fn inline(driver: &Driver, target: &str, attributes: &[(&str, &str)]) -> csi::NodePublishVolumeRequest {
    let mut context: HashMap<_, _> = parameters(attributes);
    context.insert("csi.storage.k8s.io/ephemeral".to_owned(), "true".to_owned());
    context.insert("csi.storage.k8s.io/pod.name".to_owned(), "p".to_owned());
    csi::NodePublishVolumeRequest {
        volume_context: context,
        staging_target_path: String::new(),
        ..driver.publish_request(ID, target, &mounted_as("", &[], Mode::SingleNodeWriter))
    }
}

async fn publish(driver: &mut Driver, request: csi::NodePublishVolumeRequest) -> Result<(), Status> {
    driver.node.node_publish_volume(request).await.map(drop)
}

#[tokio::test(flavor = "multi_thread")]
async fn a_life_in_memory() {
    needs!();
    let mut driver = with_memory().await;
    let request = inline(&driver, "pod", &[("size", "8Mi")]);
    publish(&mut driver, request.clone()).await.unwrap();
    let mut file = File::create(driver.path("pod/file")).unwrap();
    file.write_all(&[7; 4 << 20]).unwrap();
    publish(&mut driver, request.clone()).await.unwrap();
    assert_eq!(driver.scratch.mounts().len(), 1, "a repeated call mounts nothing");
    assert_eq!(fs::metadata(driver.path("pod/file")).unwrap().len(), 4 << 20);
    let usage = driver.stats(ID, "pod").await.unwrap();
    assert_eq!((usage[0].total, usage[0].used), (8 * MIB, 4 * MIB));
    assert_eq!((usage[1].total, usage[1].used), (2048, 2));

    driver.restart().await;
    publish(&mut driver, request.clone()).await.unwrap();
    let error = file.write_all(&[7; 8 << 20]).unwrap_err();
    assert_eq!(error.kind(), ErrorKind::StorageFull, "{error}");
    drop(file);
    driver.unpublish(ID, "pod").await.unwrap();
    driver.unpublish(ID, "pod").await.unwrap();
    assert!(!fs::exists(driver.path("pod")).unwrap());
    assert_code(driver.stats(ID, "pod").await, Code::NotFound, ID);
    publish(&mut driver, request).await.unwrap();
    assert_eq!(entries(driver.path("pod").as_ref()), Vec::<String>::new(), "data came back");
    driver.restart().await;
    driver.unpublish(ID, "pod").await.unwrap();
    assert_eq!(driver.scratch.mounts().len(), 0);
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_not_possible_is_refused() {
    needs!();
    let mut driver = with_memory().await;
    for (attributes, code, said) in [
        (&[][..], Code::InvalidArgument, "size is required"),
        (&[("size", "many")], Code::InvalidArgument, "write bytes"),
        (&[("size", "-1")], Code::InvalidArgument, "write bytes"),
        (&[("size", "8Mi"), ("medium", "x")], Code::InvalidArgument, "\"medium\" is not known"),
        (&[("size", "8Mi"), ("pool", "default")], Code::InvalidArgument, "there are memory"),
        (&[("size", "0")], Code::OutOfRange, "64Mi"),
        (&[("size", "65Mi")], Code::OutOfRange, "64Mi"),
        (&[("size", "18446744073709551615")], Code::OutOfRange, "64Mi"),
    ] {
        let request = inline(&driver, "pod", attributes);
        assert_code(publish(&mut driver, request).await, code, said);
    }
    let good = inline(&driver, "pod", &[("size", "8Mi"), ("pool", "memory")]);
    let with = |capability: VolumeCapability| csi::NodePublishVolumeRequest {
        volume_capability: Some(capability),
        ..good.clone()
    };
    assert_code(
        publish(&mut driver, with(block(Mode::SingleNodeWriter))).await,
        Code::InvalidArgument,
        "block",
    );
    assert_code(publish(&mut driver, with(mounted("ext4"))).await, Code::InvalidArgument, "leave it out");
    let flags = with(mounted_as("", &["size=1g"], Mode::SingleNodeWriter));
    assert_code(publish(&mut driver, flags).await, Code::InvalidArgument, "size=1g");
    let named = csi::NodePublishVolumeRequest { volume_id: "default.pvc-1".to_owned(), ..good.clone() };
    assert_code(publish(&mut driver, named).await, Code::InvalidArgument, "persistent volume's id");
    assert!(!fs::exists(driver.path("pod")).unwrap(), "a refused call left something");

    let made = csi::CreateVolumeRequest {
        parameters: parameters(&[("pool", "memory")]),
        ..volume("v", 8 * MIB, &mounted(""))
    };
    assert_code(driver.create(made).await, Code::InvalidArgument, "inline ephemeral volumes only");
    // Without a pool of memory nothing is made on the disk instead.
    let mut other = Driver::image().await;
    let request = inline(&other, "pod", &[("size", "8Mi")]);
    assert_code(publish(&mut other, request).await, Code::InvalidArgument, "none is configured");
    // A kubelet ends what it could not begin, and asks until that is done.
    other.unpublish(ID, "pod").await.unwrap();
    assert_code(other.unpublish("csi-0123", "pod").await, Code::NotFound, "csi-0123");
    other.end().await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn what_is_there_is_compared() {
    needs!();
    let mut driver = with_memory().await;
    let request = inline(&driver, "pod", &[("size", "8Mi")]);
    publish(&mut driver, request.clone()).await.unwrap();
    let larger = inline(&driver, "pod", &[("size", "16Mi")]);
    assert_code(publish(&mut driver, larger).await, Code::AlreadyExists, "8Mi");
    let read_only = csi::NodePublishVolumeRequest { readonly: true, ..request.clone() };
    assert_code(publish(&mut driver, read_only).await, Code::AlreadyExists, "other arguments");
    let second = inline(&driver, "second", &[("size", "8Mi")]);
    assert_code(publish(&mut driver, second.clone()).await, Code::FailedPrecondition, "one path only");
    assert!(!fs::exists(driver.path("second")).unwrap(), "a refused call left its folder");
    fs::create_dir(driver.path("second")).unwrap();
    assert_code(publish(&mut driver, second).await, Code::FailedPrecondition, "one path only");
    assert!(fs::exists(driver.path("second")).unwrap(), "a refused call took somebody's folder");
    let other = csi::NodePublishVolumeRequest { volume_id: "csi-other".to_owned(), ..request.clone() };
    assert_code(publish(&mut driver, other).await, Code::FailedPrecondition, "another ephemeral volume");
    assert_code(driver.unpublish("csi-other", "pod").await, Code::FailedPrecondition, "left as it is");
    assert_code(driver.unpublish("csi-other", "nowhere").await, Code::NotFound, "csi-other");
    assert_code(driver.unpublish(&ID.to_uppercase(), "nowhere").await, Code::NotFound, "CSI-");
    assert!(fs::exists(driver.path("pod")).unwrap());

    // A persistent volume is not taken away as an ephemeral one, nor the other way round.
    let id = driver.bring_up("v", 16 * MIB, &mounted(""), "kept").await;
    assert_code(driver.unpublish(ID, "kept").await, Code::FailedPrecondition, "left as it is");
    assert_code(driver.unpublish(&id, "pod").await, Code::FailedPrecondition, "left as it is");
    driver.take_down(&id, "kept").await;
    driver.unpublish(ID, "pod").await.unwrap();
    for folder in ["trash", "groups"] {
        let asked = driver.unpublish(ID, &format!("pool/{folder}")).await;
        assert_code(asked, Code::InvalidArgument, "is in pool \"default\"");
        assert!(fs::exists(driver.path(&format!("pool/{folder}"))).unwrap(), "{folder} was removed");
    }
    // Somebody's files are not this driver's.
    fs::create_dir(driver.path("mine")).unwrap();
    fs::write(driver.path("mine/file"), "x").unwrap();
    assert_code(driver.unpublish(ID, "mine").await, Code::FailedPrecondition, "not empty");
    driver.end().await;
}

/// All volumes together never have more than the pool, whoever counts: the mounts do.
#[tokio::test(flavor = "multi_thread")]
async fn the_pool_is_never_promised_twice() {
    needs!();
    let mut driver = with_memory().await;
    let mut calls = tokio::task::JoinSet::new();
    for number in 0..16 {
        let mut node = driver.node.clone();
        let target = format!("pod-{number}");
        let request = csi::NodePublishVolumeRequest {
            volume_id: format!("csi-{number}"),
            ..inline(&driver, &target, &[("size", "10Mi")])
        };
        calls.spawn(async move { node.node_publish_volume(request).await.map(|_| number) });
    }
    let mut made = Vec::new();
    while let Some(called) = calls.join_next().await {
        match called.unwrap() {
            Ok(number) => made.push(number),
            Err(status) => assert_code(Err::<(), _>(status), Code::ResourceExhausted, "limits.capacity 64Mi"),
        }
    }
    assert_eq!(made.len(), 6, "{made:?}");
    driver.restart().await;
    let late = inline(&driver, "pod", &[("size", "10Mi")]);
    assert_code(publish(&mut driver, late.clone()).await, Code::ResourceExhausted, "4Mi of limits.capacity");
    let report = inspect(&driver.config).await.unwrap().remove(1);
    assert_eq!(report.found.unwrap().free, 4 << 20);
    driver.unpublish(&format!("csi-{}", made[0]), &format!("pod-{}", made[0])).await.unwrap();
    publish(&mut driver, late).await.unwrap();
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn memory_alone_declares_nothing_that_is_kept() {
    needs!();
    let scratch = Scratch::new();
    let mut driver = start(scratch, vec![PoolConfig::tmpfs("memory", 64 << 20)]).await;
    let request = csi::GetPluginCapabilitiesRequest {};
    let plugin = driver.identity.get_plugin_capabilities(request).await.unwrap().into_inner().capabilities;
    assert_eq!(plugin.len(), 1, "{plugin:?}");
    assert!(!plugin.iter().any(|one| matches!(one.r#type, Some(Type::VolumeExpansion(_)))));
    let request = csi::ControllerGetCapabilitiesRequest {};
    let controller = driver.controller.controller_get_capabilities(request).await.unwrap().into_inner();
    assert_eq!(controller.capabilities, []);
    let node = driver.node.node_get_capabilities(csi::NodeGetCapabilitiesRequest {}).await.unwrap();
    assert_eq!(node.into_inner().capabilities.len(), 3, "stats, condition, several writers");
    let made = driver.create(volume("v", 8 * MIB, &mounted(""))).await;
    assert_code(made, Code::Unimplemented, "CREATE_DELETE_VOLUME");
    let staged = driver.stage("default.v", &mounted("")).await;
    assert_code(staged, Code::Unimplemented, "STAGE_UNSTAGE_VOLUME");
    assert_code(driver.unstage("default.v").await, Code::Unimplemented, "STAGE_UNSTAGE_VOLUME");
    let request = inline(&driver, "pod", &[("size", "8Mi")]);
    publish(&mut driver, request).await.unwrap();
    driver.unpublish(ID, "pod").await.unwrap();
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_of_memory_has_a_limit_and_no_path() {
    needs!();
    let refused = async |change: &dyn Fn(&mut PoolConfig), said: &str| {
        let mut pool = PoolConfig::tmpfs("memory", 1 << 20);
        change(&mut pool);
        let config = Config::new(NODE, "/nowhere/csi.sock", vec![pool]);
        let error = run(config, CancellationToken::new()).await.unwrap_err().to_string();
        assert!(error.contains(said), "{error}");
    };
    refused(&|pool| pool.limits.capacity = None, "limits.capacity").await;
    refused(&|pool| pool.path = "/tmp".into(), "path").await;
}
