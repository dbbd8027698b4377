//! Access modes, volume modes, and what a claim asks of a volume.

use k8s_openapi::api::core::v1::{PersistentVolume, PersistentVolumeClaim};

use crate::{
    names,
    quantity::{self, QuantityError},
};

/// Every access mode there is, with the short form that `kubectl get` prints.
pub const ACCESS_MODES: [(&str, &str); 4] = [
    ("ReadWriteOnce", "RWO"),
    ("ReadOnlyMany", "ROX"),
    ("ReadWriteMany", "RWX"),
    ("ReadWriteOncePod", "RWOP"),
];

/// The printed form of a list of modes, in upstream's order: `RWO,ROX`.
#[must_use]
pub fn short_modes(modes: &[String]) -> String {
    let shorts: Vec<&str> = ACCESS_MODES
        .iter()
        .filter(|(long, _)| modes.iter().any(|mode| mode == long))
        .map(|(_, short)| *short)
        .collect();
    shorts.join(",")
}

/// Whether a volume with these modes can satisfy a claim that asks for those.
#[must_use]
pub fn modes_satisfy(offered: &[String], asked: &[String]) -> bool {
    asked.iter().all(|mode| offered.contains(mode))
}

/// The mode that counts when none is set.
const FILESYSTEM: &str = "Filesystem";

/// A volume's mode: `Filesystem` unless it says `Block`.
#[must_use]
pub fn volume_mode(volume: &PersistentVolume) -> &str {
    volume.spec.as_ref().and_then(|s| s.volume_mode.as_deref()).unwrap_or(FILESYSTEM)
}

/// A claim's mode: `Filesystem` unless it says `Block`.
#[must_use]
pub fn claim_mode(claim: &PersistentVolumeClaim) -> &str {
    claim.spec.as_ref().and_then(|s| s.volume_mode.as_deref()).unwrap_or(FILESYSTEM)
}

/// A claim's class: `None` means that nobody chose one yet (a default may still
/// be given), `Some("")` that volumes without a class are wanted.
#[must_use]
pub fn claim_class(claim: &PersistentVolumeClaim) -> Option<&str> {
    let annotated =
        claim.metadata.annotations.as_ref().and_then(|a| a.get(names::CLASS_BETA)).map(String::as_str);
    annotated.or_else(|| claim.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()))
}

/// A volume's class; empty when it has none.
#[must_use]
pub fn volume_class(volume: &PersistentVolume) -> &str {
    let annotated =
        volume.metadata.annotations.as_ref().and_then(|a| a.get(names::CLASS_BETA)).map(String::as_str);
    annotated
        .or_else(|| volume.spec.as_ref().and_then(|s| s.storage_class_name.as_deref()))
        .unwrap_or_default()
}

/// The bytes that a claim asks for; 0 when it does not say.
///
/// # Errors
/// When the quantity cannot be read.
pub fn claim_request(claim: &PersistentVolumeClaim) -> Result<i64, QuantityError> {
    let requests = claim.spec.as_ref().and_then(|s| s.resources.as_ref()).and_then(|r| r.requests.as_ref());
    requests.and_then(|r| r.get("storage")).map_or(Ok(0), |q| quantity::parse_bytes(&q.0))
}

/// The bytes that a claim has (`status.capacity`); `None` until it is bound.
///
/// # Errors
/// When the quantity cannot be read.
pub fn claim_capacity(claim: &PersistentVolumeClaim) -> Result<Option<i64>, QuantityError> {
    let capacity = claim.status.as_ref().and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    capacity.map(|q| quantity::parse_bytes(&q.0)).transpose()
}

/// The bytes that a volume offers; 0 when it does not say.
///
/// # Errors
/// When the quantity cannot be read.
pub fn volume_capacity(volume: &PersistentVolume) -> Result<i64, QuantityError> {
    let capacity = volume.spec.as_ref().and_then(|s| s.capacity.as_ref()).and_then(|c| c.get("storage"));
    capacity.map_or(Ok(0), |q| quantity::parse_bytes(&q.0))
}

/// Whether a volume's `claimRef` names this very claim. A reference without a
/// UID is a pre-binding by hand and fits any claim of that name; one with a UID
/// fits only the claim that had it, never a later one of the same name.
#[must_use]
pub fn refers_to(volume: &PersistentVolume, claim: &PersistentVolumeClaim) -> bool {
    volume.spec.as_ref().and_then(|s| s.claim_ref.as_ref()).is_some_and(|reference| {
        reference.name == claim.metadata.name
            && reference.namespace == claim.metadata.namespace
            && reference
                .uid
                .as_deref()
                .filter(|uid| !uid.is_empty())
                .is_none_or(|uid| Some(uid) == claim.metadata.uid.as_deref())
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    #[test]
    fn modes() {
        let modes = |list: &[&str]| list.iter().map(|&m| m.to_owned()).collect::<Vec<_>>();
        assert_eq!(short_modes(&modes(&["ReadWriteMany", "ReadWriteOnce"])), "RWO,RWX");
        assert!(modes_satisfy(&modes(&["ReadWriteOnce", "ReadWriteMany"]), &modes(&["ReadWriteOnce"])));
        assert!(!modes_satisfy(&modes(&["ReadWriteOnce"]), &modes(&["ReadWriteOnce", "ReadOnlyMany"])));
    }

    #[test]
    fn reference_by_uid() {
        let claim: PersistentVolumeClaim =
            serde_json::from_value(json!({"metadata": {"namespace": "dev", "name": "data", "uid": "1"}}))
                .unwrap();
        for (reference, expected) in [
            (json!({"namespace": "dev", "name": "data"}), true),
            (json!({"namespace": "dev", "name": "data", "uid": ""}), true),
            (json!({"namespace": "dev", "name": "data", "uid": "1"}), true),
            (json!({"namespace": "dev", "name": "data", "uid": "2"}), false),
            (json!({"namespace": "prod", "name": "data", "uid": "1"}), false),
        ] {
            let volume: PersistentVolume =
                serde_json::from_value(json!({"metadata": {}, "spec": {"claimRef": reference}})).unwrap();
            assert_eq!(refers_to(&volume, &claim), expected, "{reference}");
        }
    }
}
