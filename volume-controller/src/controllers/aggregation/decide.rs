//! Which rules a ClusterRole that is made of others should have.

use k8s_openapi::api::rbac::v1::PolicyRule;

use crate::{
    apiserver::rbac::aggregate::{Source, aggregate},
    controllers::view::{At, View, is_deleting},
    store::Key,
};

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Put these rules in place of those that it has.
    Replace {
        /// The role.
        role: At,
        /// What it is made of now.
        rules: Vec<PolicyRule>,
    },
}

/// `None` for a role that has its rules, or stands for itself.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    let role = view.cluster_roles.at(key).filter(|role| !is_deleting(&role.metadata))?;
    let made_of = view.cluster_roles.iter().map(|source| Source {
        name: &source.key.name,
        labels: source.metadata.labels.as_ref(),
        rules: source.rules.as_deref().unwrap_or_default(),
    });
    let sources: Vec<Source<'_>> = made_of.collect();
    let rules = aggregate(&key.name, role.aggregation_rule.as_ref()?, &sources)?;
    (rules != role.rules.as_deref().unwrap_or_default()).then(|| Action::Replace { role: role.at(), rules })
}
