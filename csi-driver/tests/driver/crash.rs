//! Killed at every step. The driver runs in a process of its own and is killed at the
//! n-th step of every call of a volume's whole life; it is started again, the call is
//! repeated, and the life goes on. With n from 1 until no call has so many steps, every
//! step of every call was the last one of some process.

use std::{
    collections::BTreeMap,
    env, fs,
    os::unix::net::UnixStream,
    path::Path,
    process::{Child, Command, ExitStatus, Stdio},
};

use holdfast_csi_driver::{Config, PoolConfig, run};
use holdfast_proto::csi::{self, VolumeCapability, volume_capability::access_mode::Mode};
use rustix::net::sockopt::socket_peercred;
use tokio_util::sync::CancellationToken;
use tonic::{Code, Status};

use crate::harness::{
    Driver, MIB, NODE, Scratch, block, command, entries, mounted, needs, parameters, until, volume,
};

/// Where the child finds its configuration.
const FOLDER: &str = "HOLDFAST_TEST_FOLDER";
const POOL: &str = "HOLDFAST_TEST_POOL";
/// No call has so many steps; more would be a crash that repeats for ever.
const ENDLESS: u64 = 200;

/// The driver, in the child process.
#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
#[ignore = "the child process of the other tests here"]
async fn child() {
    let folder = env::var(FOLDER).unwrap();
    run(config(Path::new(&folder), &env::var(POOL).unwrap()), CancellationToken::new()).await.unwrap();
}

fn config(folder: &Path, backend: &str) -> Config {
    let pool = match backend {
        "image" | "tmpfs" => PoolConfig::image("default", folder.join("pool")),
        "image on xfs" | "image on btrfs" => PoolConfig::image("default", folder.join("disk/pool")),
        "directory" => PoolConfig::directory("default", folder.join("disk/pool")),
        "btrfs" | "two btrfs" => PoolConfig::btrfs("default", folder.join("disk/pool")),
        other => panic!("no backend {other}"),
    };
    let mut config = Config::new(NODE, folder.join("csi.sock"), vec![pool]);
    if backend == "two btrfs" {
        config.pools.push(PoolConfig::btrfs("other", folder.join("second/pool")));
    }
    if backend == "tmpfs" {
        config.pools.push(PoolConfig::tmpfs("memory", 64 << 20));
        // What is in memory is counted on the whole machine.
        config.driver_name = format!("csi.{}.test", folder.file_name().unwrap().to_string_lossy());
    }
    config
}

/// Whether its pool lies on a disk of its own.
fn has_a_disk(backend: &str) -> bool {
    matches!(backend, "directory" | "btrfs" | "two btrfs" | "image on xfs" | "image on btrfs")
}

/// A disk with an empty folder for a pool.
fn make_disk(scratch: &Scratch, name: &str, mkfs: &str) {
    let image = scratch.path().join(format!("{name}.img"));
    fs::File::create(&image).unwrap().set_len(4 << 30).unwrap();
    command(mkfs, &["-q", image.to_str().unwrap()]).unwrap();
    let disk = scratch.path().join(name);
    fs::create_dir(&disk).unwrap();
    command("mount", &["-o", "loop", image.to_str().unwrap(), disk.to_str().unwrap()]).unwrap();
    fs::create_dir(disk.join("pool")).unwrap();
}

/// Whether something of its volumes can be changed.
fn can_modify(backend: &str) -> bool {
    matches!(backend, "directory" | "btrfs")
}

/// A volume's life, and the driver's.
pub(crate) struct Life {
    backend: &'static str,
    pub(crate) capability: VolumeCapability,
    pub(crate) size: i64,
    process: Child,
    pub(crate) driver: Driver,
    /// At which step of each call the driver is killed.
    crash_at: u64,
    /// How often it was, by call.
    crashes: BTreeMap<&'static str, u64>,
}

#[expect(clippy::disallowed_methods, reason = "the test is about processes that are killed")]
pub(crate) fn start(folder: &Path, backend: &str, crash_at: Option<u64>) -> Child {
    let mut command = Command::new(env::current_exe().unwrap());
    command
        .args(["--ignored", "--exact", "crash::child", "--nocapture", "--test-threads=1"])
        .env(FOLDER, folder)
        .env(POOL, backend)
        .env("HOLDFAST_STEPS", folder.join("steps"))
        .stdout(Stdio::null());
    if let Some(step) = crash_at {
        command.env("HOLDFAST_CRASH_AT_STEP", step.to_string());
    }
    command.spawn().unwrap()
}

/// Waits until the driver listens, or has ended.
pub(crate) async fn listening(process: &mut Child, folder: &Path) -> Option<ExitStatus> {
    let mut ended = None;
    let socket = folder.join("csi.sock");
    until("the driver listens", || {
        ended = process.try_wait().unwrap();
        // A command that the one before was starting when it was killed may hold its socket still.
        let is_its_own = |stream: UnixStream| {
            socket_peercred(stream).unwrap().pid.as_raw_nonzero().get().cast_unsigned() == process.id()
        };
        ended.is_some() || UnixStream::connect(&socket).is_ok_and(is_its_own)
    })
    .await;
    ended
}

impl Life {
    async fn begin(backend: &'static str, capability: VolumeCapability, size: i64, crash_at: u64) -> Self {
        let scratch = Scratch::new();
        if has_a_disk(backend) {
            make_disk(&scratch, "disk", if backend == "image on xfs" { "mkfs.xfs" } else { "mkfs.btrfs" });
            if backend == "two btrfs" {
                make_disk(&scratch, "second", "mkfs.btrfs");
            }
        } else {
            fs::create_dir(scratch.path().join("pool")).unwrap();
        }
        let mut process = start(scratch.path(), backend, None);
        assert_eq!(listening(&mut process, scratch.path()).await, None);
        let config = config(scratch.path(), backend);
        let driver = Driver::of_process(scratch, config).await;
        Self { backend, capability, size, process, driver, crash_at, crashes: BTreeMap::new() }
    }

    /// Ends the driver, however it is, and starts it anew, to be killed at a step or not.
    pub(crate) async fn restart(&mut self, crash_at: Option<u64>) -> bool {
        let _ = self.process.kill();
        self.process.wait().unwrap();
        let folder = self.driver.scratch.path().to_owned();
        self.process = start(&folder, self.backend, crash_at);
        if let Some(ended) = listening(&mut self.process, &folder).await {
            assert!(crash_at.is_some() && killed(ended), "the driver ended at its start: {ended}");
            return false;
        }
        // What it does on its own after its start has steps as well: it may listen and be gone.
        let channel = match Driver::try_process_clients(&self.driver.config).await {
            Err(_) if crash_at.is_some() => {
                assert!(killed(self.process.wait().unwrap()), "the driver takes no connection");
                return false;
            }
            channel => channel.unwrap(),
        };
        (self.driver.identity, self.driver.controller, self.driver.node) = channel;
        true
    }

    /// One call, in the middle of which the driver is killed; it is repeated until it is answered.
    pub(crate) async fn call<T>(
        &mut self,
        name: &'static str,
        call: impl AsyncFn(&mut Driver) -> Result<T, Status>,
    ) -> T {
        let mut answer = None;
        if self.restart(Some(self.crash_at)).await {
            match call(&mut self.driver).await {
                Ok(value) => answer = Some(value),
                Err(status) => assert!(is_lost(&status), "{name}: {status}"),
            }
        }
        if answer.is_some() {
            // What the driver does on its own after the answer belongs to it: it frees what was deleted.
            let (pools, process) = (self.pools(), &mut self.process);
            until("the trash is empty, or the driver gone", || {
                process.try_wait().unwrap().is_some()
                    || pools.iter().all(|pool| entries(&pool.join("trash")).is_empty())
            })
            .await;
        }
        let crashed = match self.process.try_wait().unwrap() {
            None if answer.is_some() => false,
            None => killed(self.process.wait().unwrap()),
            Some(ended) => killed(ended),
        };
        if crashed {
            *self.crashes.entry(name).or_default() += 1;
            self.look();
            assert!(self.restart(None).await);
            self.look_after_restart().await;
            answer = Some(repeated(name, &mut self.driver, &call).await);
        }
        answer.unwrap_or_else(|| panic!("{name}: neither an answer nor a crash"))
    }

    pub(crate) fn pool(&self) -> std::path::PathBuf {
        let folder = self.driver.scratch.path();
        if has_a_disk(self.backend) { folder.join("disk/pool") } else { folder.join("pool") }
    }

    pub(crate) fn pools(&self) -> Vec<std::path::PathBuf> {
        let second = (self.backend == "two btrfs").then(|| self.driver.scratch.path().join("second/pool"));
        [self.pool()].into_iter().chain(second).collect()
    }

    /// Right after the crash: whatever is called a volume or a snapshot is whole.
    fn look(&self) {
        for pool in self.pools() {
            for (folder, file) in [("volumes", "volume.json"), ("snapshots", "snapshot.json")] {
                let folder = pool.join(folder);
                if !folder.exists() {
                    continue;
                }
                for name in entries(&folder).iter().filter(|name| !name.starts_with('.')) {
                    let stored = read_json(&folder.join(name).join(file));
                    assert_eq!(stored["id"], name.as_str());
                }
            }
        }
    }

    /// After the restart: the list is what exists, and nothing half-made is left.
    async fn look_after_restart(&mut self) {
        let listed = self.driver.controller.list_volumes(csi::ListVolumesRequest::default()).await.unwrap();
        let mut listed: Vec<String> =
            listed.into_inner().entries.into_iter().map(|entry| entry.volume.unwrap().volume_id).collect();
        let mut there: Vec<_> = self.pools().iter().flat_map(|pool| entries(&pool.join("volumes"))).collect();
        listed.sort();
        there.sort();
        assert_eq!(listed, there);
        self.look_at_snapshots().await;
    }

    /// The whole life. Answers how often the driver was killed in it, by call.
    async fn run(mut self) -> BTreeMap<&'static str, u64> {
        let (capability, size) = (self.capability.clone(), self.size);
        let is_block = capability == block(Mode::SingleNodeMultiWriter);
        let file = self.driver.path("pod/file");
        let kept = |when: &str| {
            if !is_block {
                assert_eq!(fs::read_to_string(&file).unwrap(), "kept", "{when}");
            }
        };
        let made = self.call("create", async |d| d.create(volume("life", size, &capability)).await).await;
        let id = made.volume_id;
        self.call("attach", async |d| d.attach(&id, &capability).await).await;
        self.call("stage", async |d| d.stage(&id, &capability).await).await;
        self.call("publish", async |d| d.publish(&id, "pod", &capability).await).await;
        if !is_block {
            let file = fs::File::create(&file).unwrap();
            std::io::Write::write_all(&mut &file, b"kept").unwrap();
            file.sync_all().unwrap();
        }
        self.call("expand", async |d| d.expand(&id, size * 2).await.map(drop)).await;
        kept("expanded");
        if !cannot_grow(&capability) {
            let grown =
                self.call("node expand", async |d| d.node_expand_to(&id, "pod", size * 2).await).await;
            assert_eq!(grown, size * 2);
        }
        kept("grown");
        if can_modify(self.backend) {
            let request = csi::ControllerModifyVolumeRequest {
                volume_id: id.clone(),
                mutable_parameters: parameters(&[("compression", "zstd")]),
                ..Default::default()
            };
            let modify =
                async |d: &mut Driver| d.controller.controller_modify_volume(request.clone()).await.map(drop);
            self.call("modify", modify).await;
            let stored = read_json(&self.pool().join("volumes").join(&id).join("volume.json"));
            assert_eq!(stored["mutable"]["compression"], "zstd");
        }
        self.call("unpublish", async |d| d.unpublish(&id, "pod").await).await;
        self.call("publish again", async |d| d.publish(&id, "pod", &capability).await).await;
        kept("published again");
        self.call("unpublish at last", async |d| d.unpublish(&id, "pod").await).await;
        self.call("unstage", async |d| d.unstage(&id).await).await;
        self.call("detach", async |d| d.detach(&id).await).await;
        self.call("delete", async |d| d.delete(&id).await).await;
        self.end().await
    }

    /// The end of a life, after which nothing is left. Answers the crashes.
    pub(crate) async fn end(mut self) -> BTreeMap<&'static str, u64> {
        // Undisturbed, the driver frees what lies in the trash.
        self.restart(None).await;
        for pool in self.pools() {
            for folder in ["volumes", "snapshots", "groups"] {
                assert_eq!(entries(&pool.join(folder)), Vec::<String>::new(), "{folder}");
            }
            until("the trash is empty", || entries(&pool.join("trash")).is_empty()).await;
        }
        let own = ["disk", "second"].map(|name| self.driver.scratch.path().join(name));
        let others = |name: &String| {
            let file = format!("/sys/block/{name}/loop/backing_file");
            !fs::read_to_string(file)
                .is_ok_and(|file| own.iter().any(|disk| Path::new(file.trim()) == disk.with_extension("img")))
        };
        let loops: Vec<String> = self.driver.scratch.loops().into_iter().filter(others).collect();
        assert_eq!(loops, Vec::<String>::new(), "loop devices are left");
        let mounts: Vec<_> =
            self.driver.scratch.mounts().into_iter().filter(|point| !own.contains(point)).collect();
        assert_eq!(mounts, Vec::<std::path::PathBuf>::new(), "mounts are left");
        self.process.kill().unwrap();
        self.process.wait().unwrap();
        std::mem::take(&mut self.crashes)
    }
}

impl Drop for Life {
    fn drop(&mut self) {
        let _ = self.process.kill();
        let _ = self.process.wait();
    }
}

/// Repeats a call after a crash, as an orchestrator does: a tool that outlived the driver
/// may still hold the volume (ABORTED), and then it is asked again.
async fn repeated<T>(
    name: &str,
    driver: &mut Driver,
    call: &impl AsyncFn(&mut Driver) -> Result<T, Status>,
) -> T {
    for _ in 0..600 {
        match call(driver).await {
            Ok(value) => return value,
            Err(status) if status.code() == Code::Aborted => {
                tokio::time::sleep(std::time::Duration::from_millis(50)).await;
            }
            Err(status) => panic!("{name}, repeated after a crash: {status}"),
        }
    }
    panic!("{name} is answered with ABORTED for ever");
}

/// The connection broke under the call.
fn is_lost(status: &Status) -> bool {
    matches!(status.code(), Code::Unavailable | Code::Unknown | Code::Cancelled | Code::Internal)
        && !status.message().contains("cannot")
}

pub(crate) fn killed(status: ExitStatus) -> bool {
    std::os::unix::process::ExitStatusExt::signal(&status) == Some(9)
}

/// Whether the kernel lets nobody here grow it while it is mounted (ext4: CAP_SYS_RESOURCE).
fn cannot_grow(capability: &VolumeCapability) -> bool {
    *capability == mounted("ext4") && !crate::harness::can_grow_ext4_online()
}

pub(crate) fn read_json(path: &Path) -> serde_json::Value {
    serde_json::from_str(&fs::read_to_string(path).unwrap()).unwrap()
}

/// Lives, each killed one step later in every call, until no call has so many steps. Every
/// one of `calls` has to be killed some time.
pub(crate) async fn at_every_step(
    backend: &'static str,
    capability: VolumeCapability,
    size: i64,
    live: impl AsyncFn(Life) -> BTreeMap<&'static str, u64>,
    calls: &[&str],
) {
    let mut all: BTreeMap<&'static str, u64> = BTreeMap::new();
    let mut steps = 0;
    for crash_at in 1..ENDLESS {
        let life = Life::begin(backend, capability.clone(), size, crash_at).await;
        let crashes = live(life).await;
        if crashes.is_empty() {
            steps = crash_at - 1;
            break;
        }
        for (call, count) in crashes {
            *all.entry(call).or_default() += count;
        }
    }
    assert!(steps > 0, "a life with {ENDLESS} steps a call has no end");
    println!("{backend}: killed {} times, at up to {steps} steps a call: {all:?}", all.values().sum::<u64>());
    for call in calls {
        assert!(all.contains_key(call), "{call} was never killed: {all:?}");
    }
}

/// The life of a volume by itself.
async fn alone(backend: &'static str, capability: VolumeCapability, size: i64) {
    let mut calls =
        vec!["create", "attach", "stage", "publish", "expand", "unpublish", "unstage", "detach", "delete"];
    calls.extend(can_modify(backend).then_some("modify"));
    at_every_step(backend, capability, size, Life::run, &calls).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_image() {
    needs!("xfs");
    alone("image", mounted("xfs"), 300 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn mounted_ext4_image() {
    needs!();
    alone("image", mounted("ext4"), 64 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn raw_image() {
    needs!();
    alone("image", block(Mode::SingleNodeMultiWriter), 16 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn directory() {
    needs!("btrfs");
    alone("directory", mounted(""), 16 * MIB).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn btrfs() {
    needs!("btrfs");
    alone("btrfs", mounted(""), 16 * MIB).await;
}

/// As a kubelet makes them: what is gone already is known by it.
const INLINE: &str = "csi-0123456789abcdef0123456789abcdef0123456789abcdef0123456789abcdef";

/// An inline volume's short life: what a crash leaves is a mount that says whose it is.
#[tokio::test(flavor = "multi_thread")]
async fn memory() {
    needs!();
    let (mut crashes, mut steps) = (0, 0);
    for crash_at in 1..ENDLESS {
        let mut life = Life::begin("tmpfs", mounted(""), 8 * MIB, crash_at).await;
        let mut request = life.driver.publish_request(INLINE, "pod", &mounted(""));
        request.volume_context.insert("csi.storage.k8s.io/ephemeral".to_owned(), "true".to_owned());
        request.volume_context.insert("size".to_owned(), "40Mi".to_owned());
        let publish = async |d: &mut Driver| d.node.node_publish_volume(request.clone()).await.map(|_| ());
        life.call("publish", publish).await;
        let file = life.driver.path("pod/file");
        fs::write(&file, "kept").unwrap();
        life.call("publish again", publish).await;
        assert_eq!(fs::read_to_string(&file).unwrap(), "kept");
        assert_eq!(life.driver.scratch.mounts().len(), 1);
        life.call("unpublish", async |d| d.unpublish(INLINE, "pod").await).await;
        assert_eq!(life.driver.scratch.mounts().len(), 0);
        assert!(!Path::new(&life.driver.path("pod")).exists());
        // The room is there again.
        life.call("publish anew", publish).await;
        assert!(!Path::new(&file).exists());
        life.call("unpublish at last", async |d| d.unpublish(INLINE, "pod").await).await;
        let crashed = std::mem::take(&mut life.crashes);
        if crashed.is_empty() {
            steps = crash_at - 1;
            break;
        }
        crashes += crashed.values().sum::<u64>();
    }
    assert!(steps >= 2, "the folder and the mount are steps of a publication");
    println!("tmpfs: killed {crashes} times, at up to {steps} steps a call");
}
