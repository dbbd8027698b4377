//! Namespace.

use k8s_openapi::api::core::v1::Namespace;
use serde_json::{Value, json};

use super::check::{Checks, list};
use super::columns::{AGE, NAME, cell_text, column};
use super::defaults::{fill, fill_text, set};
use super::fields::field;
use super::kind::{Cause, Column, Field, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "Namespace",
    plural: "namespaces",
    singular: "namespace",
    short_names: &["ns"],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<Namespace>(),
    has_status: true,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: FIELDS,
    default,
    prepare_create,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Status", "", |namespace, _| cell_text(&namespace["status"]["phase"]))
        .described("The status of the namespace"),
    AGE,
];

const FIELDS: &[Field] = &[field!("status.phase")];

/// The label that holds the namespace's own name.
const NAME_LABEL: &str = "kubernetes.io/metadata.name";

fn default(namespace: &mut Value) {
    fill_text(namespace, &["status", "phase"], "Active");
    let name = namespace["metadata"]["name"].clone();
    if name.as_str().is_some_and(|name| !name.is_empty()) {
        fill(namespace, &["metadata", "labels", NAME_LABEL], name);
    }
}

fn prepare_create(namespace: &mut Value) {
    set(namespace, &["status"], json!({"phase": "Active"}));
    fill(namespace, &["spec", "finalizers"], Vec::<Value>::new());
    if !list(&namespace["spec"]["finalizers"]).iter().any(|f| f == "kubernetes")
        && let Some(finalizers) = namespace["spec"]["finalizers"].as_array_mut()
    {
        finalizers.push("kubernetes".into());
    }
}

fn validate(namespace: &Value) -> Vec<Cause> {
    let mut checks = Checks::default();
    for (index, finalizer) in list(&namespace["spec"]["finalizers"]).iter().enumerate() {
        if finalizer != "kubernetes" && !finalizer.as_str().is_some_and(|f| f.contains('/')) {
            checks.invalid(
                format!("spec.finalizers[{index}]"),
                finalizer,
                "name is neither a standard finalizer name nor is it fully qualified",
            );
        }
    }
    let label = &namespace["metadata"]["labels"][NAME_LABEL];
    let name = &namespace["metadata"]["name"];
    if !label.is_null() && label != name {
        checks.invalid(
            format!("metadata.labels[{NAME_LABEL}]"),
            label,
            format_args!("must be equal to {}", name.as_str().unwrap_or_default()),
        );
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

    #[test]
    fn creation() {
        let mut new = json!({"metadata": {"name": "dev"}});
        default(&mut new);
        prepare_create(&mut new);
        assert_eq!(
            new,
            json!({
                "metadata": {"name": "dev", "labels": {"kubernetes.io/metadata.name": "dev"}},
                "spec": {"finalizers": ["kubernetes"]}, "status": {"phase": "Active"},
            })
        );
        assert_eq!(validate(&new), []);
        new["metadata"]["labels"][NAME_LABEL] = "other".into();
        assert_eq!(
            lines(&validate(&new)),
            [r#"metadata.labels[kubernetes.io/metadata.name]: Invalid: "other": must be equal to dev"#]
        );
    }
}
