//! What the tests of more than one crate share: a real `holdfast up`, the
//! objects of the main job, and the search for what was left behind.
#![expect(clippy::disallowed_methods, reason = "tests start the programs that users start")]

pub mod leftovers;
pub mod machine;
pub mod objects;
pub mod wait;

/// Whether this process may make loop devices and mounts. Says so by name when not.
#[must_use]
#[expect(clippy::print_stderr, reason = "a test that cannot run says so")]
pub fn is_root(test: &str) -> bool {
    let root = rustix::process::geteuid().is_root();
    if !root {
        eprintln!("{test}: cannot run: it needs root for loop devices and mounts");
    }
    root
}
