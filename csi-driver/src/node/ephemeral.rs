//! Inline ephemeral volumes: NodePublishVolume makes them and NodeUnpublishVolume ends
//! them (CSI v1.12 knows them by the volume context only; Kubernetes KEP 596).

use std::collections::HashMap;

use holdfast_proto::csi::{NodePublishVolumeRequest, NodePublishVolumeResponse, NodeUnpublishVolumeResponse};
use rustix::mount::MountAttrFlags;

use super::publish::TARGET;
use crate::{
    backend::tmpfs::{self, Memory},
    capability::{Access, Capability},
    error::Error,
    kernel::{flags, mount, place::Place},
    server::Driver,
    size::{Bytes, parse_bytes},
    volume::Content,
    volume_id::VolumeId,
};

/// What a kubelet adds to the volume context; all but `ephemeral` is about the pod.
const OF_THE_POD: &str = "csi.storage.k8s.io/";
const EPHEMERAL: &str = "csi.storage.k8s.io/ephemeral";

/// Whether the request is for an inline ephemeral volume.
pub(super) fn is_wanted(context: &HashMap<String, String>) -> bool {
    context.get(EPHEMERAL).is_some_and(|value| value == "true")
}

/// Whether NodeUnpublishVolume, which says nothing else, is about an ephemeral volume: who
/// publishes it chooses its id, and those of persistent volumes are `<pool>.<name>`.
///
/// Once it has ended nothing is left to know it by, and the call may be repeated. What a
/// kubelet asks to end is then done already, also where its pool was never configured. Of
/// ids that nobody gives out, only what lies at the path can be one (CSI v1.12,
/// NodeUnpublishVolume: NOT_FOUND).
pub(super) fn is_meant(driver: &Driver, id: &str, place: Option<&Place>) -> Result<bool, Error> {
    if id.is_empty() || VolumeId::parse(id).is_ok() {
        return Ok(false);
    }
    match place {
        _ if is_of_a_kubelet(id) => Ok(true),
        Some(place) if driver.memory.is_empty() => is_at(driver, id, place),
        Some(place) => Ok(place.mounted_even_dead()?.is_some() || place.look()?.is_some()),
        None => Ok(false),
    }
}

/// Whether a kubelet gives such ids to inline volumes: `csi-` and a SHA-256 in hexadecimal
/// (kubernetes/kubernetes, `pkg/volume/csi`, `makeVolumeHandle`).
fn is_of_a_kubelet(id: &str) -> bool {
    id.strip_prefix("csi-").is_some_and(|digest| {
        digest.len() == 64 && digest.bytes().all(|digit| matches!(digit, b'0'..=b'9' | b'a'..=b'f'))
    })
}

/// What the pod asks for.
struct Attributes<'a> {
    pool: &'a Memory,
    /// Bytes.
    size: u64,
}

impl<'a> Attributes<'a> {
    /// Unknown attributes are refused: a misspelled one must not be a silent default.
    fn read(driver: &'a Driver, context: &HashMap<String, String>) -> Result<Self, Error> {
        let (mut pool, mut size) = (None, None);
        for (name, value) in context {
            match name.as_str() {
                "pool" => pool = Some(value.as_str()),
                "size" => size = Some(value.as_str()),
                name if name.starts_with(OF_THE_POD) => {}
                name => {
                    return Err(Error::Invalid(format!(
                        "volume attribute {name:?} is not known; there are size and pool"
                    )));
                }
            }
        }
        let pool = memory(driver, pool)?;
        let size = size
            .ok_or_else(|| Error::Invalid("the volume attribute size is required, as \"64Mi\"".to_owned()))?;
        let asked = parse_bytes(size).ok_or_else(|| {
            Error::Invalid(format!(
                "the volume attribute size is {size:?}; write bytes or a whole number of Ki, Mi, Gi"
            ))
        })?;
        Ok(Self { pool, size: pool.size(asked)? })
    }
}

fn memory<'a>(driver: &'a Driver, name: Option<&str>) -> Result<&'a Memory, Error> {
    let names = || driver.memory.keys().cloned().collect::<Vec<_>>().join(", ");
    if driver.memory.is_empty() {
        return Err(Error::Invalid(
            "inline ephemeral volumes need a pool with backend = \"tmpfs\", and none is configured; add one, or use \
             a generic ephemeral volume with a StorageClass"
                .to_owned(),
        ));
    }
    match name {
        Some(name) => driver.memory.get(name).ok_or_else(|| {
            Error::Invalid(format!(
                "volume attribute pool: there is no pool {name:?} with backend = \"tmpfs\" here; there are {}",
                names()
            ))
        }),
        None => driver.memory.values().next().filter(|_| driver.memory.len() == 1).ok_or_else(|| {
            Error::Invalid(format!("the volume attribute pool has to name one of {}", names()))
        }),
    }
}

/// Makes the volume at the target path. Repeated, it finds what is mounted there.
pub(super) fn publish(
    driver: &Driver,
    request: &NodePublishVolumeRequest,
    capability: Capability,
) -> Result<NodePublishVolumeResponse, Error> {
    let id = &request.volume_id;
    if id.is_empty() {
        return Err(Error::Invalid("volume_id is required".to_owned()));
    }
    if VolumeId::parse(id).is_ok() {
        return Err(Error::Invalid(format!(
            "volume_id {id:?} has the form of a persistent volume's id; give an ephemeral volume one without a dot"
        )));
    }
    let Attributes { pool, size } = Attributes::read(driver, &request.volume_context)?;
    let mount_flags = match capability.access {
        Access::Mount { fs_type, flags } if fs_type.is_empty() || fs_type == "tmpfs" => flags,
        Access::Mount { fs_type, .. } => {
            return Err(Error::Invalid(format!(
                "fs_type {fs_type:?} is not possible for an ephemeral volume in memory; leave it out"
            )));
        }
        Access::Block => {
            return Err(Error::Invalid("an ephemeral volume in memory is no block device".to_owned()));
        }
    };
    let mut attributes = flags::check(Content::Folder, &mount_flags)?.attributes;
    // Nobody else's files come in here: nothing that is set-uid or a device is of use.
    attributes |= MountAttrFlags::MOUNT_ATTR_NOSUID | MountAttrFlags::MOUNT_ATTR_NODEV;
    if request.readonly || capability.mode.is_read_only() {
        attributes |= MountAttrFlags::MOUNT_ATTR_RDONLY;
    }
    let id = VolumeId::derive(&pool.name, id);
    let place = Place::required(TARGET, &request.target_path)?;
    driver.expect_outside_of_pools(TARGET, &place)?;
    let _guard = driver.guards.take(&id)?;
    if let Some(seen) = place.mounted()? {
        return match tmpfs::seen(&seen)? {
            Some(live) if live.id != id || live.driver != driver.name => Err(Error::Precondition(format!(
                "another ephemeral volume is published at {}; unpublish it first",
                request.target_path
            ))),
            None => Err(Error::Precondition(format!(
                "something that is not this volume is mounted at {}; unmount it first",
                request.target_path
            ))),
            Some(live) if live.size == size && flags::is_shown_as(attributes, &live.options) => {
                Ok(NodePublishVolumeResponse {})
            }
            Some(live) => Err(Error::Exists(format!(
                "the volume is published at {} with other arguments: {}, {}",
                request.target_path,
                Bytes(live.size),
                live.options
            ))),
        };
    }
    place.expect_empty()?;
    // A crash in between leaves an empty folder, and after the mount what a repeated call finds.
    let was_there = place.look()?.is_some();
    place.make_folder()?;
    if let Err(refused) = pool.mount(&id, size, attributes, &place) {
        // A refusal leaves what it found. What cannot be taken away does not hide why.
        if !was_there && let Err(error) = place.remove() {
            tracing::warn!(path = ?place.path(), %error, "an empty folder is left");
        }
        return Err(refused);
    }
    tracing::info!(path = ?place.path(), size = %Bytes(size), pool = %pool.name, "made in memory and published");
    Ok(NodePublishVolumeResponse {})
}

/// Whether what is mounted is the ephemeral volume that was published as `id`.
fn is_it(driver: &Driver, live: &tmpfs::Live, id: &str) -> bool {
    live.driver == driver.name && live.id == VolumeId::derive(live.id.pool(), id)
}

/// Ends the volume: with the mount go its data. Nothing there is done already, for no other
/// trace of such a volume exists.
pub(super) fn unpublish(
    driver: &Driver,
    id: &str,
    place: Option<Place>,
) -> Result<NodeUnpublishVolumeResponse, Error> {
    let Some(place) = place else { return Ok(NodeUnpublishVolumeResponse {}) };
    // An empty folder goes, and a pool has some that must not.
    driver.expect_outside_of_pools(TARGET, &place)?;
    // Its pool is not in the request: each is held for as long as this takes.
    let _guards = driver
        .memory
        .keys()
        .map(|pool| driver.guards.take(&VolumeId::derive(pool, id)))
        .collect::<Result<Vec<_>, _>>()?;
    mount::unmount_all(&place, &format!("{id:?}"), &|seen| {
        Ok(tmpfs::seen(seen)?.is_some_and(|live| is_it(driver, &live, id)))
    })?;
    place.remove()?;
    tracing::info!(path = ?place.path(), "unpublished, and gone");
    Ok(NodeUnpublishVolumeResponse {})
}

/// Whether the volume `id` is mounted at `place`.
pub(super) fn is_at(driver: &Driver, id: &str, place: &Place) -> Result<bool, Error> {
    match place.mounted()? {
        Some(seen) => Ok(tmpfs::seen(&seen)?.is_some_and(|live| is_it(driver, &live, id))),
        None => Ok(false),
    }
}
