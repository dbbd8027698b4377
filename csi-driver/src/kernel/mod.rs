//! The kernel's side: loop devices, mounts, and the paths on which they are made.

pub(crate) mod btrfs;
pub(crate) mod compression;
pub(crate) mod damage;
pub(crate) mod device;
pub(crate) mod fiemap;
pub(crate) mod flags;
pub(crate) mod forks;
pub(crate) mod freeze;
pub(crate) mod io_max;
pub(crate) mod loopdev;
pub(crate) mod mount;
pub(crate) mod mountinfo;
pub(crate) mod place;
pub(crate) mod quota;
pub(crate) mod raw;
pub(crate) mod reflink;
pub(crate) mod removal;
pub(crate) mod sparse;
pub(crate) mod users;

use std::{fs, sync::OnceLock};

use crate::error::{Error, Tried as _};

/// The id of this boot of the machine: mounts and loop devices do not outlive it.
pub(crate) fn boot_id() -> Result<String, Error> {
    const PATH: &str = "/proc/sys/kernel/random/boot_id";
    // No process outlives its boot.
    static ID: OnceLock<String> = OnceLock::new();
    if let Some(id) = ID.get() {
        return Ok(id.clone());
    }
    let id = fs::read_to_string(PATH).tried(|| format!("reading {PATH}"))?.trim().to_owned();
    Ok(ID.get_or_init(|| id).clone())
}
