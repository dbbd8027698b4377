//! What of a volume can be changed while it exists: compression on btrfs, and limits on
//! iops and bandwidth where a cgroup can hold them.

use std::{
    fs,
    path::{Path, PathBuf},
};

use holdfast_csi_driver::PoolConfig;
use holdfast_proto::csi::{self, controller_service_capability::rpc::Type};
use tonic::{Code, Status};

use crate::harness::{
    Driver, MIB, Scratch, assert_code, command, filesystem, mounted, needs, parameters, volume,
};

impl Driver {
    async fn modify(&mut self, id: &str, asked: &[(&str, &str)]) -> Result<(), Status> {
        let request = csi::ControllerModifyVolumeRequest {
            volume_id: id.to_owned(),
            mutable_parameters: parameters(asked),
            ..Default::default()
        };
        self.controller.controller_modify_volume(request).await.map(drop)
    }

    async fn declares_modify(&mut self) -> bool {
        let request = csi::ControllerGetCapabilitiesRequest {};
        let able = self.controller.controller_get_capabilities(request).await.unwrap().into_inner();
        able.capabilities.iter().any(|capability| {
            let Some(csi::controller_service_capability::Type::Rpc(rpc)) = &capability.r#type else {
                return false;
            };
            rpc.r#type() == Type::ModifyVolume
        })
    }
}

fn asked(name: &str, mutable: &[(&str, &str)]) -> csi::CreateVolumeRequest {
    csi::CreateVolumeRequest {
        mutable_parameters: parameters(mutable),
        ..volume(name, 64 * MIB, &mounted(""))
    }
}

/// The property of a folder, if it has one.
fn property(folder: &Path) -> Option<String> {
    let mut value = [0; 64];
    match rustix::fs::getxattr(folder, "btrfs.compression", &mut value[..]) {
        Ok(length) => Some(String::from_utf8_lossy(&value[..length]).into_owned()),
        Err(rustix::io::Errno::NODATA) => None,
        Err(error) => panic!("{error}"),
    }
}

/// Writes what can be compressed, and says whether it was.
fn is_compressed(file: &str) -> bool {
    if !Path::new(file).exists() {
        fs::write(file, vec![b'a'; 1 << 20]).unwrap();
        fs::File::open(file).unwrap().sync_all().unwrap();
    }
    let extents = command("filefrag", &["-v", file]).unwrap();
    assert!(extents.contains("extents found") || extents.contains("extent found"), "{extents}");
    extents.contains("encoded")
}

/// A driver with one pool on a btrfs of its own.
async fn on_btrfs(pool: fn(String, PathBuf) -> PoolConfig) -> (Driver, PathBuf) {
    let scratch = Scratch::new();
    let path = filesystem(&scratch, "btrfs").join("pool");
    let volumes = path.join("volumes");
    (Driver::with(scratch, vec![pool("default".to_owned(), path)]).await, volumes)
}

async fn compresses(pool: fn(String, PathBuf) -> PoolConfig) {
    let (mut driver, volumes) = on_btrfs(pool).await;
    assert!(driver.declares_modify().await);
    let capability = mounted("");
    let id = driver.bring_up("v", 64 * MIB, &capability, "pod").await;
    let data = volumes.join(&id).join("data");
    let file = |driver: &Driver, name: &str| driver.path(&format!("pod/{name}"));
    assert_eq!(property(&data), None);
    assert!(!is_compressed(&file(&driver, "before")));

    for _ in 0..2 {
        driver.modify(&id, &[("compression", "zstd")]).await.unwrap();
        assert_eq!(property(&data).as_deref(), Some("zstd"));
    }
    assert!(is_compressed(&file(&driver, "after")));
    assert!(!is_compressed(&file(&driver, "before")), "what was there stays as it is");
    driver.restart().await;
    driver.modify(&id, &[("compression", "none")]).await.unwrap();
    assert!(!is_compressed(&file(&driver, "later")));
    assert!(is_compressed(&file(&driver, "after")));
    for algorithm in ["lzo", "zlib"] {
        driver.modify(&id, &[("compression", algorithm)]).await.unwrap();
        assert!(is_compressed(&file(&driver, algorithm)), "{algorithm}");
    }

    // Refused is all of it, or nothing.
    for (bad, said) in [
        (("colour", "red"), "\"colour\" is not known; there are compression"),
        (("iopsRead", "100"), "limited by device"),
        (("bandwidthWrite", "much"), "a whole number"),
    ] {
        let refused = driver.modify(&id, &[("compression", "zstd"), bad]).await;
        assert_code(refused, Code::InvalidArgument, said);
        assert_eq!(property(&data).as_deref(), Some("zlib"));
    }
    assert_code(
        driver.modify(&id, &[("compression", "zip")]).await,
        Code::InvalidArgument,
        "\"zip\", not one",
    );
    // What takes nothing away can be asked for anywhere.
    driver.modify(&id, &[("iopsRead", "max")]).await.unwrap();
    driver.modify(&id, &[]).await.unwrap();
    assert_code(driver.modify("", &[]).await, Code::InvalidArgument, "volume_id");
    assert_code(driver.modify("default.no", &[("compression", "zstd")]).await, Code::NotFound, "default.no");

    // Its owner can change it from within; the next stage puts it right.
    rustix::fs::setxattr(&data, "btrfs.compression", b"lzo", rustix::fs::XattrFlags::empty()).unwrap();
    driver.unpublish(&id, "pod").await.unwrap();
    driver.unstage(&id).await.unwrap();
    driver.stage(&id, &capability).await.unwrap();
    assert_eq!(property(&data).as_deref(), Some("zlib"));
    driver.unstage(&id).await.unwrap();
    driver.detach(&id).await.unwrap();
    driver.delete(&id).await.unwrap();
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_of_directories() {
    needs!("btrfs");
    compresses(PoolConfig::directory).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn compression_of_subvolumes() {
    needs!("btrfs");
    compresses(PoolConfig::btrfs).await;
}

#[tokio::test(flavor = "multi_thread")]
async fn volumes_are_made_with_them() {
    needs!("btrfs");
    let (mut driver, volumes) = on_btrfs(PoolConfig::btrfs).await;
    let data = |id: &str| volumes.join(id).join("data");
    let zstd = [("compression", "zstd")];
    let made = driver.create(asked("v", &zstd)).await.unwrap();
    assert_eq!(property(&data(&made.volume_id)).as_deref(), Some("zstd"));

    // Compatible is what the volume has, and what names nothing.
    assert_eq!(driver.create(asked("v", &zstd)).await.unwrap(), made);
    assert_eq!(driver.create(asked("v", &[])).await.unwrap(), made);
    let other = driver.create(asked("v", &[("compression", "lzo")])).await;
    assert_code(other, Code::AlreadyExists, "other mutable_parameters");
    driver.modify(&made.volume_id, &[("compression", "lzo")]).await.unwrap();
    assert_eq!(driver.create(asked("v", &[("compression", "lzo")])).await.unwrap(), made);
    assert_code(driver.create(asked("v", &zstd)).await, Code::AlreadyExists, "other mutable_parameters");

    // A copy has what is asked for it, and else what is copied.
    let copy = |name: &str, mutable: &[(&str, &str)]| csi::CreateVolumeRequest {
        volume_content_source: Some(csi::VolumeContentSource {
            r#type: Some(csi::volume_content_source::Type::Volume(
                csi::volume_content_source::VolumeSource { volume_id: made.volume_id.clone() },
            )),
        }),
        ..asked(name, mutable)
    };
    let copied = driver.create(copy("copy", &[("compression", "none")])).await.unwrap();
    assert_eq!(property(&data(&copied.volume_id)).as_deref(), Some("none"));
    let alike = driver.create(copy("alike", &[])).await.unwrap();
    assert_eq!(property(&data(&alike.volume_id)).as_deref(), Some("lzo"));

    for (mutable, said) in [(("compression", "zstd:3"), "levels"), (("iopsWrite", "5"), "limited by device")]
    {
        assert_code(driver.create(asked("w", &[mutable])).await, Code::InvalidArgument, said);
    }
    assert!(!volumes.join("default.w").exists());
    let confirmed = async |driver: &mut Driver, mutable: &[(&str, &str)]| {
        let request = csi::ValidateVolumeCapabilitiesRequest {
            volume_id: made.volume_id.clone(),
            volume_capabilities: vec![mounted("")],
            mutable_parameters: parameters(mutable),
            ..Default::default()
        };
        let answer = driver.controller.validate_volume_capabilities(request).await.unwrap().into_inner();
        answer.confirmed.map(|confirmed| confirmed.mutable_parameters).ok_or(answer.message)
    };
    assert_eq!(confirmed(&mut driver, &zstd).await, Ok(parameters(&zstd)));
    let not = confirmed(&mut driver, &[("iopsRead", "5")]).await.unwrap_err();
    assert!(not.contains("limited by device"), "{not}");
}

#[tokio::test(flavor = "multi_thread")]
async fn where_nothing_can_be_changed_nothing_is_declared() {
    needs!();
    let scratch = Scratch::new();
    let folders = PoolConfig::directory("folders", filesystem(&scratch, "ext4").join("pool"));
    let images = PoolConfig::image("images", scratch.path().join("images"));
    let mut astray = PoolConfig::image("astray", scratch.path().join("astray"));
    astray.io_cgroup = Some("/sys/fs/cgroup/no-such-group".into());
    let mut driver = Driver::with(scratch, vec![folders, images, astray]).await;
    assert!(!driver.declares_modify().await);
    let refused = driver.modify("images.v", &[("iopsRead", "5")]).await;
    assert_code(refused, Code::Unimplemented, "MODIFY_VOLUME");
    for (pool, mutable, code, said) in [
        ("folders", ("compression", "zstd"), Code::InvalidArgument, "\"folders\": it lies on ext4"),
        ("images", ("compression", "zstd"), Code::InvalidArgument, "use a pool on btrfs"),
        ("images", ("iopsRead", "5"), Code::InvalidArgument, "\"images\": it has no io_cgroup"),
        ("astray", ("iopsRead", "5"), Code::FailedPrecondition, "there is no cgroup /sys/fs/cgroup/no-such"),
    ] {
        let request = csi::CreateVolumeRequest {
            parameters: parameters(&[("pool", pool), ("enforceSize", "false")]),
            ..asked("v", &[mutable])
        };
        assert_code(driver.create(request).await, code, said);
    }
    // Configured and missing is another thing than not known here.
    let request =
        csi::CreateVolumeRequest { parameters: parameters(&[("pool", "astray")]), ..asked("a", &[]) };
    let id = driver.create(request).await.unwrap().volume_id;
    let refused = driver.modify(&id, &[("iopsRead", "5")]).await;
    assert_code(refused, Code::FailedPrecondition, "there is no cgroup /sys/fs/cgroup/no-such");
    let refused = driver.modify(&id, &[("colour", "red")]).await;
    assert_code(refused, Code::InvalidArgument, "\"colour\" is not known");

    // What was promised with a cgroup is not quietly taken back without.
    let request =
        csi::CreateVolumeRequest { parameters: parameters(&[("pool", "images")]), ..asked("v", &[]) };
    let id = driver.create(request).await.unwrap().volume_id;
    let stored = PathBuf::from(driver.path("images/volumes")).join(&id).join("volume.json");
    let mut json: serde_json::Value = serde_json::from_slice(&fs::read(&stored).unwrap()).unwrap();
    json["mutable"] = serde_json::json!({"limits": {"iops_read": 5}});
    fs::write(&stored, json.to_string()).unwrap();
    driver.attach(&id, &mounted("")).await.unwrap();
    assert_code(driver.stage(&id, &mounted("")).await, Code::FailedPrecondition, "no io_cgroup");
    assert_eq!(driver.scratch.mounts().len(), 1, "the pool's own");
    assert_eq!(driver.scratch.loops().len(), 1, "the pool's own");
}

/// A cgroup v2 below one that gives it the io controller, where this kernel has that.
struct Group(PathBuf);

impl Group {
    fn new(scratch: &Scratch) -> Self {
        let top = scratch.path().join("cgroups");
        fs::create_dir(&top).unwrap();
        command("mount", &["-t", "cgroup2", "none", top.to_str().unwrap()]).unwrap();
        let has_io =
            fs::read_to_string(top.join("cgroup.controllers")).unwrap().split_whitespace().any(|c| c == "io");
        if has_io {
            fs::write(top.join("cgroup.subtree_control"), "+io").unwrap();
        }
        let name = scratch.path().file_name().unwrap().to_string_lossy().into_owned();
        let group = Self(top.join(name));
        fs::create_dir(&group.0).unwrap();
        group
    }

    /// The limits that the kernel holds.
    fn limits(&self) -> Vec<String> {
        fs::read_to_string(self.0.join("io.max")).unwrap().lines().map(str::to_owned).collect()
    }
}

impl Drop for Group {
    fn drop(&mut self) {
        let _ = fs::remove_dir(&self.0);
    }
}

/// Where the kernel has no io controller, what is shown is the refusal that says so.
#[tokio::test(flavor = "multi_thread")]
async fn limits_on_iops_and_bandwidth() {
    needs!();
    let scratch = Scratch::new();
    let group = Group::new(&scratch);
    let mut pool = PoolConfig::image("default", scratch.path().join("pool"));
    pool.io_cgroup = Some(group.0.clone());
    let mut driver = Driver::with(scratch, vec![pool]).await;
    let limits = [("iopsRead", "100"), ("bandwidthWrite", "1Mi")];
    if !group.0.join("io.max").exists() {
        println!(
            "NOT SHOWN: limits on iops and bandwidth (this kernel has no io controller); the refusal is"
        );
        assert!(!driver.declares_modify().await);
        let refused = driver.create(asked("v", &limits)).await;
        assert_code(refused, Code::FailedPrecondition, "the io controller is not there in");
        assert!(!driver.volume_folder("default.v").exists());
        return;
    }
    assert!(driver.declares_modify().await);
    for capability in
        [mounted("ext4"), crate::harness::block(csi::volume_capability::access_mode::Mode::SingleNodeWriter)]
    {
        let id = driver.create(volume("v", 64 * MIB, &capability)).await.unwrap().volume_id;
        driver.modify(&id, &limits).await.unwrap();
        assert_eq!(group.limits(), Vec::<String>::new(), "it has no device yet");
        driver.attach(&id, &capability).await.unwrap();
        driver.stage(&id, &capability).await.unwrap();
        let device = fs::read_to_string(format!("/sys/block/{}/dev", driver.scratch.loops()[0])).unwrap();
        let expect = |rest: &str| vec![format!("{} {rest}", device.trim())];
        assert_eq!(group.limits(), expect("rbps=max wbps=1048576 riops=100 wiops=max"));
        driver.modify(&id, &[("iopsRead", "max"), ("iopsWrite", "50")]).await.unwrap();
        assert_eq!(group.limits(), expect("rbps=max wbps=1048576 riops=max wiops=50"));
        // A cgroup that was made anew has lost them; a driver that starts sets them again.
        fs::write(group.0.join("io.max"), format!("{} wbps=max wiops=max", device.trim())).unwrap();
        driver.restart().await;
        assert_eq!(group.limits(), expect("rbps=max wbps=1048576 riops=max wiops=50"));
        driver.unstage(&id).await.unwrap();
        assert_eq!(group.limits(), Vec::<String>::new(), "the device's number may be another's now");
        // Left by a crash, on a device that nobody has.
        fs::write(group.0.join("io.max"), format!("{} wiops=2", device.trim())).unwrap();
        driver.restart().await;
        assert_eq!(group.limits(), Vec::<String>::new());
        driver.detach(&id).await.unwrap();
        driver.delete(&id).await.unwrap();
    }
}
