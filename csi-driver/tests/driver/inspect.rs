//! Looking at pools changes nothing, and finds what a driver would trip over.

use std::fs;

use holdfast_csi_driver::{Config, Findings, PoolConfig, PoolReport, PoolState, inspect};

use crate::harness::{Driver, Scratch, command, entries, filesystem, needs};

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

/// A driver starts without it, and refuses limits.
#[tokio::test(flavor = "multi_thread")]
async fn a_missing_cgroup_is_named() {
    needs!();
    let scratch = Scratch::new();
    let mut pool = PoolConfig::image("a", scratch.path().join("pool"));
    let said = async |pool: &PoolConfig| found(pool.clone()).await.lacks.join("\n");
    assert!(!said(&pool).await.contains("iops"));
    pool.io_cgroup = Some("/sys/fs/cgroup/no-such-group".into());
    let lacks = said(&pool).await;
    let missing = "iops and bandwidth cannot be limited: there is no cgroup /sys/fs/cgroup/no-such-group";
    assert!(lacks.contains(missing), "{lacks}");
}

/// The trash of one is no place for another: its start would free what is in it.
#[tokio::test(flavor = "multi_thread")]
async fn pools_in_one_another() {
    needs!();
    let scratch = Scratch::new();
    let (a, mount) = (scratch.path().join("a"), scratch.path().join("mount"));
    let mut driver = Driver::with(scratch, vec![PoolConfig::image("a", &a)]).await;
    driver.end().await;
    let inner = a.join("trash/b");
    fs::create_dir(&inner).unwrap();
    fs::create_dir(&mount).unwrap();
    command("mount", &["--bind", a.to_str().unwrap(), mount.to_str().unwrap()]).unwrap();
    for (path, how) in [
        (inner.clone(), "lies in the path of pool \"a\""),
        (a.join("volumes"), "lies in the path of pool \"a\""),
        (mount.join("trash/b"), "lies in the path of pool \"a\""),
        (mount.clone(), "is also the path of pool \"a\""),
        (a.clone(), "is also the path of pool \"a\""),
    ] {
        let pools = vec![PoolConfig::image("a", &a), PoolConfig::image("b", &path)];
        let config = Config::new("n", driver.scratch.path().join("second.sock"), pools);
        let mut reports = inspect(&config).await.unwrap();
        let of_b = reports.remove(1).found.unwrap_err().to_string();
        assert!(of_b.contains(how) && of_b.contains("pool \"b\""), "{of_b}");
        assert_eq!(reports.remove(0).found.unwrap().state, PoolState::Ready);
        let stop = tokio_util::sync::CancellationToken::new();
        let refused = holdfast_csi_driver::run(config, stop).await.unwrap_err().to_string();
        assert_eq!(refused, of_b);
        assert!(inner.exists(), "the start of a freed what is in its trash");
    }
    driver.scratch.unmount(&mount);
    driver.restart().await;
    driver.end().await;
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
