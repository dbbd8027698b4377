//! What a test needs of the machine, and the line that says by name which test
//! could not run for the lack of it.
//!
//! ```no_run
//! use holdfast_test_needs::{Need, missing};
//!
//! fn a_volume_on_btrfs() {
//!     if missing(&[Need::Root, Need::LoopDevices, Need::FileSystem("btrfs")]) {
//!         return;
//!     }
//!     // …
//! }
//! ```
//!
//! A test runner hides what a passing test prints. So the line also goes to the file that
//! `HOLDFAST_NOT_RUN` names, if it does; `make test` shows that file at its end.

pub mod postgres;

use std::{
    env, fmt,
    fs::{self, OpenOptions},
    io::Write as _,
    path::Path,
    process::{Command, Stdio},
    thread,
};

/// The file to which [`missing`] adds its lines.
const NOT_RUN: &str = "HOLDFAST_NOT_RUN";

/// Something that not every machine has.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Need {
    /// To be root, in this user namespace the one who may mount.
    Root,
    /// `/dev/loop-control`.
    LoopDevices,
    /// A file system that the kernel has built in or can load, by the kernel's name.
    FileSystem(&'static str),
    /// A program, by its name or an absolute path.
    Program(&'static str),
}

impl fmt::Display for Need {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::Root => f.write_str("root"),
            Self::LoopDevices => f.write_str("loop devices (/dev/loop-control)"),
            Self::FileSystem(name) => write!(f, "{name} in the kernel"),
            Self::Program(name) => write!(f, "the program {name} (make setup)"),
        }
    }
}

impl Need {
    /// Whether this machine has it.
    #[must_use]
    pub fn is_met(self) -> bool {
        match self {
            Self::Root => rustix::process::geteuid().is_root(),
            Self::LoopDevices => OpenOptions::new().read(true).write(true).open("/dev/loop-control").is_ok(),
            Self::FileSystem(name) => {
                let known = fs::read_to_string("/proc/filesystems").unwrap_or_default();
                is_listed(&known, name) || is_loadable(name)
            }
            Self::Program(name) => is_program(name),
        }
    }
}

/// Whether the machine lacks any of `needs`; then it has been said which test could not
/// run and why, and the test has to end.
#[must_use]
pub fn missing(needs: &[Need]) -> bool {
    let missing: Vec<String> = needs.iter().filter(|need| !need.is_met()).map(ToString::to_string).collect();
    if missing.is_empty() {
        return false;
    }
    cannot_run(&format!("it needs {}", missing.join(" and ")));
    true
}

/// Says that the running test cannot run, for a reason that is no [`Need`].
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn cannot_run(reason: &str) {
    let line = format!("{}: cannot run: {reason}", running_test());
    eprintln!("{line}");
    if let Some(path) = env::var_os(NOT_RUN) {
        // One write of one line: tests that run at once do not mix theirs.
        let written = OpenOptions::new()
            .create(true)
            .append(true)
            .open(&path)
            .and_then(|mut file| file.write_all(format!("{line}\n").as_bytes()));
        if let Err(error) = written {
            eprintln!("cannot write {}: {error}", Path::new(&path).display());
        }
    }
}

/// The test's name: libtest gives it to the thread, and nextest, with one process a
/// test, to the process.
fn running_test() -> String {
    let binary = env::args()
        .next()
        .and_then(|path| Path::new(&path).file_name().map(|name| name.to_string_lossy().into_owned()))
        .unwrap_or_default();
    // `life-0a1b2c3d…`: what follows the last hyphen is cargo's hash.
    let binary = binary.rsplit_once('-').map_or(binary.as_str(), |(name, _)| name);
    let name = match thread::current().name() {
        Some(name) if name != "main" => name.to_owned(),
        _ => env::var("NEXTEST_TEST_NAME")
            .ok()
            .or_else(|| env::args().skip(1).find(|argument| !argument.starts_with('-')))
            .unwrap_or_else(|| "a test".to_owned()),
    };
    format!("{binary} {name}")
}

/// `/proc/filesystems`: `nodev<TAB>tmpfs` or `<TAB>ext4`.
fn is_listed(table: &str, name: &str) -> bool {
    table.lines().any(|line| line.split_whitespace().last() == Some(name))
}

/// Whether the kernel would load it when it is mounted.
#[expect(clippy::disallowed_methods, reason = "tests ask the tool that the kernel asks")]
fn is_loadable(name: &str) -> bool {
    Command::new("modprobe")
        .args(["--dry-run", "--quiet", &format!("fs-{name}")])
        .stdin(Stdio::null())
        .stdout(Stdio::null())
        .stderr(Stdio::null())
        .status()
        .is_ok_and(|status| status.success())
}

fn is_program(name: &str) -> bool {
    let usual = ["/usr/local/sbin", "/usr/sbin", "/sbin", "/usr/bin", "/bin"].map(Into::into);
    let path = env::var_os("PATH").unwrap_or_default();
    // An absolute name replaces the folder it is joined to.
    env::split_paths(&path).chain(usual).any(|folder| folder.join(name).is_file())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_there_is_found_and_what_is_not_is_not() {
        assert!(Need::Program("sh").is_met());
        assert!(Need::Program("/bin/sh").is_met());
        assert!(!Need::Program("no-such-program").is_met());
        assert!(Need::FileSystem("proc").is_met());
        assert!(!Need::FileSystem("no-such-file-system").is_met());
    }

    #[test]
    fn the_table_of_file_systems_is_read() {
        let table = "nodev\ttmpfs\n\text4\n\tfuseblk\n";
        assert!(is_listed(table, "ext4") && is_listed(table, "tmpfs"));
        assert!(!is_listed(table, "fuse") && !is_listed(table, "nodev"));
    }

    #[test]
    fn the_test_is_named() {
        let name = running_test();
        assert!(name.contains("holdfast_test_needs"), "{name}");
        assert!(name.ends_with("the_test_is_named"), "{name}");
    }

    #[test]
    fn nothing_is_said_when_nothing_is_missing() {
        assert!(!missing(&[Need::Program("sh"), Need::FileSystem("proc")]));
        assert!(!missing(&[]));
    }
}
