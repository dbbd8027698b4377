//! What a new volume is filled from (CSI v1.12, VolumeContentSource).

use holdfast_proto::csi::{
    VolumeContentSource,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};

use crate::{
    config::BackendKind,
    error::Error,
    guard::Guard,
    pool::{Pool, Still, VolumeFolder},
    server::Driver,
    size::{Bounds, Bytes, Wanted},
    snapshot::SnapshotId,
    volume::{Content, Format, Origin},
    volume_id::VolumeId,
};

/// What was asked for, if anything was. A pool that makes no copies says so before anything
/// is looked for (CSI v1.12, CreateVolume, "Source incompatible or not supported").
pub(super) fn asked(pool: &Pool, source: Option<&VolumeContentSource>) -> Result<Option<Origin>, Error> {
    let Some(source) = source else { return Ok(None) };
    if !pool.backend.abilities().clones {
        return Err(Error::Invalid(format!(
            "volume_content_source: pool {:?} makes no volumes from snapshots or other volumes{}; use another pool",
            pool.name,
            match pool.backend.kind() {
                BackendKind::Btrfs => " (`holdfast driver check-config` says why)",
                _ => "",
            }
        )));
    }
    Ok(Some(match &source.r#type {
        Some(Type::Snapshot(source)) => Origin::Snapshot(SnapshotId::parse(&source.snapshot_id)?),
        Some(Type::Volume(source)) => Origin::Volume(VolumeId::parse(&source.volume_id)?),
        None => {
            return Err(Error::Invalid(
                "volume_content_source names neither a snapshot nor a volume; name one, or leave it out"
                    .to_owned(),
            ));
        }
    }))
}

/// As the wire shows what a volume was made from.
pub(super) fn wire(origin: &Origin) -> VolumeContentSource {
    let source = match origin {
        Origin::Snapshot(id) => Type::Snapshot(SnapshotSource { snapshot_id: id.to_string() }),
        Origin::Volume(id) => Type::Volume(VolumeSource { volume_id: id.to_string() }),
    };
    VolumeContentSource { r#type: Some(source) }
}

/// A source that is there, and stays until this is dropped.
pub(super) struct Source<'a> {
    folder: VolumeFolder,
    pub(super) format: Format,
    origin: &'a Origin,
    pool: &'a Pool,
    content: Content,
    capacity: u64,
    /// In whose place it is copied, where that takes its time.
    still: Option<Still<'a>>,
    guard: Option<Guard>,
}

impl<'a> Source<'a> {
    /// Finds and holds it. Many may read one snapshot; a volume is held alone, for it may
    /// have to be frozen.
    pub(super) fn find(driver: &'a Driver, origin: &'a Origin) -> Result<Self, Error> {
        match origin {
            Origin::Snapshot(id) => {
                let pool = driver.pool_of_snapshot(id)?;
                let guard = driver.guards.share(id)?;
                let folder = pool.snapshot_folder(id)?;
                let snapshot = folder.read_snapshot()?;
                let (format, content, capacity) = (snapshot.format, snapshot.content, snapshot.capacity);
                Ok(Self { folder, format, origin, pool, content, capacity, still: None, guard: Some(guard) })
            }
            Origin::Volume(id) => {
                let pool = driver.pool_of(id)?;
                let guard = driver.guards.take(id)?;
                let folder = pool.folder(id)?;
                let volume = pool.read_grown(&folder)?;
                let (format, content, capacity) = (volume.format, volume.content, volume.capacity);
                Ok(Self { folder, format, origin, pool, content, capacity, still: None, guard: Some(guard) })
            }
        }
    }

    /// Prepares it to be copied into the volume `target` of `pool`. A volume whose copy takes
    /// its time is free for other calls from here on.
    pub(super) fn prepare(&mut self, pool: &Pool, target: &VolumeId) -> Result<(), Error> {
        if matches!(self.origin, Origin::Volume(_)) && pool.backend.copies_what_stands_still(&self.folder)? {
            self.still = Some(self.pool.hold_still(&self.folder, target)?);
            self.guard = None;
        }
        Ok(())
    }

    /// Where the data to copy is.
    pub(super) fn folder(&self) -> &VolumeFolder {
        self.still.as_ref().map_or(&self.folder, Still::folder)
    }

    /// The sizes that a volume filled from it can have in `pool`, or why it cannot be.
    pub(super) fn bounds(
        &self,
        pool: &Pool,
        content: Content,
        wanted: Wanted,
        bounds: Bounds,
    ) -> Result<Bounds, Error> {
        let (kind, own) = (pool.backend.kind(), self.pool.backend.kind());
        if kind != own {
            return Err(Error::Invalid(format!(
                "volume_content_source: {} is in pool {:?} with backend = {:?} and cannot be copied into pool {:?} \
                 with backend = {:?}; use a class whose pool has the same backend",
                self.origin,
                self.pool.name,
                own.as_str(),
                pool.name,
                kind.as_str()
            )));
        }
        if self.content != content {
            return Err(Error::Invalid(format!(
                "{} holds {}, and {content} was asked for; ask for what is in it",
                self.origin, self.content
            )));
        }
        // Asked for fewer bytes, a caller that gets more may take it for an error of its own:
        // it says so here, before anything is copied.
        let most = [wanted.required, wanted.limit].into_iter().flatten().min();
        if let Some(most) = most.filter(|most| *most < self.capacity) {
            return Err(Error::OutOfRange(format!(
                "{} is less than {} has, {} ({} bytes); ask for as much at least",
                Bytes(most),
                self.origin,
                Bytes(self.capacity),
                self.capacity
            )));
        }
        if self.capacity > bounds.max {
            return Err(Error::OutOfRange(format!(
                "{} has {}, more than the largest volume of pool {:?}, {}",
                self.origin,
                Bytes(self.capacity),
                pool.name,
                Bytes(bounds.max)
            )));
        }
        Ok(Bounds { min: bounds.min.max(self.capacity), default: self.capacity, ..bounds })
    }
}
