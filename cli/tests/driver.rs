//! `holdfast driver` as people start it.
#![allow(
    clippy::expect_used,
    clippy::panic,
    clippy::unwrap_used,
    reason = "a test may stop at what is wrong"
)]
#![expect(clippy::disallowed_methods, reason = "tests start the program that users start")]

use std::{
    fs,
    os::unix::net::UnixStream,
    path::{Path, PathBuf},
    process::{Child, Command, Output, Stdio},
    time::Duration,
};

use holdfast_test_needs::{Need, missing};

fn holdfast(args: &[&str]) -> Output {
    let mut command = Command::new(env!("CARGO_BIN_EXE_holdfast"));
    command.arg("driver").args(args).env_remove("CSI_ENDPOINT").output().unwrap()
}

fn pools(folder: &Path, text: &str) -> String {
    let path = folder.join("pools.toml");
    fs::write(&path, text.replace("DIR", folder.to_str().unwrap())).unwrap();
    path.to_str().unwrap().to_owned()
}

const POOLS: &str = r#"
[[pool]]
name = "default"
backend = "image"
path = "DIR/pool"
create = true
"#;

/// A driver that is killed when the test ends.
struct Running(Child);

impl Running {
    /// Starts it, and waits until it answers or ends.
    fn start(config: &str, socket: &Path) -> Self {
        let endpoint = format!("unix://{}", socket.display());
        // With as few files as a shell allows at first.
        let mut child = Command::new("sh")
            .args(["-c", "ulimit -S -n 256 && exec \"$@\"", "sh", env!("CARGO_BIN_EXE_holdfast")])
            .args(["driver", "--config", config, "--endpoint", &endpoint, "--node-id", "n1"])
            .stderr(Stdio::piped())
            .spawn()
            .unwrap();
        while UnixStream::connect(socket).is_err() {
            assert!(child.try_wait().unwrap().is_none(), "the driver ended at its start");
            pause();
        }
        Self(child)
    }

    fn terminate(mut self) {
        let id = rustix::process::Pid::from_child(&self.0);
        rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
        assert!(self.0.wait().unwrap().success());
    }
}

impl Drop for Running {
    fn drop(&mut self) {
        let _ = self.0.kill();
        let _ = self.0.wait();
    }
}

/// A driver with one pool, its folder, configuration and socket.
fn with_driver() -> (tempfile::TempDir, String, PathBuf, Running) {
    let scratch = tempfile::tempdir().unwrap();
    let config = pools(scratch.path(), POOLS);
    let socket = scratch.path().join("csi.sock");
    let driver = Running::start(&config, &socket);
    (scratch, config, socket, driver)
}

#[expect(clippy::disallowed_methods, reason = "between two looks at a condition")]
fn pause() {
    std::thread::sleep(Duration::from_millis(10));
}

fn stderr(output: &Output) -> String {
    String::from_utf8_lossy(&output.stderr).trim().to_owned()
}

#[test]
fn it_serves_until_it_is_told_to_stop() {
    if missing(&[Need::Root, Need::LoopDevices]) {
        return;
    }
    let (scratch, config, socket, driver) = with_driver();
    let second = holdfast(&["--config", &config, "--endpoint", scratch.path().join("b").to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("is in use by another driver"), "{}", stderr(&second));
    let checked = holdfast(&["check-config", &config]);
    let table = String::from_utf8(checked.stdout.clone()).unwrap();
    assert!(checked.status.success() && table.contains("in use"), "{table} {}", stderr(&checked));
    let limits = fs::read_to_string(format!("/proc/{}/limits", driver.0.id())).unwrap();
    let files = limits.lines().find_map(|line| line.strip_prefix("Max open files")).unwrap();
    let files: Vec<_> = files.split_whitespace().collect();
    assert!(files[0] == files[1] && files[0] != "256", "soft and hard limit: {files:?}");
    driver.terminate();
    assert!(!socket.exists(), "the socket is left behind");
}

/// A check of conformance that somebody ends leaves nothing on the plugin.
#[test]
fn a_check_that_is_stopped_cleans_up() {
    if missing(&[Need::Root, Need::LoopDevices]) {
        return;
    }
    let (scratch, _, socket, driver) = with_driver();
    let mut check = Command::new(env!("CARGO_BIN_EXE_holdfast"))
        .args(["csi-check", socket.to_str().unwrap()])
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap();
    let made = || fs::read_dir(scratch.path().join("pool/volumes")).unwrap().count();
    while made() == 0 {
        assert!(check.try_wait().unwrap().is_none(), "it ended before it made a volume");
        pause();
    }
    let id = rustix::process::Pid::from_child(&check);
    rustix::process::kill_process(id, rustix::process::Signal::TERM).unwrap();
    let output = check.wait_with_output().unwrap();
    let table = String::from_utf8_lossy(&output.stdout);
    assert_eq!(output.status.code(), Some(2), "{}", stderr(&output));
    assert!(stderr(&output).contains("stopped by a signal"), "{}", stderr(&output));
    assert!(table.contains("the run was stopped"), "{table}");
    assert_eq!(made(), 0, "{table}");
    driver.terminate();
}

#[test]
fn what_it_cannot_start_with_is_one_line() {
    if missing(&[Need::Root]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let socket = scratch.path().join("csi.sock");
    let start = |text: &str, more: &[&str]| {
        let config = pools(scratch.path(), text);
        let output = holdfast(&[&["--config", config.as_str()], more].concat());
        assert_eq!(output.status.code(), Some(1), "{text}");
        let said = stderr(&output);
        assert_eq!(said.lines().count(), 1, "{said}");
        said
    };
    assert!(start(POOLS, &[]).contains("endpoint: the file has none"));
    let typo = start(&POOLS.replace("backend", "bakend"), &["--endpoint", socket.to_str().unwrap()]);
    assert!(typo.contains("pools.toml:4:1: unknown field `bakend`"), "{typo}");
    let no_file = stderr(&holdfast(&["--config", "/nowhere.toml"]));
    assert!(no_file.contains("cannot read /nowhere.toml"), "{no_file}");
    assert!(stderr(&holdfast(&[])).contains("--config FILE is missing"));
}

#[test]
fn check_config_says_what_each_pool_can_do() {
    let scratch = tempfile::tempdir().unwrap();
    let two = format!("{POOLS}[[pool]]\nname = \"gone\"\nbackend = \"directory\"\npath = \"DIR/gone\"\n");
    let output = holdfast(&["check-config", &pools(scratch.path(), &two)]);
    assert_eq!(output.status.code(), Some(1));
    assert_eq!(stderr(&output), "holdfast: 1 of 2 pools cannot be used");
    let said = String::from_utf8(output.stdout).unwrap();
    assert!(said.starts_with("POOL      BACKEND"), "{said}");
    let line = |start: &str| said.lines().find(|line| line.starts_with(start)).unwrap();
    assert!(line("default ").ends_with("to be made"), "{said}");
    assert!(line("gone ").ends_with("unusable"), "{said}");
    assert!(line("pool \"gone\" is unusable").contains("make the folder"), "{said}");
    assert!(!scratch.path().join("pool").exists(), "checking made the pool");
}

/// An image file with an ext4 in it.
fn image(path: &Path) -> &str {
    fs::File::create(path).unwrap().set_len(32 << 20).unwrap();
    assert!(Command::new("mkfs.ext4").arg("-q").arg(path).status().unwrap().success());
    path.to_str().unwrap()
}

#[test]
fn import_works_with_and_without_a_driver() {
    if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("ext4"), Need::Program("mkfs.ext4")]) {
        return;
    }
    let scratch = tempfile::tempdir().unwrap();
    let at = |name: &str| scratch.path().join(name);
    let config = pools(scratch.path(), POOLS);
    let import = |path: &str, more: &[&str]| {
        let output = holdfast(&[&["import", path, "--config", &config], more].concat());
        let said = String::from_utf8(output.stdout.clone()).unwrap();
        (output.status.code().unwrap(), said.trim().to_owned(), stderr(&output))
    };
    let (first, second) = (at("first.img"), at("second.img"));
    let (first, second) = (image(&first), image(&second));
    let socket = at("csi.sock");

    // An order given the moment the driver is there is taken.
    let driver = Running::start(&config, &socket);
    assert_eq!(
        import(first, &["--name", "pvc-1"]),
        (0, "imported default.pvc-1 (32Mi)".to_owned(), String::new())
    );
    assert!(!Path::new(first).exists() && at("pool/volumes/default.pvc-1/disk.img").exists());
    let (code, yaml, said) = import(second, &["--name", "pvc-2", "--copy", "-o", "yaml"]);
    assert_eq!((code, said.as_str()), (0, ""));
    for line in [
        "kind: PersistentVolume",
        "  name: \"pvc-2\"",
        "    storage: \"33554432\"",
        "    driver: \"csi.holdfast.dev\"",
        "    volumeHandle: \"default.pvc-2\"",
        "    fsType: \"ext4\"",
        // The driver's, not the host name.
        "          - \"n1\"",
    ] {
        assert!(yaml.lines().any(|found| found == line), "no {line:?} in\n{yaml}");
    }
    assert!(Path::new(second).exists());
    driver.terminate();

    let (code, yaml, _) = import(second, &["--name", "pvc-3", "--copy", "--node-id", "n2", "-o", "yaml"]);
    assert!(code == 0 && yaml.lines().any(|line| line == "          - \"n2\""), "{yaml}");
    for (path, more, said) in [
        (second, vec!["--name", "pvc-2"], "volume default.pvc-2 exists already"),
        (second, vec!["--name", "v", "--pool", "gone"], "there is no pool \"gone\"; there are default"),
        (second, vec!["--name", "v", "--size", "lots"], "--size: \"lots\" is not a quantity"),
        (second, vec!["--name", "v", "--size", "1Mi"], "1Mi is less than what"),
        (second, vec!["--name", "v", "--fs-type", "xfs"], "holds ext4, not xfs"),
        ("/nowhere/x.img", vec!["--name", "v"], "/nowhere/x.img: No such file"),
        ("/", vec!["--name", "v"], "/ is no file and no folder"),
        (scratch.path().to_str().unwrap(), vec!["--name", "v", "--copy"], "holds the pool at"),
    ] {
        let (code, out, err) = import(path, &more);
        assert_eq!((code, out.as_str()), (1, ""), "{more:?}");
        assert!(err.starts_with("holdfast: ") && err.contains(said) && err.lines().count() == 1, "{err}");
    }
    assert_eq!(
        import(second, &["--name", "pvc-4"]),
        (0, "imported default.pvc-4 (32Mi)".to_owned(), String::new())
    );
    assert!(!Path::new(second).exists());
    let no_up = holdfast(&["import", "x", "--root", at("up").to_str().unwrap(), "--name", "v"]);
    assert!(stderr(&no_up).contains("up/pools/default: No such file"), "{}", stderr(&no_up));
}
