//! `make bench`: what things cost, beside the bare limit of the same run.

mod api;
mod claims;
mod driver;
mod table;

use std::path::Path;

use anyhow::{Result, bail, ensure};

#[tokio::main]
async fn main() -> Result<()> {
    ensure!(rustix::process::geteuid().is_root(), "bench: needs root for loop devices and mounts");
    let chosen: Vec<_> = std::env::args().skip(1).collect();
    let chosen: Vec<_> = chosen.iter().map(String::as_str).collect();
    if let ["serve-api", root, database @ ..] = chosen.as_slice() {
        return api::serve(Path::new(root), database.first().copied()).await;
    }
    for name in if chosen.is_empty() { &["api", "claims", "driver"] } else { chosen.as_slice() } {
        match *name {
            "api" => api::run().await?,
            "claims" => claims::run().await?,
            "driver" => driver::run().await?,
            other => bail!("bench: {other:?} is not one of api, claims, driver"),
        }
    }
    Ok(())
}
