//! The storage objects of Kubernetes and the pure rules on them.
//!
//! No I/O, no async, no clock: every function here is a rule that can be read in
//! Kubernetes' documentation and tested with a table. The types themselves are
//! those of `k8s-openapi`; those that it lacks are in [`snapshot`].
#![forbid(unsafe_code)]

pub mod access;
pub mod affinity;
pub mod attachment;
pub mod names;
pub mod nodes;
pub mod quantity;
pub mod quota;
pub mod secret;
pub mod selector;
pub mod snapshot;
