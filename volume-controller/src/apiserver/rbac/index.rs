//! All roles and bindings, by who they are for. In memory, fed with changes. Pure.

use std::collections::{BTreeSet, HashMap};
use std::ops::ControlFlow;
use std::sync::Arc;

use k8s_openapi::api::rbac::v1::{PolicyRule, RoleRef, Subject};
use serde::Deserialize;

use super::super::kinds::policy_rules::GROUP;
use super::super::kinds::{cluster_role, cluster_role_binding, role, role_binding};
use super::super::user::{self, User};
use crate::store::{Key, Object};

/// The resources that the index is made of.
pub(super) fn resources() -> [String; 4] {
    [&role::KIND, &cluster_role::KIND, &role_binding::KIND, &cluster_role_binding::KIND]
        .map(super::super::kinds::Kind::resource)
}

/// The roles and bindings of one namespace; the empty one has those of the cluster.
#[derive(Debug, Default)]
struct Space {
    roles: HashMap<Arc<str>, Vec<PolicyRule>>,
    bindings: HashMap<Arc<str>, Binding>,
    /// Names of bindings.
    by_user: HashMap<String, BTreeSet<Arc<str>>>,
    by_group: HashMap<String, BTreeSet<Arc<str>>>,
}

/// Who has which role.
#[derive(Debug, Deserialize)]
#[serde(rename_all = "camelCase")]
struct Binding {
    role_ref: RoleRef,
    #[serde(default)]
    subjects: Option<Vec<Subject>>,
}

/// The part of a role that counts.
#[derive(Deserialize)]
struct Role {
    #[serde(default)]
    rules: Option<Vec<PolicyRule>>,
}

/// All roles and bindings.
#[derive(Debug, Default)]
pub(super) struct Index {
    spaces: HashMap<Arc<str>, Space>,
}

/// What one binding gives a user.
pub(super) struct Grant<'a> {
    binding: &'a str,
    /// Of the binding; empty for the whole cluster.
    namespace: &'a str,
    role: &'a RoleRef,
    subject: &'a Subject,
    /// `None` for a role that there is not.
    pub(super) rules: Option<&'a [PolicyRule]>,
}

impl Grant<'_> {
    /// Why it is allowed, in upstream's words.
    pub(super) fn reason(&self) -> String {
        let (kind, name) = match self.namespace {
            "" => ("ClusterRoleBinding", self.binding.to_owned()),
            namespace => ("RoleBinding", format!("{}/{namespace}", self.binding)),
        };
        let subject = match self.subject.namespace.as_deref().filter(|_| self.subject.kind == ACCOUNT) {
            Some(namespace) => format!("{}/{namespace}", self.subject.name),
            None => self.subject.name.clone(),
        };
        let RoleRef { kind: role_kind, name: role, .. } = self.role;
        format!(
            "RBAC: allowed by {kind} {name:?} of {role_kind} {role:?} to {} {subject:?}",
            self.subject.kind
        )
    }

    /// That there is no such role.
    pub(super) fn missing(&self) -> String {
        let RoleRef { kind, name, .. } = self.role;
        format!("{}.{GROUP} {name:?} not found", kind.to_lowercase())
    }
}

const ACCOUNT: &str = "ServiceAccount";

impl Index {
    /// Takes an object in, in place of its former version.
    pub(super) fn put(&mut self, object: &Object) {
        let Key { resource, namespace, name } = &object.key;
        let is_role = **resource == *role::KIND.resource() || **resource == *cluster_role::KIND.resource();
        // Of what cannot be read nothing is granted.
        self.take(&object.key);
        let space = self.spaces.entry(namespace.clone()).or_default();
        let read = if is_role {
            object.decode::<Role>().map(|role| {
                space.roles.insert(name.clone(), role.rules.unwrap_or_default());
            })
        } else {
            object.decode::<Binding>().map(|binding| {
                for subject in binding.subjects.iter().flatten() {
                    let (by, who) = space.of(subject, namespace);
                    by.entry(who).or_default().insert(name.clone());
                }
                space.bindings.insert(name.clone(), binding);
            })
        };
        if let Err(error) = read {
            tracing::error!(key = %object.key, %error, "this cannot be read: it grants nothing");
        }
    }

    /// Takes an object out.
    pub(super) fn take(&mut self, Key { resource, namespace, name }: &Key) {
        let Some(space) = self.spaces.get_mut(namespace) else { return };
        if **resource == *role::KIND.resource() || **resource == *cluster_role::KIND.resource() {
            space.roles.remove(name);
        } else if let Some(binding) = space.bindings.remove(name) {
            for subject in binding.subjects.iter().flatten() {
                let (by, who) = space.of(subject, namespace);
                if let Some(names) = by.get_mut(&who) {
                    names.remove(name);
                    if names.is_empty() {
                        by.remove(&who);
                    }
                }
            }
        }
    }

    /// The rules of the role that a binding in `namespace` names.
    pub(super) fn rules(&self, role: &RoleRef, namespace: &str) -> Option<&[PolicyRule]> {
        let space = if role.kind == "Role" { namespace } else { "" };
        self.spaces.get(space)?.roles.get(role.name.as_str()).map(Vec::as_slice)
    }

    /// Looks at what a user is granted in a namespace and in the whole cluster until told to stop.
    pub(super) fn visit<'a, B>(
        &'a self,
        user: &User,
        namespace: &'a str,
        mut look: impl FnMut(Grant<'a>) -> ControlFlow<B>,
    ) -> ControlFlow<B> {
        let spaces: &[&'a str] = if namespace.is_empty() { &[""] } else { &["", namespace] };
        for at in spaces.iter().copied() {
            let Some(space) = self.spaces.get(at) else { continue };
            let own = space.by_user.get(&user.name);
            let shared = user.groups.iter().filter_map(|group| space.by_group.get(group));
            let names: BTreeSet<&Arc<str>> = own.into_iter().chain(shared).flatten().collect();
            for name in names {
                let Some(binding) = space.bindings.get(name) else { continue };
                let mut subjects = binding.subjects.iter().flatten();
                let Some(subject) = subjects.find(|subject| is(subject, user, at)) else { continue };
                let role = &binding.role_ref;
                look(Grant { binding: name, namespace: at, role, subject, rules: self.rules(role, at) })?;
            }
        }
        ControlFlow::Continue(())
    }
}

impl Space {
    /// Where a subject is looked up, and as whom.
    fn of(
        &mut self,
        subject: &Subject,
        namespace: &str,
    ) -> (&mut HashMap<String, BTreeSet<Arc<str>>>, String) {
        match subject.kind.as_str() {
            "Group" => (&mut self.by_group, subject.name.clone()),
            ACCOUNT => (&mut self.by_user, account(subject, namespace)),
            _ => (&mut self.by_user, subject.name.clone()),
        }
    }
}

/// A service account without a namespace is of the binding's.
fn account(subject: &Subject, namespace: &str) -> String {
    let own = subject.namespace.as_deref().filter(|own| !own.is_empty());
    user::account_name(own.unwrap_or(namespace), &subject.name)
}

fn is(subject: &Subject, user: &User, namespace: &str) -> bool {
    match subject.kind.as_str() {
        "Group" => user.is_in(&subject.name),
        "User" => subject.name == user.name,
        ACCOUNT => account(subject, namespace) == user.name,
        _ => false,
    }
}
