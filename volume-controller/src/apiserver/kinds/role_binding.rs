//! RoleBinding.

use k8s_openapi::api::rbac::v1::RoleBinding;
use serde_json::Value;

use super::binding_subjects::{self, COLUMNS, validate_update};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Kind, Model, Scope};
use super::policy_rules::GROUP;

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "RoleBinding",
    plural: "rolebindings",
    singular: "rolebinding",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<RoleBinding>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: binding_subjects::default,
    prepare_create: nothing,
    validate,
    validate_update,
};

fn validate(binding: &Value) -> Vec<Cause> {
    binding_subjects::validate(binding, true)
}
