//! ClusterRole.

use holdfast_api::selector::Selector;
use k8s_openapi::api::rbac::v1::ClusterRole;
use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use serde::Deserialize;
use serde_json::Value;

use super::check::{Checks, list};
use super::defaults::nothing;
use super::fields;
use super::kind::{Cause, Kind, Model, Scope};
use super::policy_rules::{self, COLUMNS, GROUP, nothing_fixed};

/// The kind.
pub static KIND: Kind = Kind {
    group: GROUP,
    version: "v1",
    kind: "ClusterRole",
    plural: "clusterroles",
    singular: "clusterrole",
    short_names: &[],
    categories: &[],
    scope: Scope::Cluster,
    model: Model::of::<ClusterRole>(),
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
    let mut checks = Checks::default();
    let aggregation = &role["aggregationRule"];
    if aggregation.is_object() {
        let selectors = list(&aggregation["clusterRoleSelectors"]);
        let field = "aggregationRule.clusterRoleSelectors";
        if selectors.is_empty() {
            checks.required(field, "at least one clusterRoleSelector required if aggregationRule is non-nil");
        }
        for (index, selector) in selectors.iter().enumerate() {
            let read = LabelSelector::deserialize(selector).map_err(|error| error.to_string());
            let read = read.and_then(|read| Selector::try_from(&read).map_err(|error| error.to_string()));
            if let Err(why) = read {
                checks.invalid(format!("{field}[{index}]"), selector, why);
            }
        }
    }
    let mut causes = checks.into_causes();
    causes.extend(policy_rules::validate(role, false));
    causes
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::check::lines;
    use serde_json::json;

    #[test]
    fn rules() {
        let urls = json!({"rules": [{"verbs": ["get"], "nonResourceURLs": ["/metrics"]}]});
        assert_eq!(validate(&urls), []);
        let both = json!({"rules": [{"verbs": ["get"], "resources": ["pods"], "nonResourceURLs": ["/a"]}]});
        assert_eq!(
            lines(&validate(&both)),
            [
                r#"rules[0].nonResourceURLs: Invalid: ["/a"]: rules cannot apply to both regular resources and non-resource URLs"#
            ]
        );
        assert_eq!(
            lines(&validate(&json!({"aggregationRule": {}}))),
            [
                "aggregationRule.clusterRoleSelectors: Required: at least one clusterRoleSelector required if aggregationRule is non-nil"
            ]
        );
        let odd = json!({"aggregationRule": {"clusterRoleSelectors": [{"matchLabels": {"a": "b"}}, {"matchExpressions": [{"key": "a", "operator": "Near"}]}]}});
        assert_eq!(validate(&odd)[0].field, "aggregationRule.clusterRoleSelectors[1]");
    }
}
