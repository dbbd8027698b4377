//! What the tests of more than one crate share: a real `holdfast up`, the
//! objects of the main job, and the search for what was left behind.
#![expect(clippy::disallowed_methods, reason = "tests start the programs that users start")]

pub mod disk;
pub mod driver;
pub mod hang;
pub mod leftovers;
pub mod machine;
pub mod objects;
pub mod process;
pub mod server;
pub mod sidecar;
pub mod wait;

use holdfast_test_needs::{Need, missing};

/// Whether this machine lacks what `holdfast up` needs for the main job and what the
/// manifests here ask for. Says so by name of the test; then it has to end.
#[must_use]
pub fn cannot_run() -> bool {
    missing(&[
        Need::Root,
        Need::LoopDevices,
        Need::FileSystem("ext4"),
        Need::FileSystem("xfs"),
        Need::Program("mkfs.ext4"),
        Need::Program("mkfs.xfs"),
        Need::Program("kubectl"),
    ])
}
