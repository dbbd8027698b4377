//! Lease.

use k8s_openapi::api::coordination::v1::Lease;
use serde_json::Value;

use super::check::Checks;
use super::columns::{AGE, NAME, cell_text, column};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "coordination.k8s.io",
    version: "v1",
    kind: "Lease",
    plural: "leases",
    singular: "lease",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<Lease>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Holder", "", |lease, _| cell_text(&lease["spec"]["holderIdentity"]))
        .described("Who holds the lease."),
    AGE,
];

fn validate(lease: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let spec = &lease["spec"];
    let (duration, transitions) = (&spec["leaseDurationSeconds"], &spec["leaseTransitions"]);
    if duration.as_i64().is_some_and(|seconds| seconds <= 0) {
        checks.invalid("spec.leaseDurationSeconds", duration, "must be greater than 0");
    }
    if transitions.as_i64().is_some_and(|count| count < 0) {
        checks.invalid("spec.leaseTransitions", transitions, "must be greater than or equal to 0");
    }
    checks.into_causes()
}

fn validate_update(_new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        assert_eq!(validate(&json!({"spec": {"leaseDurationSeconds": 15, "leaseTransitions": 0}})), []);
        assert_eq!(
            lines(&validate(&json!({"spec": {"leaseDurationSeconds": 0, "leaseTransitions": -1}}))),
            [
                "spec.leaseDurationSeconds: Invalid: 0: must be greater than 0",
                "spec.leaseTransitions: Invalid: -1: must be greater than or equal to 0",
            ]
        );
    }
}
