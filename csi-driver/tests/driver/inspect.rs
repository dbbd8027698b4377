//! Looking at pools changes nothing, and finds what a driver would trip over.

use std::fs;

use holdfast_csi_driver::{Config, Findings, PoolConfig, PoolReport, PoolState, inspect};

use crate::harness::{Driver, Scratch, entries, filesystem, needs};

async fn look(pool: PoolConfig) -> PoolReport {
    let config = Config::new("n", "/run/csi.sock", vec![pool]);
    inspect(&config).await.unwrap().remove(0)
}

async fn found(pool: PoolConfig) -> Findings {
    look(pool).await.found.unwrap()
}

#[tokio::test(flavor = "multi_thread")]
async fn a_pool_through_its_life() {
    needs!();
    let scratch = Scratch::new();
    let path = scratch.path().join("a/pool");
    let pool = PoolConfig::image("default", &path);
    let missing = found(pool.clone()).await;
    assert_eq!(missing.state, PoolState::Missing);
    assert!(missing.free > 0 && missing.unenforced.is_none());
    assert!(!scratch.path().join("a").exists(), "looking made a folder");
    let mut must_exist = pool.clone();
    must_exist.create = false;
    let error = look(must_exist).await.found.unwrap_err().to_string();
    assert!(error.contains("make the folder"), "{error}");

    fs::create_dir_all(&path).unwrap();
    assert_eq!(found(pool.clone()).await.state, PoolState::Empty);
    assert_eq!(entries(&path), Vec::<String>::new());

    let mut driver = Driver::with(scratch, vec![pool.clone()]).await;
    assert_eq!(found(pool.clone()).await.state, PoolState::InUse);
    driver.end().await;
    assert_eq!(found(pool).await.state, PoolState::Ready);
    let other = look(PoolConfig::directory("default", &path)).await.found.unwrap_err().to_string();
    assert!(other.contains("is the image pool \"default\""), "{other}");
}

#[tokio::test(flavor = "multi_thread")]
async fn what_the_file_system_can_do() {
    needs!("btrfs", "xfs");
    let scratch = Scratch::new();
    for (fs, reflink, enforced) in [("ext4", false, false), ("xfs", true, false), ("btrfs", true, true)] {
        let path = filesystem(&scratch, fs);
        let found = found(PoolConfig::directory("default", path.join("pool"))).await;
        assert_eq!((found.fs.as_str(), found.reflink), (fs, reflink));
        assert_eq!(found.unenforced.is_none(), enforced, "{fs}: {:?}", found.unenforced);
    }
}

#[tokio::test(flavor = "multi_thread")]
async fn missing_tools_are_named() {
    needs!();
    let scratch = Scratch::new();
    let mut config =
        Config::new("n", "/run/csi.sock", vec![PoolConfig::image("a", scratch.path().join("pool"))]);
    config.tool_path = Some(scratch.path().as_os_str().to_owned());
    let report = inspect(&config).await.unwrap().remove(0);
    let lacks = report.found.unwrap().lacks.join("\n");
    for tool in ["blkid", "mkfs.ext4", "mkfs.xfs", "mkfs.btrfs"] {
        assert!(lacks.contains(&format!("{tool} is not installed")), "{lacks}");
    }
}
