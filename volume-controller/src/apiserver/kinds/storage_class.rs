//! StorageClass.

use holdfast_api::names;
use k8s_openapi::api::storage::v1::StorageClass;
use serde_json::Value;

use super::check::{Checks, entries, list, same, text};
use super::columns::{AGE, cell_text, column};
use super::defaults::{fill, nothing};
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};
use super::names::qualified_problem;

/// The kind.
pub static KIND: Kind = Kind {
    group: "storage.k8s.io",
    version: "v1",
    kind: "StorageClass",
    plural: "storageclasses",
    singular: "storageclass",
    short_names: &["sc"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<StorageClass>(),
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
    column("Name", "name", |class, _| {
        let name = text(&class["metadata"]["name"]);
        if is_default(class) { format!("{name} (default)").into() } else { name.into() }
    })
    .described("The name of the class; the default class is marked."),
    column("Provisioner", "", |class, _| cell_text(&class["provisioner"]))
        .described("Who makes the volumes of this class."),
    column("ReclaimPolicy", "", |class, _| cell_text(&class["reclaimPolicy"]))
        .described("What happens to a volume when its claim is gone."),
    column("VolumeBindingMode", "", |class, _| cell_text(&class["volumeBindingMode"]))
        .described("Whether volumes are made at once or when a pod needs them."),
    column("AllowVolumeExpansion", "", |class, _| (class["allowVolumeExpansion"] == true).into())
        .described("Whether claims of this class can grow."),
    AGE,
];

fn is_default(class: &Value) -> bool {
    let annotations = &class["metadata"]["annotations"];
    [names::DEFAULT_CLASS, names::DEFAULT_CLASS_BETA].iter().any(|key| annotations[*key] == "true")
}

fn default(class: &mut Value) {
    fill(class, &["reclaimPolicy"], "Delete");
    fill(class, &["volumeBindingMode"], "Immediate");
}

/// The most that the parameters of a class may be, together, in bytes.
const PARAMETERS_SIZE: usize = 256 * 1024;
/// The most parameters that a class may have.
const PARAMETERS_COUNT: usize = 512;

fn validate(class: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    if checks.present("provisioner", &class["provisioner"])
        && let Some(problem) = qualified_problem(&text(&class["provisioner"]).to_lowercase())
    {
        checks.invalid("provisioner", &class["provisioner"], problem);
    }
    check_parameters(&mut checks, &class["parameters"]);
    checks.one_of("reclaimPolicy", &class["reclaimPolicy"], &["Delete", "Retain"]);
    checks.one_of("volumeBindingMode", &class["volumeBindingMode"], &["Immediate", "WaitForFirstConsumer"]);
    for (index, term) in list(&class["allowedTopologies"]).iter().enumerate() {
        for (at, expression) in list(&term["matchLabelExpressions"]).iter().enumerate() {
            let field = format!("allowedTopologies[{index}].matchLabelExpressions[{at}]");
            if let Some(problem) = qualified_problem(text(&expression["key"])) {
                checks.invalid(format!("{field}.key"), &expression["key"], problem);
            }
            if list(&expression["values"]).is_empty() {
                checks.required(format!("{field}.values"), "");
            }
        }
    }
    checks.into_causes()
}

/// Parameters of a class, of either kind of class.
pub(crate) fn check_parameters(checks: &mut Checks, parameters: &Value) {
    let mut size = 0;
    for (key, value) in entries(parameters) {
        if key.is_empty() {
            checks.invalid_text("parameters", key, "field can not be empty.");
        }
        size += key.len() + text(value).len();
    }
    if entries(parameters).count() > PARAMETERS_COUNT || size > PARAMETERS_SIZE {
        checks.too_long("parameters", PARAMETERS_SIZE);
    }
}

fn validate_update(new: &Value, old: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for field in ["parameters", "provisioner", "reclaimPolicy"] {
        if !same_map(&new[field], &old[field]) {
            checks.forbidden(field, format_args!("updates to {field} are forbidden."));
        }
    }
    checks.immutable("volumeBindingMode", &new["volumeBindingMode"], &old["volumeBindingMode"]);
    checks.into_causes()
}

/// An empty map is the same as none.
pub(crate) fn same_map(a: &Value, b: &Value) -> bool {
    same(a, b)
        || (entries(a).next().is_none() && entries(b).next().is_none() && !a.is_string() && !b.is_string())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    fn class() -> Value {
        let mut class = json!({"metadata": {"name": "fast"}, "provisioner": "csi.holdfast.dev"});
        default(&mut class);
        class
    }

    fn with(field: &str, value: Value) -> Value {
        let mut class = class();
        class[field] = value;
        class
    }

    #[test]
    fn defaults() {
        assert_eq!(class()["reclaimPolicy"], "Delete");
        assert_eq!(class()["volumeBindingMode"], "Immediate");
    }

    #[test]
    fn validation() {
        for (class, expected) in [
            (class(), vec![]),
            (with("provisioner", "".into()), vec!["provisioner: Required: "]),
            (
                with("reclaimPolicy", "Recycle".into()),
                vec![r#"reclaimPolicy: NotSupported: "Recycle": supported values: "Delete", "Retain""#],
            ),
            (
                with("volumeBindingMode", "Later".into()),
                vec![
                    r#"volumeBindingMode: NotSupported: "Later": supported values: "Immediate", "WaitForFirstConsumer""#,
                ],
            ),
            (
                with("parameters", json!({"": "x"})),
                vec![r#"parameters: Invalid: "": field can not be empty."#],
            ),
            (
                with("parameters", json!({"a": "x".repeat(PARAMETERS_SIZE)})),
                vec!["parameters: TooLong: may not be more than 262144 bytes"],
            ),
            (
                with("allowedTopologies", json!([{"matchLabelExpressions": [{"key": "a", "values": []}]}])),
                vec!["allowedTopologies[0].matchLabelExpressions[0].values: Required: "],
            ),
        ] {
            assert_eq!(lines(&validate(&class)), expected);
        }
    }

    #[test]
    fn updates() {
        for (new, expected) in [
            (class(), vec![]),
            (with("allowVolumeExpansion", true.into()), vec![]),
            (with("parameters", json!({})), vec![]),
            (with("metadata", json!({"name": "fast", "labels": {"a": "b"}})), vec![]),
            (
                with("parameters", json!({"a": "b"})),
                vec!["parameters: Forbidden: updates to parameters are forbidden."],
            ),
            (
                with("provisioner", "x".into()),
                vec!["provisioner: Forbidden: updates to provisioner are forbidden."],
            ),
            (
                with("reclaimPolicy", "Retain".into()),
                vec!["reclaimPolicy: Forbidden: updates to reclaimPolicy are forbidden."],
            ),
            (
                with("volumeBindingMode", "WaitForFirstConsumer".into()),
                vec![r#"volumeBindingMode: Invalid: "WaitForFirstConsumer": field is immutable"#],
            ),
        ] {
            assert_eq!(lines(&validate_update(&new, &class())), expected, "{new}");
        }
    }
}
