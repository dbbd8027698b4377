//! ServiceAccount.

use k8s_openapi::api::core::v1::ServiceAccount;
use serde_json::Value;

use super::check::list;
use super::columns::{AGE, NAME, column};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Column, Kind, Model, Scope};

/// The kind.
pub static KIND: Kind = Kind {
    group: "",
    version: "v1",
    kind: "ServiceAccount",
    plural: "serviceaccounts",
    singular: "serviceaccount",
    short_names: &["sa"],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<ServiceAccount>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: true,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update,
};

const COLUMNS: &[Column] = &[
    NAME,
    column("Secrets", "", |account, _| list(&account["secrets"]).len().into())
        .described("How many secrets the account may use."),
    AGE,
];

fn validate(_account: &Value) -> Vec<Cause> {
    Vec::new()
}

fn validate_update(_new: &Value, _old: &Value) -> Vec<Cause> {
    Vec::new()
}
