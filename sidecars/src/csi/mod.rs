//! The CSI side: one connection to the plugin's socket, typed errors, and how
//! Kubernetes' words (access modes, volume modes) translate into CSI's.

mod capability;
mod client;
mod connect;
mod error;
mod facts;

pub(crate) use capability::{CapabilityError, for_claim, for_volume};
pub(crate) use client::CsiClient;
pub(crate) use connect::connect;
pub(crate) use error::{CsiError, Origin, Verdict};
pub(crate) use facts::DriverFacts;
