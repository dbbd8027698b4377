//! What a new volume is filled with: a snapshot, or another claim's volume.

use holdfast_api::{
    access,
    snapshot::{
        GROUP,
        names::ALLOW_MODE_CHANGE,
        volume::{VolumeSnapshot, VolumeSnapshotContent},
    },
};
use holdfast_proto::csi::{
    VolumeContentSource,
    volume_content_source::{SnapshotSource, Type, VolumeSource},
};
use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};
use kube::ResourceExt;

use super::cloning;
use crate::csi::DriverFacts;

/// What a claim names as its source.
#[derive(Debug, Clone, PartialEq, Eq)]
pub(crate) enum Wanted<'a> {
    Nothing,
    Snapshot(&'a str),
    Claim(&'a str),
    /// Not for a CSI driver, but for a volume populator.
    Populator {
        kind: &'a str,
        name: &'a str,
    },
    /// In another namespace, to which nothing served here can grant access.
    Elsewhere {
        namespace: &'a str,
    },
}

/// What the API says of it.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Source {
    NotAsked,
    Snapshot { snapshot: Option<Box<VolumeSnapshot>>, content: Option<Box<VolumeSnapshotContent>> },
    Claim { claim: Option<Box<PersistentVolumeClaim>>, volume: Option<Box<PersistentVolume>> },
}

/// Why a volume cannot be filled from its source, or not yet.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum SourceError {
    #[error("the driver does not make volumes from a {0}")]
    NotSupported(&'static str),
    #[error(
        "dataSourceRef names something in namespace {0}: only sources in the claim's own can be used here"
    )]
    Elsewhere(String),
    #[error("snapshot {0} is not there: create it, or name another")]
    NoSnapshot(String),
    #[error("snapshot {0} is being deleted since before the claim was made: name another")]
    SnapshotGoing(String),
    #[error("snapshot {0} is not bound to a content yet")]
    NotBound(String),
    #[error("the content of snapshot {0} is not there, or is that of another snapshot")]
    NoContent(String),
    #[error("snapshot {0} is one of driver {1}: choose a class of that driver")]
    OtherDriver(String, String),
    #[error("snapshot {0} is not Ready")]
    NotReady(String),
    #[error("claim {0} is not there: create it, or name another")]
    NoClaim(String),
    #[error("claim {0} is being deleted: name another")]
    ClaimGoing(String),
    #[error("claim {0} is not bound to a volume of this driver")]
    ClaimUnbound(String),
    #[error("requested volume size {asked} is less than the size {least} of the source {source_name}")]
    TooSmall { asked: i64, least: i64, source_name: String },
    #[error(
        "requested volume modifies the mode of the source volume but does not have permission to do so. The \
         annotation {ALLOW_MODE_CHANGE}=true is not present on snapshotcontent {0}"
    )]
    SnapshotMode(String),
    #[error("the claim's volumeMode is not that of claim {0}")]
    ClaimMode(String),
}

/// `dataSourceRef` counts; the API server fills it from `dataSource`.
pub(crate) fn wanted(claim: &PersistentVolumeClaim) -> Wanted<'_> {
    let Some(spec) = &claim.spec else { return Wanted::Nothing };
    let (group, kind, name) = match (&spec.data_source_ref, &spec.data_source) {
        (Some(source), _) => {
            if let Some(namespace) = source.namespace.as_deref()
                && claim.metadata.namespace.as_deref() != Some(namespace)
            {
                return Wanted::Elsewhere { namespace };
            }
            (source.api_group.as_deref(), source.kind.as_str(), source.name.as_str())
        }
        (None, Some(source)) => (source.api_group.as_deref(), source.kind.as_str(), source.name.as_str()),
        (None, None) => return Wanted::Nothing,
    };
    match (group.unwrap_or_default(), kind) {
        (GROUP, "VolumeSnapshot") => Wanted::Snapshot(name),
        ("", "PersistentVolumeClaim") => Wanted::Claim(name),
        _ => Wanted::Populator { kind, name },
    }
}

/// What CreateVolume is told of a claim's source, of which `source` is what the API says.
pub(crate) fn content_source(
    facts: &DriverFacts,
    claim: &PersistentVolumeClaim,
    asked: i64,
    source: &Source,
) -> Result<Option<VolumeContentSource>, SourceError> {
    let r#type = match (wanted(claim), source) {
        (Wanted::Snapshot(name), Source::Snapshot { snapshot, content }) => {
            let snapshot_id =
                from_snapshot(facts, claim, asked, name, snapshot.as_deref(), content.as_deref())?;
            Type::Snapshot(SnapshotSource { snapshot_id })
        }
        (Wanted::Claim(name), Source::Claim { claim: other, volume }) => {
            let volume_id = from_claim(facts, claim, asked, name, other.as_deref(), volume.as_deref())?;
            Type::Volume(VolumeSource { volume_id })
        }
        (Wanted::Snapshot(name), _) => return Err(SourceError::NoSnapshot(name.to_owned())),
        (Wanted::Claim(name), _) => return Err(SourceError::NoClaim(name.to_owned())),
        (Wanted::Elsewhere { namespace }, _) => return Err(SourceError::Elsewhere(namespace.to_owned())),
        (Wanted::Nothing | Wanted::Populator { .. }, _) => return Ok(None),
    };
    Ok(Some(VolumeContentSource { r#type: Some(r#type) }))
}

/// The driver's id of the snapshot.
fn from_snapshot(
    facts: &DriverFacts,
    claim: &PersistentVolumeClaim,
    asked: i64,
    name: &str,
    snapshot: Option<&VolumeSnapshot>,
    content: Option<&VolumeSnapshotContent>,
) -> Result<String, SourceError> {
    let named = || name.to_owned();
    if !facts.create_snapshot {
        return Err(SourceError::NotSupported("snapshot"));
    }
    let snapshot = snapshot.ok_or_else(|| SourceError::NoSnapshot(named()))?;
    // The snapshot controller keeps a snapshot for the claims that were there before its deletion.
    let created = claim.metadata.creation_timestamp.as_ref();
    let going = snapshot.metadata.deletion_timestamp.as_ref();
    if going.is_some_and(|since| created.is_some_and(|created| created.0 > since.0)) {
        return Err(SourceError::SnapshotGoing(named()));
    }
    let status = snapshot.status.clone().unwrap_or_default();
    if status.bound_volume_snapshot_content_name.is_none() {
        return Err(SourceError::NotBound(named()));
    }
    let reference = |content: &VolumeSnapshotContent| content.spec.volume_snapshot_ref.uid.clone();
    let content = content
        .filter(|content| reference(content).is_some() && reference(content) == snapshot.uid())
        .ok_or_else(|| SourceError::NoContent(named()))?;
    if content.spec.driver != facts.name {
        return Err(SourceError::OtherDriver(named(), content.spec.driver.clone()));
    }
    let told = content.status.clone().unwrap_or_default();
    let handle = told.snapshot_handle.filter(|handle| !handle.is_empty());
    // Both: what is mirrored may be behind, and what is behind may be of yesterday.
    let ready = status.ready_to_use == Some(true) && told.ready_to_use == Some(true);
    let handle = handle.filter(|_| ready).ok_or_else(|| SourceError::NotReady(named()))?;
    let allowed = content.annotations().get(ALLOW_MODE_CHANGE).is_some_and(|value| value == "true");
    let mode = content.spec.source_volume_mode.as_deref();
    if mode.is_some_and(|mode| mode != access::claim_mode(claim)) && !allowed {
        return Err(SourceError::SnapshotMode(content.name_any()));
    }
    large_enough(asked, told.restore_size.unwrap_or(0), format!("snapshot {name}"))?;
    Ok(handle)
}

/// The driver's id of the other claim's volume.
fn from_claim(
    facts: &DriverFacts,
    claim: &PersistentVolumeClaim,
    asked: i64,
    name: &str,
    other: Option<&PersistentVolumeClaim>,
    volume: Option<&PersistentVolume>,
) -> Result<String, SourceError> {
    let named = || name.to_owned();
    if !facts.clone {
        return Err(SourceError::NotSupported("claim"));
    }
    let other = other.ok_or_else(|| SourceError::NoClaim(named()))?;
    if !cloning::is_served(claim, other) {
        return Err(SourceError::ClaimGoing(named()));
    }
    let unbound = || SourceError::ClaimUnbound(named());
    let bound = other.status.as_ref().and_then(|status| status.phase.as_deref()) == Some("Bound");
    let spec = volume.filter(|_| bound).and_then(|volume| volume.spec.as_ref()).ok_or_else(unbound)?;
    let owner = spec.claim_ref.as_ref().and_then(|owner| owner.uid.as_ref());
    if owner.is_none() || owner != other.metadata.uid.as_ref() {
        return Err(unbound());
    }
    let csi = spec.csi.as_ref().filter(|csi| csi.driver == facts.name).ok_or_else(unbound)?;
    if access::claim_mode(other) != access::claim_mode(claim) {
        return Err(SourceError::ClaimMode(named()));
    }
    // What it asks for, not what it has: a driver may give more, and would give the same again.
    large_enough(asked, access::claim_request(other).unwrap_or(0), format!("claim {name}"))?;
    Ok(csi.volume_handle.clone())
}

fn large_enough(asked: i64, least: i64, source_name: String) -> Result<(), SourceError> {
    if asked < least {
        return Err(SourceError::TooSmall { asked, least, source_name });
    }
    Ok(())
}

#[cfg(test)]
#[path = "source_tests.rs"]
mod tests;
