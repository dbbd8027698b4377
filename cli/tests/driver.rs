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
    path::Path,
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
        let mut child = Command::new(env!("CARGO_BIN_EXE_holdfast"))
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
    let scratch = tempfile::tempdir().unwrap();
    let config = pools(scratch.path(), POOLS);
    let socket = scratch.path().join("csi.sock");
    let driver = Running::start(&config, &socket);
    let second = holdfast(&["--config", &config, "--endpoint", scratch.path().join("b").to_str().unwrap()]);
    assert_eq!(second.status.code(), Some(1));
    assert!(stderr(&second).contains("is in use by another driver"), "{}", stderr(&second));
    let checked = holdfast(&["check-config", &config]);
    let table = String::from_utf8(checked.stdout.clone()).unwrap();
    assert!(checked.status.success() && table.contains("in use"), "{table} {}", stderr(&checked));
    driver.terminate();
    assert!(!socket.exists(), "the socket is left behind");
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
