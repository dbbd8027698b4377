//! No room: what clients are told, what still works, and that it heals.

use std::ffi::CString;
use std::path::Path;

use rustix::mount::{MountFlags, UnmountFlags, mount, unmount};
use serde_json::{Value, json};

use crate::harness::{Cluster, MAPS};

fn big(name: &str) -> Value {
    let data = json!({"text": "x".repeat(100_000)});
    json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name}, "data": data})
}

/// Creates objects until one is refused for want of room; returns how many there are, and the refusal.
async fn fill(cluster: &Cluster) -> (usize, String) {
    for number in 0..200 {
        let answer = cluster.post(MAPS, &big(&format!("map-{number}"))).await;
        if answer.code == 507 {
            assert!(!answer.headers.contains_key("retry-after"), "kubectl would wait in silence");
            return (number, answer.refused(507, "InsufficientStorage"));
        }
        answer.expect(201);
    }
    panic!("nothing was refused");
}

async fn is_served(cluster: &Cluster, objects: usize) {
    let list = cluster.get(MAPS).await.expect(200);
    assert_eq!(list["items"].as_array().unwrap().len(), objects);
    cluster.get(&format!("{MAPS}/map-0")).await.expect(200);
}

#[tokio::test]
async fn at_the_quota_things_can_be_deleted_and_not_made() {
    let cluster = Cluster::start_with(|config| config.quota = Some(1 << 20)).await;
    let mut held = big("map-0");
    held["metadata"]["finalizers"] = json!(["example.com/wait"]);
    cluster.post(MAPS, &held).await.expect(201);

    let mut number = 0;
    let message = loop {
        number += 1;
        let answer = cluster.post(MAPS, &big(&format!("map-{number}"))).await;
        if answer.code != 201 {
            break answer.refused(507, "InsufficientStorage");
        }
    };
    assert!(message.contains("the quota is 1048576") && message.contains("--store-quota"), "{message}");
    is_served(&cluster, number).await;
    // What exists goes on, with a small change, and goes, in two steps too.
    let label = json!({"metadata": {"labels": {"a": "b"}}});
    cluster.merge(&format!("{MAPS}/map-1"), &label).await.expect(200);
    let going = cluster.delete(&format!("{MAPS}/map-0")).await.expect(200);
    assert!(!going["metadata"]["deletionTimestamp"].is_null(), "{going}");
    cluster.post(MAPS, &big("new")).await.refused(507, "InsufficientStorage");
    cluster.merge(&format!("{MAPS}/map-0"), &json!({"metadata": {"finalizers": null}})).await.expect(200);
    cluster.post(MAPS, &big("new")).await.expect(201);
    cluster.stop().await;
}

/// A small file system of its own, unmounted when dropped.
struct SmallDisk(tempfile::TempDir);

impl SmallDisk {
    fn mount() -> rustix::io::Result<Self> {
        let folder = tempfile::tempdir().unwrap();
        let size = CString::new("size=16m").unwrap();
        mount("holdfast-test", folder.path(), "tmpfs", MountFlags::empty(), Some(&*size))?;
        Ok(Self(folder))
    }

    fn path(&self) -> &Path {
        self.0.path()
    }
}

impl Drop for SmallDisk {
    fn drop(&mut self) {
        let _ = unmount(self.path(), UnmountFlags::DETACH);
    }
}

#[tokio::test]
async fn a_full_disk_is_said_and_heals_without_a_restart() {
    let disk = match SmallDisk::mount() {
        Ok(disk) => disk,
        Err(error) => return holdfast_test_needs::cannot_run(&format!("cannot mount a tmpfs ({error})")),
    };
    let folder = tempfile::tempdir_in(disk.path()).unwrap();
    let cluster = Cluster::start_in(folder, |_| {}).await;
    let ballast = disk.path().join("ballast");
    std::fs::write(&ballast, vec![0; 12 << 20]).unwrap();
    let (objects, message) = fill(&cluster).await;
    assert!(message.contains("disk is full") && message.contains("make room"), "{message}");
    is_served(&cluster, objects).await;
    std::fs::remove_file(&ballast).unwrap();
    cluster.post(MAPS, &big("after")).await.expect(201);
    is_served(&cluster, objects + 1).await;
    cluster.stop().await;
}
