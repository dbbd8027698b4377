//! The API server over real TLS, with a real store on disk: asked directly, through
//! kube-rs and with the kubectl binaries that the machine has.

#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::print_stdout,
    clippy::cast_precision_loss,
    reason = "a test may stop at the first thing that is wrong"
)]

mod access;
mod admin;
mod applying;
mod audit;
mod bodies;
mod caches;
mod certificates;
mod clients;
mod deleting;
mod encodings;
mod endpoints;
mod golden;
mod granting;
mod harness;
mod hostile;
mod impersonating;
mod kubectl;
mod kubectl_access;
mod kubectl_apply;
mod kubectl_kinds;
mod listing;
mod open;
mod quotas;
mod replicas;
mod room;
mod snapshots;
mod socket;
mod speed;
mod tokens;
mod too_much;
mod unread;
mod watching;
mod watching_edges;
mod watching_many;
mod within;
mod writing;
