//! Pools of memory: inline ephemeral volumes, each a tmpfs of its own size that lives from
//! NodePublishVolume to NodeUnpublishVolume.
//!
//! Not behind the trait [`super::Backend`], for nothing here is made, kept or staged. There
//! is no record but the mount table: a mount's source names its volume, so what is mounted
//! and what is known of it can never differ, and a crash leaves a mount that says whose it is.

use std::{collections::BTreeMap, path::PathBuf};

use parking_lot::Mutex;
use rustix::mount::MountAttrFlags;

use crate::{
    config::{ConfigError, PoolConfig},
    error::Error,
    kernel::{
        flags::MountOptions,
        mount,
        mountinfo::{self, Mount},
        place::{Place, Seen},
    },
    size::Bytes,
    volume_id::VolumeId,
};

/// The unit in which tmpfs gives out memory, in bytes.
const PAGE: u64 = 4096;
/// A file needs an inode whether it has bytes or not; an inode takes about 1 KiB of memory
/// that does not count as the volume's. One a page: no volume of files of a page each runs
/// out of inodes first, and they never take more than a quarter of its size besides.
const BYTES_PER_INODE: u64 = PAGE;
/// The fewest inodes of a volume.
const MIN_INODES: u64 = 64;

/// A pool of memory.
#[derive(Debug)]
pub(crate) struct Memory {
    pub(crate) name: String,
    /// Two drivers on a machine may have pools of one name; their own names differ.
    driver: String,
    /// The most bytes of all its volumes together.
    pub(crate) capacity: u64,
    /// The most bytes of one.
    max_volume_size: u64,
    /// Held from the count to the mount, so that two never take the same room.
    mounting: Mutex<()>,
}

/// An ephemeral volume that is mounted somewhere.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) struct Live {
    /// The name of the driver that mounted it.
    pub(crate) driver: String,
    pub(crate) id: VolumeId,
    /// Bytes.
    pub(crate) size: u64,
    /// As the mount table has them.
    pub(crate) options: String,
    pub(crate) mount_point: PathBuf,
    /// Of the file system: several mounts may show one.
    device: String,
    /// Whether the mount shows the whole volume, not a folder of it.
    is_whole: bool,
}

impl Live {
    fn of(mount: Mount) -> Option<Self> {
        if mount.fs_type != "tmpfs" {
            return None;
        }
        let (driver, id) = mount.source.to_str()?.rsplit_once('/')?;
        let (driver, id) = (driver.to_owned(), VolumeId::try_from(id.to_owned()).ok()?);
        let size = mount.fs_options.split(',').find_map(|option| option.strip_prefix("size="))?;
        let size = size.strip_suffix('k')?.parse::<u64>().ok()?.checked_mul(1024)?;
        Some(Self {
            driver,
            id,
            size,
            options: mount.options,
            mount_point: mount.mount_point,
            device: mount.device,
            is_whole: mount.root.as_os_str() == "/",
        })
    }
}

/// The ephemeral volume that is mounted there, if it is one.
pub(crate) fn seen(seen: &Seen) -> Result<Option<Live>, Error> {
    Ok(mountinfo::by_id(seen.mount_id)?.and_then(Live::of))
}

impl Memory {
    /// The pool that the configuration asks for.
    pub(crate) fn new(driver: &str, config: &PoolConfig) -> Result<Self, ConfigError> {
        let capacity = config.limits.capacity.ok_or_else(|| no_capacity(&config.name))?;
        Ok(Self {
            name: config.name.clone(),
            driver: driver.to_owned(),
            capacity,
            max_volume_size: config.limits.max_volume_size.unwrap_or(capacity).min(capacity),
            mounting: Mutex::default(),
        })
    }

    /// Every mount of its volumes.
    fn mounts(&self) -> Result<impl Iterator<Item = Live>, Error> {
        let is_ours = |live: &Live| live.driver == self.driver && live.id.pool() == self.name;
        Ok(mountinfo::all()?.into_iter().filter_map(Live::of).filter(is_ours))
    }

    /// Bytes that its volumes have now.
    pub(crate) fn used(&self) -> Result<u64, Error> {
        let sizes: BTreeMap<String, u64> = self.mounts()?.map(|live| (live.device, live.size)).collect();
        Ok(sizes.into_values().sum())
    }

    /// The size that a volume gets which is to have `asked` bytes.
    pub(crate) fn size(&self, asked: u64) -> Result<u64, Error> {
        let size = asked.checked_next_multiple_of(PAGE).unwrap_or(u64::MAX);
        if asked == 0 || size > self.max_volume_size {
            return Err(Error::OutOfRange(format!(
                "{} is not a possible size of a volume in pool {:?}: from {} to {}",
                Bytes(asked),
                self.name,
                Bytes(PAGE),
                Bytes(self.max_volume_size)
            )));
        }
        Ok(size)
    }

    /// Mounts a new volume, which is empty, at an empty folder.
    pub(crate) fn mount(
        &self,
        id: &VolumeId,
        size: u64,
        attributes: MountAttrFlags,
        target: &Place,
    ) -> Result<(), Error> {
        let _one = self.mounting.lock();
        if let Some(other) = self.mounts()?.find(|live| live.id == *id && live.is_whole) {
            return Err(Error::Precondition(format!(
                "this ephemeral volume is published at {} already, and has one path only; unpublish it there first",
                other.mount_point.display()
            )));
        }
        let left = self.capacity.saturating_sub(self.used()?);
        if size > left {
            return Err(Error::Exhausted(format!(
                "pool {:?} is full: {} are needed and {} of limits.capacity {} are available; end some pods that use \
                 it, or give the pool more memory",
                self.name,
                Bytes(size),
                Bytes(left),
                Bytes(self.capacity)
            )));
        }
        let source = format!("{}/{id}", self.driver);
        let value = |name: &str, value: String| (name.to_owned(), Some(value));
        let mut fs_options = vec![
            value("size", size.to_string()),
            value("nr_inodes", (size / BYTES_PER_INODE).max(MIN_INODES).to_string()),
            // Whoever the workload runs as, as in /tmp.
            value("mode", "1777".to_owned()),
            ("noswap".to_owned(), None),
        ];
        let mounted = mount::mount_tmpfs(&source, &options(attributes, &fs_options), target);
        match mounted {
            // A kernel before 6.4 has no such option; nothing was mounted.
            Err(Error::Invalid(_)) => {
                fs_options.pop();
                mount::mount_tmpfs(&source, &options(attributes, &fs_options), target)
            }
            mounted => mounted,
        }
    }
}

fn options(attributes: MountAttrFlags, fs_options: &[(String, Option<String>)]) -> MountOptions {
    MountOptions { attributes, fs_options: fs_options.to_vec() }
}

/// Memory has no natural limit that could be the default: what a pool takes, others lack.
pub(crate) fn no_capacity(pool: &str) -> ConfigError {
    ConfigError::value(
        format!("pool {pool:?}: limits.capacity"),
        "is required for backend = \"tmpfs\": how much memory its volumes may have together",
    )
}
