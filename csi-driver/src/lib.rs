//! The CSI driver: Identity, Controller, GroupController and Node over one unix socket, on top of
//! pools of local storage. It knows nothing of Kubernetes; any orchestrator that
//! speaks CSI v1.12 can use it.
//!
//! It keeps no database. What it knows of a volume lies next to the volume's data,
//! in `volume.json`, and a pool can be read back after everything else is lost.
//!
//! ```no_run
//! # async fn demo() -> Result<(), holdfast_csi_driver::Error> {
//! use holdfast_csi_driver::{Config, PoolConfig, run};
//! use tokio_util::sync::CancellationToken;
//!
//! let pool = PoolConfig::image("default", "/var/lib/holdfast/pools/default");
//! let config = Config::new("node-1", "/run/holdfast/csi.sock", vec![pool]);
//! run(config, CancellationToken::new()).await
//! # }
//! ```

mod admin;
mod backend;
mod blocks;
mod capability;
mod clock;
mod command;
mod config;
mod controller;
mod error;
mod group_controller;
mod guard;
mod health;
mod identity;
mod kernel;
mod metrics;
mod mutable;
mod node;
mod operation;
mod pool;
mod server;
mod size;
mod snapshot;
mod snapshot_metadata;
mod socket;
mod step;
mod volume;
mod volume_id;

pub use admin::{
    Order, Outcome, SnapshotInfo, Trashed, carry_out, carry_out_watched, list_snapshots, list_trash,
};
pub use config::{
    Attach, BackendKind, Config, ConfigError, ConfigFile, DRIVER_NAME, Limits, PoolConfig, ProjectIds,
    TOPOLOGY_NODE, Trash, parse_duration,
};
pub use error::Error;
pub use metrics::Metrics;
pub use pool::inspect::{Findings, PoolReport, PoolState, inspect};
pub use pool::{Import, Progress};
pub use server::run;
pub use size::Bytes;
