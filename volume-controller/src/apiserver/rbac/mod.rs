//! Who may do what: roles, bindings and the questions about them.
//!
//! [`attributes`] says what a request is about, [`index`] what every role and binding
//! grants, [`Access`] puts the two together. [`escalation`] keeps those who may write roles
//! from granting more than they have; [`defaults`] are the roles that a cluster begins with.
//!
//! Source: "Using RBAC Authorization" in Kubernetes' documentation.

mod access;
pub(crate) mod aggregate;
pub(crate) mod attributes;
mod cover;
pub(crate) mod defaults;
pub(crate) mod escalation;
mod index;
pub(crate) mod matching;

pub(crate) use access::{Access, Decision};
