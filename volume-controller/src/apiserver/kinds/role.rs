//! Role.

use k8s_openapi::api::rbac::v1::Role;
use serde_json::Value;

use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Kind, Model, Scope};
use super::policy_rules::{self, COLUMNS, GROUP, nothing_fixed};

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "Role",
    plural: "roles",
    singular: "role",
    short_names: &[],
    categories: &[],
    scope: Scope::Namespaced,
    model: Model::of::<Role>(),
    has_status: false,
    is_graceful: false,
    returns_deleted: false,
    columns: COLUMNS,
    fields: fields::NONE,
    default: nothing,
    prepare_create: nothing,
    validate,
    validate_update: nothing_fixed,
};

fn validate(role: &Value) -> Vec<Cause> {
    policy_rules::validate(role, true)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        for (rule, expected) in [
            (json!({"verbs": ["get"], "apiGroups": [""], "resources": ["pods"]}), vec![]),
            (
                json!({"verbs": ["list"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a"]}),
                vec![],
            ),
            (
                json!({"verbs": [], "apiGroups": [], "resources": []}),
                vec![
                    "rules[0].verbs: Required: verbs must contain at least one value",
                    "rules[0].apiGroups: Required: resource rules must supply at least one api group",
                    "rules[0].resources: Required: resource rules must supply at least one resource",
                ],
            ),
            (
                json!({"verbs": ["get"], "nonResourceURLs": ["/metrics"]}),
                vec![
                    r#"rules[0].nonResourceURLs: Invalid: ["/metrics"]: namespaced rules cannot apply to non-resource URLs"#,
                ],
            ),
        ] {
            assert_eq!(lines(&validate(&json!({"rules": [rule]}))), expected, "{rule}");
        }
        assert_eq!(validate(&json!({"rules": null})), []);
    }
}
