//! The rules of a ClusterRole that is made of others. Pure.

use std::collections::BTreeMap;

use holdfast_api::selector::Selector;
use k8s_openapi::api::rbac::v1::{AggregationRule, PolicyRule};

/// A ClusterRole that others may be made of.
pub(crate) struct Source<'a> {
    pub(crate) name: &'a str,
    pub(crate) labels: Option<&'a BTreeMap<String, String>>,
    pub(crate) rules: &'a [PolicyRule],
}

/// The rules of the roles that are selected: each once, by selector and then in the order of
/// the sources. `None` where a selector cannot be read: then it is not known which they are.
pub(crate) fn aggregate(
    name: &str,
    aggregation: &AggregationRule,
    sources: &[Source<'_>],
) -> Option<Vec<PolicyRule>> {
    let mut rules: Vec<PolicyRule> = Vec::new();
    for selector in aggregation.cluster_role_selectors.iter().flatten() {
        let selector = Selector::try_from(selector).ok()?;
        let chosen = sources.iter().filter(|role| role.name != name && selector.matches_map(role.labels));
        for rule in chosen.flat_map(|role| role.rules) {
            if !rules.contains(rule) {
                rules.push(rule.clone());
            }
        }
    }
    Some(rules)
}
