//! CreateVolume and DeleteVolume.

use std::collections::{BTreeMap, HashMap};

use holdfast_proto::csi::{
    CreateVolumeRequest, CreateVolumeResponse, DeleteVolumeRequest, DeleteVolumeResponse, TopologyRequirement,
};

use super::{
    check_use, is_here,
    name::check_name,
    source::{self, Source},
    wire_volume,
};
use crate::{
    capability::Capability,
    error::Error,
    guard::Name,
    mutable::Mutable,
    pool::Pool,
    server::Driver,
    size::{self, Bounds, Bytes, Wanted},
    volume::{Content, Format, Identity, Origin, Volume},
    volume_id::VolumeId,
};

/// What Kubernetes' provisioner adds with `--extra-create-metadata`; for people.
pub(super) const INFORMATIVE: &str = "csi.storage.k8s.io/";

/// The parameters of a class, checked.
pub(super) struct Parameters<'a> {
    pub(super) pool: &'a Pool,
    pub(super) enforce: bool,
}

/// Reads a class's parameters. Unknown ones are refused: a misspelled parameter must
/// not be a silent default.
pub(super) fn parameters<'a>(
    driver: &'a Driver,
    parameters: &HashMap<String, String>,
) -> Result<Parameters<'a>, Error> {
    let mut pool = None;
    let mut enforce = true;
    for (name, value) in parameters {
        match name.as_str() {
            "pool" => pool = Some(value.as_str()),
            "enforceSize" => {
                enforce = value.parse().map_err(|_| {
                    Error::Invalid(format!("parameter enforceSize is {value:?}, not \"true\" or \"false\""))
                })?;
            }
            name if name.starts_with(INFORMATIVE) => {}
            name => {
                return Err(Error::Invalid(format!(
                    "parameter {name:?} is not known; there are pool and enforceSize"
                )));
            }
        }
    }
    Ok(Parameters { pool: pool_of_class(driver, pool)?, enforce })
}

/// The pool that a class means: the one that it names, or else the only one or `default`.
/// Asks no storage.
pub(super) fn pool_of_class<'a>(driver: &'a Driver, pool: Option<&str>) -> Result<&'a Pool, Error> {
    if let Some(memory) = pool.and_then(|name| driver.memory.get(name)) {
        return Err(Error::Invalid(format!(
            "pool {:?} has backend = \"tmpfs\" and makes inline ephemeral volumes only: put it into the pod (volumes, \
             csi, volumeAttributes size and pool), or name a pool with another backend",
            memory.name
        )));
    }
    let names = || driver.pools.keys().cloned().collect::<Vec<_>>().join(", ");
    match pool {
        Some(name) => driver.pools.get(name).ok_or_else(|| {
            Error::Invalid(format!("parameter pool: there is no pool {name:?} here; there are {}", names()))
        }),
        None => default_pool(driver).ok_or_else(|| {
            Error::Invalid(format!("there is no pool \"default\": the class has to name one of {}", names()))
        }),
    }
}

/// The pool of a class that names none.
pub(super) fn default_pool(driver: &Driver) -> Option<&Pool> {
    let only = || driver.pools.values().next().filter(|_| driver.pools.len() == 1);
    driver.pools.get("default").or_else(only)
}

/// The sizes possible in a pool.
pub(super) fn bounds(pool: &Pool, content: Content) -> Bounds {
    let bounds = pool.backend.bounds(content);
    let max = bounds.max.min(pool.limits.max_volume_size.unwrap_or(u64::MAX));
    Bounds { max, ..bounds }
}

/// What a volume of these capabilities would hold. They all have to agree.
pub(super) fn content(pool: &Pool, capabilities: &[Capability]) -> Result<Content, Error> {
    let mut contents = capabilities.iter().map(|capability| pool.backend.content(&capability.access));
    let first = contents
        .next()
        .ok_or_else(|| Error::Invalid("volume_capabilities must have at least one entry".to_owned()))??;
    for other in contents {
        if other? != first {
            return Err(Error::Invalid(
                "volume_capabilities ask for different things; a volume holds one file system or is one raw \
                 device"
                    .to_owned(),
            ));
        }
    }
    for capability in capabilities {
        check_use(pool.backend.as_ref(), first, capability)?;
    }
    Ok(first)
}

/// CSI v1.12, CreateVolume. The id follows from the name, so a repeated call finds the
/// volume that the first one made.
pub(super) fn create(driver: &Driver, request: &CreateVolumeRequest) -> Result<CreateVolumeResponse, Error> {
    check_name(&request.name)?;
    let capabilities = Capability::all(&request.volume_capabilities)?;
    let wanted = Wanted::from_range(request.capacity_range.as_ref())?;
    let Parameters { pool, enforce } = parameters(driver, &request.parameters)?;
    let mutable = Mutable::default().changed(&request.mutable_parameters)?;
    pool.check_mutable(&mutable)?;
    let origin = source::asked(pool, request.volume_content_source.as_ref())?;
    let content = content(pool, &capabilities)?;
    if let Some(requirement) = &request.accessibility_requirements {
        check_topology(driver, requirement)?;
    }

    let id = VolumeId::derive(&pool.name, &request.name);
    let _name = driver.guards.take(&Name::volume(&request.name))?;
    let _guard = driver.guards.take(&id)?;
    if let Some(folder) = pool.find(&id)? {
        let volume = folder.read_volume()?;
        check_same(&volume, request, wanted, content, enforce, origin.as_ref())?;
        pool.settle_volumes()?;
        return Ok(CreateVolumeResponse { volume: Some(wire_volume(driver, pool, &volume)?) });
    }

    // The pool is part of the id, so a repeated call with another pool would not see it. Asked
    // from memory: a sick pool must not keep the others from making volumes.
    for other in driver.pools.values().filter(|other| other.name != pool.name) {
        if other.has(&VolumeId::derive(&other.name, &request.name)) {
            return Err(Error::Exists(format!(
                "volume {:?} exists in pool {:?}; use another name or that pool",
                request.name, other.name
            )));
        }
    }
    if enforce {
        pool.backend.can_enforce()?;
    }
    // This call holds it, so a search would find it busy, now and whenever it is repeated.
    if origin.as_ref().is_some_and(|origin| matches!(origin, Origin::Volume(source) if *source == id)) {
        return Err(Error::VolumeNotFound(id.to_string()));
    }
    let mut source = origin.as_ref().map(|origin| Source::find(driver, origin)).transpose()?;
    let bounds = match &source {
        Some(source) => source.bounds(pool, content, wanted, bounds(pool, content))?,
        None => bounds(pool, content),
    };
    let format = source.as_ref().map_or(Format::Never, |source| source.format);
    let volume = Volume {
        id,
        name: request.name.clone(),
        capacity: size::choose(wanted, bounds)?,
        content,
        enforced: enforce,
        format,
        identity: if origin.is_some() {
            pool.backend.copied_identity(content, format)
        } else {
            Identity::Own
        },
        origin: origin.clone(),
        mutable,
        attachments: BTreeMap::new(),
    };
    pool.backend.check(&volume)?;
    let promise = pool.promise(&volume)?;
    if let Some(source) = &mut source {
        source.prepare(pool, &volume.id)?;
    }
    pool.create(&volume, source.as_ref().map(Source::folder), promise)?;
    tracing::info!(volume = %volume.id, size = %Bytes(volume.capacity), %content, "created");
    Ok(CreateVolumeResponse { volume: Some(wire_volume(driver, pool, &volume)?) })
}

/// `requisite` lists where the volume may be; without it, `preferred` is only a wish
/// (CSI v1.12, TopologyRequirement).
fn check_topology(driver: &Driver, requirement: &TopologyRequirement) -> Result<(), Error> {
    if requirement.requisite.is_empty() || requirement.requisite.iter().any(|place| is_here(driver, place)) {
        return Ok(());
    }
    Err(Error::Exhausted(format!(
        "none of the places in accessibility_requirements is this node, {:?}; its volumes are reachable here only",
        driver.node_id
    )))
}

fn check_same(
    volume: &Volume,
    request: &CreateVolumeRequest,
    wanted: Wanted,
    content: Content,
    enforce: bool,
    origin: Option<&Origin>,
) -> Result<(), Error> {
    let name = &request.name;
    let differs = |what: String| {
        Err(Error::Exists(format!("volume {name:?} exists and {what}; use another name or the same request")))
    };
    if volume.name != *name {
        return differs(format!("was made as {:?}", volume.name));
    }
    if !wanted.admits(volume.capacity) {
        return differs(format!("has {} ({} bytes)", Bytes(volume.capacity), volume.capacity));
    }
    if volume.content != content {
        return differs(format!("holds {}, not {content}", volume.content));
    }
    if volume.enforced != enforce {
        return differs(format!("has enforceSize {}", volume.enforced));
    }
    if volume.origin.as_ref() != origin {
        return differs(match &volume.origin {
            Some(origin) => format!("was made from {origin}"),
            None => "was made empty".to_owned(),
        });
    }
    // Compatible is what has them already (CSI v1.12, CreateVolume); what is not named may be
    // anything, for it may have been changed since.
    if volume.mutable.changed(&request.mutable_parameters)? != volume.mutable {
        return differs("has other mutable_parameters (ControllerModifyVolume changes them)".to_owned());
    }
    Ok(())
}

/// CSI v1.12, DeleteVolume. One rename makes it gone; the space follows.
pub(super) fn delete(driver: &Driver, request: &DeleteVolumeRequest) -> Result<DeleteVolumeResponse, Error> {
    let id = match VolumeId::parse(&request.volume_id) {
        Err(Error::VolumeNotFound(_)) => return Ok(DeleteVolumeResponse {}),
        parsed => parsed?,
    };
    let pool = driver.pool_of(&id)?;
    let _guard = driver.guards.take(&id)?;
    let Some(folder) = pool.find(&id)? else {
        // Nothing is in a folder that was removed, and another may be in its place.
        pool.expect_in_place()?;
        pool.settle_volumes()?;
        return Ok(DeleteVolumeResponse {});
    };
    let volume = folder.read_volume()?;
    if let Some(node) = driver.attached_to(&volume) {
        return Err(Error::Precondition(format!("volume {id} is still published to node {node:?}")));
    }
    if pool.is_in_use(&folder)? {
        return Err(Error::Precondition(format!("volume {id} is still mounted or attached on this node")));
    }
    pool.discard(&id)?;
    tracing::info!(volume = %id, "deleted");
    Ok(DeleteVolumeResponse {})
}
