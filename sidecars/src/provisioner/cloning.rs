//! Keeps a claim while another is filled from it: its volume must not go before the driver has
//! copied it. The finalizer is upstream's, so that either provisioner can let go of what the other kept.

use std::sync::Arc;

use k8s_openapi::api::core::v1::PersistentVolumeClaim;
use kube::ResourceExt;

use super::{
    decide::has_intent,
    source::{Wanted, wanted},
};

/// Keeps a claim while a volume is being made from it.
pub(crate) const CLONING: &str = "provisioner.storage.kubernetes.io/cloning-protection";

pub(crate) fn is_kept(claim: &PersistentVolumeClaim) -> bool {
    claim.finalizers().iter().any(|finalizer| finalizer == CLONING)
}

/// The name of the claim that this one is filled from.
pub(crate) fn source_of(claim: &PersistentVolumeClaim) -> Option<&str> {
    match wanted(claim) {
        Wanted::Claim(name) => Some(name),
        _ => None,
    }
}

/// Nothing is made for it any more.
pub(crate) fn is_finished(claim: &PersistentVolumeClaim) -> bool {
    let volume = claim.spec.as_ref().and_then(|spec| spec.volume_name.as_deref()).unwrap_or_default();
    !volume.is_empty() && !has_intent(claim)
}

/// Whether a claim can still be filled from one that is being deleted: it was there before, and the
/// other is kept for it.
pub(crate) fn is_served(claim: &PersistentVolumeClaim, source: &PersistentVolumeClaim) -> bool {
    match &source.metadata.deletion_timestamp {
        None => true,
        Some(since) => is_kept(source) && was_there(claim, since.0),
    }
}

fn was_there(claim: &PersistentVolumeClaim, since: jiff::Timestamp) -> bool {
    claim.metadata.creation_timestamp.as_ref().is_none_or(|created| created.0 <= since)
}

/// Whether the claim is kept, and nothing of `all` is being filled from it any more.
pub(crate) fn may_go(source: &PersistentVolumeClaim, all: &[Arc<PersistentVolumeClaim>]) -> bool {
    let name = source.name_any();
    let mut filled = all.iter().filter(|claim| {
        claim.namespace() == source.namespace() && source_of(claim) == Some(&name) && !is_finished(claim)
    });
    is_kept(source) && !filled.any(|claim| is_served(claim, source))
}

#[cfg(test)]
mod tests {
    use serde_json::{Value, json};

    use super::*;

    fn claim(name: &str, volume: &str, more: &Value) -> PersistentVolumeClaim {
        let mut value = json!({
            "metadata": {"name": name, "namespace": "dev", "creationTimestamp": "2026-01-02T00:00:00Z"},
            "spec": {"volumeName": volume, "dataSource": {"kind": "PersistentVolumeClaim", "name": "data"}},
        });
        for (key, more) in more.as_object().into_iter().flatten() {
            value["metadata"][key] = more.clone();
        }
        serde_json::from_value(value).expect("a claim")
    }

    #[test]
    fn table() {
        let source = |deleting: &str, finalizer: &str| {
            let mut more = json!({ "finalizers": [finalizer] });
            if !deleting.is_empty() {
                more["deletionTimestamp"] = json!(deleting);
            }
            let mut source = claim("data", "pv", &more);
            source.spec.get_or_insert_default().data_source = None;
            source
        };
        let none = json!({});
        let intent = json!({"finalizers": [super::super::decide::INTENT]});
        let elsewhere = json!({"namespace": "prod"});
        let (before, after) = ("2026-01-01T00:00:00Z", "2026-01-03T00:00:00Z");
        for (number, deleting, finalizer, others, goes) in [
            (1, "", CLONING, vec![], true),
            (2, "", CLONING, vec![claim("a", "", &none)], false),
            (3, "", CLONING, vec![claim("a", "pv-a", &none)], true),
            (4, "", CLONING, vec![claim("a", "pv-a", &intent)], false),
            (5, "", CLONING, vec![claim("a", "pv-a", &none), claim("b", "", &none)], false),
            (6, "", CLONING, vec![claim("a", "", &elsewhere)], true),
            (7, "", "x/y", vec![], false),
            // Being deleted: the claims that were there before are served, and they alone.
            (8, after, CLONING, vec![claim("a", "", &none)], false),
            (9, before, CLONING, vec![claim("a", "", &none)], true),
            (10, "2026-01-02T00:00:00Z", CLONING, vec![claim("a", "", &none)], false),
        ] {
            let others: Vec<_> = others.into_iter().map(Arc::new).collect();
            assert_eq!(may_go(&source(deleting, finalizer), &others), goes, "row {number}");
        }
        assert!(!is_served(&claim("a", "", &none), &source(after, "x/y")), "nothing keeps it");
    }
}
