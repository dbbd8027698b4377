//! The bridge between a Kubernetes storage API and a CSI socket.
//!
//! [`run`] does what Kubernetes' external-provisioner, external-attacher, external-resizer, external-snapshotter's sidecar,
//! node-driver-registrar and external-health-monitor do, in one process with one shared cache, against any Kubernetes API
//! and any CSI driver; [`Diagnostics`] what livenessprobe does.
#![forbid(unsafe_code)]

mod attacher;
mod cache;
mod config;
mod context;
mod csi;
mod diagnostics;
mod election;
mod events;
mod health;
mod metrics;
mod monitor;
mod provisioner;
mod queue;
mod registrar;
mod resizer;
mod run;
mod snapshotter;
mod supervise;
mod writes;

pub use config::{Config, Controller, Provisioning};
pub use diagnostics::{Diagnostics, Liveness};
pub use election::{BadElection, Election};
pub use health::{Health, Unhealthy, probe};
pub use metrics::Metrics;
pub use run::{Error, run};
