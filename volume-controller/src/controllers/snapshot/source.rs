//! What a claim must be for a snapshot of it to be begun.

use k8s_openapi::api::core::v1::{CSIPersistentVolumeSource, PersistentVolume, PersistentVolumeClaim};

use crate::controllers::view::{
    Seen, Shared, View, claim_phase, claim_ref_uid, claim_volume, csi_source, is_deleting,
};

/// Why no snapshot of a claim can be begun.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub(crate) enum Unfit {
    #[error("the PVC {claim} is being deleted, no snapshot of it is begun")]
    Going { claim: String },
    #[error("the PVC {claim} is not yet bound to a PV, will not attempt to take a snapshot")]
    Unbound { claim: String },
    #[error("the PVC {claim} has lost its PV {volume}: there is nothing to take a snapshot of")]
    NoVolume { claim: String, volume: String },
    #[error("PV {volume} is not a CSI volume: only CSI drivers take snapshots")]
    NotCsi { volume: String },
}

/// A claim's volume, and what it is to its driver.
pub(super) type Source<'a> = (&'a Shared<PersistentVolume>, &'a CSIPersistentVolumeSource);

/// The volume of a claim that a snapshot can be taken of.
pub(super) fn source<'a>(view: &'a View, claim: &Seen<PersistentVolumeClaim>) -> Result<Source<'a>, Unfit> {
    let name = || claim.key.name.to_string();
    if is_deleting(&claim.metadata) {
        return Err(Unfit::Going { claim: name() });
    }
    let volume = claim_volume(claim).filter(|_| claim_phase(claim) == "Bound");
    let Some(volume) = volume else { return Err(Unfit::Unbound { claim: name() }) };
    let found = view.volumes.get("", volume).filter(|found| claim_ref_uid(found) == Some(&claim.uid));
    let Some(found) = found else {
        return Err(Unfit::NoVolume { claim: name(), volume: volume.to_owned() });
    };
    let csi = csi_source(found).ok_or_else(|| Unfit::NotCsi { volume: volume.to_owned() })?;
    Ok((found, csi))
}
