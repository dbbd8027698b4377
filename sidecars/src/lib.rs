//! The bridge between a Kubernetes storage API and a CSI socket.
//!
//! [`run`] does what Kubernetes' external-provisioner, external-attacher,
//! external-resizer, external-snapshotter's sidecar and node-driver-registrar do, in one process with one shared cache,
//! against any Kubernetes API and any CSI driver.
#![forbid(unsafe_code)]

mod attacher;
mod cache;
mod config;
mod context;
mod csi;
mod events;
mod metrics;
mod provisioner;
mod queue;
mod registrar;
mod resizer;
mod run;
mod snapshotter;
mod writes;

pub use config::{Config, Controller};
pub use metrics::Metrics;
pub use run::{Error, run};
