//! A fuzz target for each service: mutated requests, sent as bytes to a driver on real pools,
//! and after each of them what must hold whatever was asked.
//!
//! `make test` takes a few hundred steps of one seed. `make fuzz` takes a new seed and as long
//! as it is told; `HOLDFAST_FUZZ_SEED` repeats a run that failed. libFuzzer and its kin need a
//! nightly compiler; here the mutator knows the shape of protobuf, and the calls go through
//! the whole server, on stable Rust, with the tests' own tools.

mod mutate;
mod rpc;
mod seeds;

use std::{
    collections::{BTreeMap, BTreeSet},
    env, fs,
    os::unix::fs::symlink,
    path::PathBuf,
    time::{Duration, Instant},
};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, group_controller_client::GroupControllerClient};
use rand::RngExt as _;
use tonic::{Code, Status, transport::Channel};

use crate::{
    harness::{Driver, Scratch, channel, entries, filesystem, needs},
    raw::{send, send_and_read},
};
use mutate::{Mutator, break_bytes, in_order};
use rpc::{RPCS, Rpc};
use seeds::{POOLS, SECRET, STAGINGS, World};

/// How many calls a run of `make test` makes.
const STEPS: u64 = 300;
/// Streams are not read to their end: a mutated request may ask for a run a byte.
const MOST_OF_A_STREAM: usize = 100;

/// A driver with a pool of each kind, and what it may not touch.
struct Target {
    driver: Driver,
    channel: Channel,
    world: World,
    disk: PathBuf,
    codes: BTreeMap<(&'static str, String), u64>,
}

impl Target {
    async fn new(seed: u64) -> Self {
        let scratch = Scratch::new();
        // On btrfs every kind of pool works.
        let disk = filesystem(&scratch, "btrfs");
        let pools = vec![
            PoolConfig::image(POOLS[0], disk.join(POOLS[0])),
            PoolConfig::directory(POOLS[1], disk.join(POOLS[1])),
            PoolConfig::btrfs(POOLS[2], disk.join(POOLS[2])),
        ];
        for folder in ["outside", "pods"] {
            fs::create_dir(scratch.path().join(folder)).unwrap();
        }
        fs::write(scratch.path().join("outside/canary"), "sings").unwrap();
        symlink(scratch.path().join("outside"), scratch.path().join("link")).unwrap();
        let home = scratch.path().to_str().unwrap().to_owned();
        let driver = Driver::with(scratch, pools).await;
        let channel = channel(&driver.config.endpoint).await;
        Self { driver, channel, world: World::new(seed, home), disk, codes: BTreeMap::new() }
    }

    /// One call, changed or as an orchestrator makes it.
    async fn step(&mut self, service: &'static str) -> Result<(), String> {
        let mutated = self.world.rng.random_ratio(1, 2);
        // The others make what there is to be asked about, and now and then take it away.
        let builds = self.world.rng.random_ratio(3, 4);
        let rpcs: Vec<&Rpc> = RPCS
            .iter()
            .filter(|rpc| match mutated {
                true => rpc.service == service,
                false => {
                    !builds || rpc.method.contains("/Create") || rpc.codes.contains(&Code::AlreadyExists)
                }
            })
            .collect();
        let rpc = rpcs[self.world.rng.random_range(0..rpcs.len())];
        for number in 0..STAGINGS {
            // One that was given as a target is gone after NodeUnpublishVolume.
            fs::create_dir_all(self.driver.path(&format!("staging-{number}"))).unwrap();
        }
        let mut body = in_order(&(rpc.seed)(&mut self.world));
        if mutated {
            let words = self.world.words();
            let mutator = Mutator { words: &words, home: &self.world.home };
            body = mutator.message(&mut self.world.rng, &body);
            if self.world.rng.random_ratio(1, 30) {
                let mut broken = body.clone();
                break_bytes(&mut self.world.rng, &mut broken);
                // What decodes all the same may name any path, and the driver is root.
                if !(rpc.decodes)(&broken) {
                    body = broken;
                }
            }
        }
        let answer = if rpc.streams {
            send_and_read(&self.channel, rpc.method, &body, MOST_OF_A_STREAM).await.map(drop)
        } else {
            send(&self.channel, rpc.method, &body).await.map(drop)
        };
        let code = answer.as_ref().err().map_or(Code::Ok, Status::code);
        *self.codes.entry((rpc.method, format!("{code:?}"))).or_default() += 1;
        let fault = match answer {
            Err(status) => wrong_status(rpc, &body, &status),
            Ok(()) => None,
        };
        let fault = match fault {
            None => self.wrong_state().await,
            fault => fault,
        };
        fault.map_or(Ok(()), |what| {
            let hex: String = body.iter().map(|byte| format!("{byte:02x}")).collect();
            Err(format!("{}: {what}\nrequest: {hex}\n{:?}", rpc.method, String::from_utf8_lossy(&body)))
        })
    }

    /// What holds after every call.
    async fn wrong_state(&mut self) -> Option<String> {
        let list = match self.driver.controller.list_volumes(csi::ListVolumesRequest::default()).await {
            Ok(list) => list.into_inner().entries,
            Err(status) => return Some(format!("the driver is gone or the list broken: {status}")),
        };
        let gone = POOLS
            .iter()
            .flat_map(|pool| {
                ["volumes", "snapshots", "groups", "trash"].map(|kind| self.disk.join(pool).join(kind))
            })
            .find(|folder| !folder.is_dir());
        if let Some(gone) = gone {
            return Some(format!("{} is gone", gone.display()));
        }
        let listed: BTreeSet<String> =
            list.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
        let there = self.folders("volumes");
        if listed != there {
            return Some(format!("listed: {listed:?}, there: {there:?}"));
        }
        self.world.volumes = listed.into_iter().collect();
        match self.look_at_snapshots().await {
            Ok(groups) => self.world.groups = groups,
            Err(fault) => return Some(fault),
        }
        let outside = self.driver.scratch.path().join("outside");
        if entries(&outside) != ["canary"] || fs::read(outside.join("canary")).unwrap() != b"sings" {
            return Some(format!("outside: {:?}", entries(&outside)));
        }
        let elsewhere = self.driver.scratch.mounts().into_iter().find(|point| {
            *point != self.disk && (point.starts_with(&self.disk) || point.starts_with(&outside))
        });
        elsewhere.map(|point| format!("something is mounted at {}", point.display()))
    }

    /// The finished ones of all pools.
    fn folders(&self, kind: &str) -> BTreeSet<String> {
        POOLS
            .iter()
            .flat_map(|pool| entries(&self.disk.join(pool).join(kind)))
            .filter(|name| !name.starts_with('.'))
            .collect()
    }

    /// The groups with their members; the error says what is wrong with the list.
    async fn look_at_snapshots(&mut self) -> Result<BTreeMap<String, Vec<String>>, String> {
        let list = self.driver.controller.list_snapshots(csi::ListSnapshotsRequest::default()).await;
        let list = list.map_err(|status| format!("the list of snapshots: {status}"))?.into_inner();
        let (mut listed, mut groups) = (BTreeSet::new(), BTreeMap::<_, Vec<String>>::new());
        self.world.sizes.clear();
        for snapshot in list.entries.into_iter().filter_map(|entry| entry.snapshot) {
            listed.insert(snapshot.snapshot_id.clone());
            self.world.sizes.insert(snapshot.snapshot_id.clone(), snapshot.size_bytes);
            if !snapshot.group_snapshot_id.is_empty() {
                groups.entry(snapshot.group_snapshot_id).or_default().push(snapshot.snapshot_id);
            }
        }
        let there = self.folders("snapshots");
        if listed != there {
            return Err(format!("snapshots listed: {listed:?}, there: {there:?}"));
        }
        self.world.snapshots = listed.into_iter().collect();
        Ok(groups)
    }

    /// Takes everything down by the calls alone: whatever was asked before, that is possible.
    async fn end(mut self) {
        self.driver.restart().await;
        let volumes = self.folders("volumes");
        let mounts = self.driver.scratch.mounts();
        for point in mounts.iter().rev().filter(|point| **point != self.disk) {
            let path = point.to_str().unwrap().to_owned();
            let mut faults = Vec::new();
            for id in &volumes {
                let request =
                    csi::NodeUnpublishVolumeRequest { volume_id: id.clone(), target_path: path.clone() };
                let unpublished = self.driver.node.node_unpublish_volume(request).await;
                faults.extend(unpublished.err());
            }
            let left = self.driver.scratch.mounts().contains(point);
            // A staging path is not a target: what is there it may have taken for one, or not.
            assert!(!left || faults.len() == volumes.len(), "{path}: {faults:?}");
        }
        for id in &volumes {
            for number in 0..STAGINGS {
                let staging_target_path = self.driver.path(&format!("staging-{number}"));
                let request = csi::NodeUnstageVolumeRequest { volume_id: id.clone(), staging_target_path };
                drop(self.driver.node.node_unstage_volume(request).await);
            }
            self.driver.detach(id).await.unwrap();
        }
        let mut groups = GroupControllerClient::new(channel(&self.driver.config.endpoint).await);
        for (group_snapshot_id, snapshot_ids) in self.look_at_snapshots().await.unwrap() {
            let request = csi::DeleteVolumeGroupSnapshotRequest {
                group_snapshot_id,
                snapshot_ids,
                ..Default::default()
            };
            groups.delete_volume_group_snapshot(request).await.unwrap();
        }
        for snapshot_id in self.folders("snapshots") {
            let request = csi::DeleteSnapshotRequest { snapshot_id, ..Default::default() };
            self.driver.controller.delete_snapshot(request).await.unwrap();
        }
        for id in &volumes {
            self.driver.delete(id).await.unwrap();
        }
        assert_eq!(self.driver.scratch.mounts(), [self.disk.as_path()]);
        self.driver.end().await;
        for kind in ["volumes", "snapshots", "groups"] {
            assert!(POOLS.iter().all(|pool| entries(&self.disk.join(pool).join(kind)).is_empty()));
        }
        assert_eq!(self.driver.scratch.loops().len(), 1, "the disk's own alone");
    }
}

/// What is wrong with an answer, if anything.
fn wrong_status(rpc: &Rpc, body: &[u8], status: &Status) -> Option<String> {
    let undecodable = status.code() == Code::Internal && !(rpc.decodes)(body);
    let message = status.message();
    // Of what lies in a pool that is not there, no call says that it does not exist.
    let of_another_pool =
        status.code() == Code::FailedPrecondition && message.contains("is not configured here");
    let fault = if !undecodable && !of_another_pool && !rpc.codes.contains(&status.code()) {
        "this code is not one for this call"
    } else if message.is_empty() {
        "there is no message"
    } else if message.chars().any(char::is_control) || message.len() > 8 << 10 {
        "the message is not one short line"
    } else if message.contains(SECRET) {
        "the message has a secret in it"
    } else {
        return None;
    };
    Some(format!("{fault}: {status}"))
}

fn number(name: &str) -> Option<u64> {
    env::var(name).ok().map(|text| text.parse().unwrap_or_else(|_| panic!("{name} is {text:?}")))
}

async fn fuzz(service: &'static str) {
    let seconds = number("HOLDFAST_FUZZ_SECONDS");
    let seed = number("HOLDFAST_FUZZ_SEED")
        .unwrap_or_else(|| if seconds.is_some() { rand::random() } else { 20_261_121 });
    println!("{service}: seed {seed}");
    let mut target = Target::new(seed).await;
    let started = Instant::now();
    let mut steps = 0;
    while seconds.map_or(steps < STEPS, |seconds| started.elapsed() < Duration::from_secs(seconds)) {
        steps += 1;
        if let Err(fault) = target.step(service).await {
            panic!("step {steps} of HOLDFAST_FUZZ_SEED={seed}: {fault}");
        }
    }
    println!("{service}: {steps} calls in {:.1} s", started.elapsed().as_secs_f64());
    for ((method, code), count) in &target.codes {
        if method.starts_with(service) {
            println!("{method}: {code} {count}");
        }
    }
    target.end().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn identity() {
    needs!("btrfs");
    fuzz("Identity").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn controller() {
    needs!("btrfs");
    fuzz("Controller").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn group_controller() {
    needs!("btrfs");
    fuzz("GroupController").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn snapshot_metadata() {
    needs!("btrfs");
    fuzz("SnapshotMetadata").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn node() {
    needs!("btrfs");
    fuzz("Node").await;
}
