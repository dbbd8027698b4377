//! A conformance suite for CSI v1.12 plugins: every RPC, every row of every error table,
//! the rules around them, and what is in the volumes.
//!
//! Checks and rows are data. A check whose capability the plugin does not declare is
//! skipped with that reason, never passed. Everything that a check makes is deleted again.
//!
//! ```no_run
//! # async fn demo() -> Result<(), holdfast_csi_check::Error> {
//! use holdfast_csi_check::{Options, run};
//!
//! let report = run(Options::new("/run/csi.sock")).await?;
//! println!("{report}");
//! # Ok(())
//! # }
//! ```

mod capability;
mod check;
mod checks;
mod client;
mod declared;
mod failure;
mod fixture;
mod junit;
mod list;
mod need;
mod options;
mod refused;
mod report;
mod rows;
mod rpc;
mod run;

pub use junit::junit;
pub use list::{Listed, Proof, list, rows};
pub use options::{Options, Restart};
pub use report::{Error, Finding, Outcome, Report};
pub use rows::{Level, Origin, Row, code_name};
pub use rpc::Rpc;
pub use run::{run, run_each};
