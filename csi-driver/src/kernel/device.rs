//! What the kernel says of a block device by its number, with nobody opening it (Linux,
//! Documentation/ABI/stable/sysfs-block).

use std::fs;

use rustix::fs as rfs;

use crate::error::{Error, Tried as _};

/// Whether the block device with this number takes no writes.
pub(crate) fn is_read_only(rdev: u64) -> Result<bool, Error> {
    let path = format!("/sys/dev/block/{}:{}/ro", rfs::major(rdev), rfs::minor(rdev));
    let text = fs::read_to_string(&path).tried(|| format!("reading {path}"))?;
    Ok(text.trim() != "0")
}
