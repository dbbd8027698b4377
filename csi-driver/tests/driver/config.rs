//! Starting: what is refused, and that it says why.

use std::{fs, os::unix::net::UnixListener};

use holdfast_csi_driver::{Config, PoolConfig, run};
use prometheus_client::{encoding::text::encode, registry::Registry};
use tokio_util::sync::CancellationToken;

use crate::harness::{Driver, MIB, Scratch, mounted, needs, volume};

async fn refused(config: Config, said: &str) {
    let error = run(config, CancellationToken::new()).await.unwrap_err().to_string();
    assert!(error.contains(said), "{error:?} does not say {said:?}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_socket_in_use_is_refused_and_a_stale_one_replaced() {
    needs!();
    let scratch = Scratch::new();
    let socket = scratch.path().join("csi.sock");
    let config =
        |pool: &str| Config::new("n", &socket, vec![PoolConfig::image("default", scratch.path().join(pool))]);
    let live = UnixListener::bind(&socket).unwrap();
    refused(config("a"), "another process listens").await;
    drop(live);
    assert!(socket.exists(), "stale now");
    let stale = config("a");
    fs::write(scratch.path().join("file"), "x").unwrap();
    let plain = Config::new("n", scratch.path().join("file"), stale.pools.clone());
    refused(plain, "is not a socket").await;
    let nowhere = Config::new("n", scratch.path().join("no/csi.sock"), stale.pools.clone());
    refused(nowhere, "has to exist").await;
    let mut driver = Driver::start(Scratch::new(), stale).await;
    driver.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn pools_that_cannot_be_used() {
    needs!();
    let scratch = Scratch::new();
    let at = |pool: PoolConfig| Config::new("n", scratch.path().join("csi.sock"), vec![pool]);
    let mut missing = PoolConfig::image("default", scratch.path().join("missing"));
    missing.create = false;
    refused(at(missing), "make the folder").await;
    // As a mount point is without its file system: a pool made there would have no volumes.
    fs::create_dir(scratch.path().join("missing")).unwrap();
    let mut empty = PoolConfig::image("default", scratch.path().join("missing"));
    empty.create = false;
    refused(at(empty), "mount what belongs there").await;
    fs::create_dir(scratch.path().join("full")).unwrap();
    fs::write(scratch.path().join("full/thesis.txt"), "x").unwrap();
    refused(at(PoolConfig::image("default", scratch.path().join("full"))), "thesis.txt").await;
    assert_eq!(fs::read_to_string(scratch.path().join("full/thesis.txt")).unwrap(), "x");
    fs::write(scratch.path().join("file"), "x").unwrap();
    refused(at(PoolConfig::image("default", scratch.path().join("file"))), "file").await;
    refused(at(PoolConfig::image("Default", scratch.path().join("pool"))), "a-z").await;
    let mut named = at(PoolConfig::image("default", scratch.path().join("pool")));
    named.node_id = "a/b".to_owned();
    refused(named.clone(), "node_id: \"a/b\" cannot be the value of the topology key").await;
    named.driver_name = "csi..dev".to_owned();
    refused(named, "driver_name: \"csi..dev\" is no domain name").await;

    let mut driver = Driver::image().await;
    let pool = driver.scratch.path().join("pool");
    let second = |pool| Config::new("n", driver.scratch.path().join("second.sock"), vec![pool]);
    refused(second(PoolConfig::image("default", &pool)), "in use by another driver").await;
    let (other_kind, other_name) =
        (second(PoolConfig::directory("default", &pool)), second(PoolConfig::image("other", &pool)));
    driver.end().await;
    refused(other_kind, "is the image pool \"default\"").await;
    refused(other_name, "is the image pool \"default\"").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn operations_are_measured() {
    needs!();
    let mut driver = Driver::image().await;
    let mut registry = Registry::default();
    driver.config.metrics.register(&mut registry);
    driver.create(volume("v", 8 * MIB, &mounted(""))).await.unwrap();
    driver.create(volume("", 8 * MIB, &mounted(""))).await.unwrap_err();
    let mut text = String::new();
    encode(&mut text, &registry).unwrap();
    for code in ["Ok", "InvalidArgument"] {
        let line = format!(
            "csi_plugin_operations_seconds_count{{driver_name=\"csi.holdfast.dev\",\
             method_name=\"/csi.v1.Controller/CreateVolume\",grpc_status_code=\"{code}\"}} 1"
        );
        assert!(text.contains(&line), "{text}");
    }
}
