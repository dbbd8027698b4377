//! CSIDriver.

use k8s_openapi::api::storage::v1::CSIDriver;
use serde_json::{Value, json};

use super::check::{Checks, list, same, text};
use super::columns::{AGE, NAME, NONE, UNSET, column};
use super::defaults::{fill, nothing};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "CSIDriver",
    plural: "csidrivers",
    singular: "csidriver",
    short_names: &[],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<CSIDriver>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default,
    prepare_create: nothing,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("AttachRequired", "", |driver, _| (driver["spec"]["attachRequired"] != false).into())
        .typed("boolean")
        .described("Whether volumes must be attached before they are mounted."),
    column("PodInfoOnMount", "", |driver, _| (driver["spec"]["podInfoOnMount"] == true).into())
        .typed("boolean")
        .described("Whether the driver is told about the pod."),
    column("StorageCapacity", "", |driver, _| (driver["spec"]["storageCapacity"] == true).into())
        .typed("boolean")
        .described("Whether pods are placed where the driver reports room."),
    column("TokenRequests", "", |driver, _| {
        let audiences: Vec<&str> =
            list(&driver["spec"]["tokenRequests"]).iter().map(|request| text(&request["audience"])).collect();
        if audiences.is_empty() { UNSET.into() } else { audiences.join(",").into() }
    })
    .described("The audiences of the tokens that the driver is given."),
    column("RequiresRepublish", "", |driver, _| (driver["spec"]["requiresRepublish"] == true).into())
        .typed("boolean")
        .described("Whether the driver is asked again and again to publish."),
    column("Modes", "", |driver, _| {
        let modes: Vec<&str> = list(&driver["spec"]["volumeLifecycleModes"]).iter().map(text).collect();
        if modes.is_empty() { NONE.into() } else { modes.join(",").into() }
    })
    .described("How long volumes live: as long as their claim, or as their pod."),
    AGE,
];

fn default(driver: &mut Value) {
    fill(driver, &["spec", "attachRequired"], true);
    for field in ["podInfoOnMount", "storageCapacity", "requiresRepublish", "seLinuxMount"] {
        fill(driver, &["spec", field], false);
    }
    fill(driver, &["spec", "fsGroupPolicy"], "ReadWriteOnceWithFSType");
    if list(&driver["spec"]["volumeLifecycleModes"]).is_empty() {
        driver["spec"]["volumeLifecycleModes"] = json!(["Persistent"]);
    }
}

fn validate(driver: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    let name = text(&driver["metadata"]["name"]);
    // The shape of a name is checked for every kind alike; drivers have a limit of their own.
    if name.len() > 63 {
        checks.too_long("metadata.name", 63);
    }
    let spec = &driver["spec"];
    checks.one_of("spec.fsGroupPolicy", &spec["fsGroupPolicy"], &["File", "None", "ReadWriteOnceWithFSType"]);
    for mode in list(&spec["volumeLifecycleModes"]) {
        checks.one_of("spec.volumeLifecycleModes", mode, &["Ephemeral", "Persistent"]);
    }
    let requests = list(&spec["tokenRequests"]);
    for (index, request) in requests.iter().enumerate() {
        let same_audience = |other: &Value| text(&other["audience"]) == text(&request["audience"]);
        if requests[..index].iter().any(same_audience) {
            checks.duplicate(format!("spec.tokenRequests[{index}].audience"), &request["audience"]);
        }
        if request["expirationSeconds"].as_i64().is_some_and(|seconds| !(600..=1 << 32).contains(&seconds)) {
            checks.invalid(
                format!("spec.tokenRequests[{index}].expirationSeconds"),
                &request["expirationSeconds"],
                "may not specify a duration less than 10 minutes or larger than 2^32 seconds",
            );
        }
    }
    let period = &spec["nodeAllocatableUpdatePeriodSeconds"];
    if period.as_i64().is_some_and(|seconds| seconds < 10) {
        checks.invalid(
            "spec.nodeAllocatableUpdatePeriodSeconds",
            period,
            "must be greater than or equal to 10 seconds",
        );
    }
    checks.into_causes()
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["attachRequired", "volumeLifecycleModes"] {
        if !same(&new["spec"][field], &old["spec"][field]) {
            checks.invalid(format!("spec.{field}"), &new["spec"][field], "field is immutable");
        }
    }
    checks.into_causes()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;

    fn driver(spec: Value) -> Value {
        let mut driver = json!({"metadata": {"name": "csi.holdfast.dev"}, "spec": spec});
        default(&mut driver);
        driver
    }

    #[test]
    fn defaults() {
        assert_eq!(
            driver(json!({}))["spec"],
            json!({
                "attachRequired": true, "podInfoOnMount": false, "storageCapacity": false, "requiresRepublish": false,
                "seLinuxMount": false, "fsGroupPolicy": "ReadWriteOnceWithFSType", "volumeLifecycleModes": ["Persistent"],
            })
        );
        assert_eq!(driver(json!({"attachRequired": false}))["spec"]["attachRequired"], false);
    }

    #[test]
    fn rules() {
        for (spec, expected) in [
            (json!({}), vec![]),
            (
                json!({"volumeLifecycleModes": ["Forever"]}),
                vec![
                    r#"spec.volumeLifecycleModes: NotSupported: "Forever": supported values: "Ephemeral", "Persistent""#,
                ],
            ),
            (
                json!({"tokenRequests": [{"audience": "a"}, {"audience": "a"}]}),
                vec![r#"spec.tokenRequests[1].audience: Duplicate: "a""#],
            ),
        ] {
            assert_eq!(lines(&validate(&driver(spec))), expected);
        }
        let update = |spec| lines(&validate_update(&driver(spec), &driver(json!({}))));
        assert_eq!(update(json!({"podInfoOnMount": true, "storageCapacity": true})), [""; 0]);
        assert_eq!(
            update(json!({"attachRequired": false})),
            ["spec.attachRequired: Invalid: false: field is immutable"]
        );
        let mut long = driver(json!({}));
        long["metadata"]["name"] = "a".repeat(64).into();
        assert_eq!(validate(&long)[0].field, "metadata.name");
    }
}
