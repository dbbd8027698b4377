//! `holdfast driver check-config`: everything about a configuration that can be known
//! before a driver starts.

use std::path::PathBuf;

use anyhow::{Context, Result, ensure};
use holdfast_csi_driver::{BackendKind, Bytes, ConfigFile, PoolReport, PoolState, inspect};

use crate::table::{say, table};

#[derive(clap::Args)]
pub(crate) struct CheckConfigArgs {
    /// The TOML file with the pools.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

/// Prints what each pool can do; an error when a driver could not start with it.
pub(crate) fn main(args: &CheckConfigArgs) -> Result<()> {
    let mut file = ConfigFile::load(&args.file)?;
    // The command line may give it.
    file.endpoint.get_or_insert_with(|| "/run/holdfast/csi.sock".into());
    let config = file.into_config().with_context(|| args.file.display().to_string())?;
    let reports = super::runtime()?.block_on(inspect(&config))?;

    let head =
        ["POOL", "BACKEND", "PATH", "FILE SYSTEM", "FREE", "SIZES ENFORCED", "GROWTH", "REFLINK", "STATE"];
    say(&table(head, &reports.iter().map(row).collect::<Vec<_>>()))?;
    for line in reports.iter().flat_map(remarks) {
        say(&format!("{line}\n"))?;
    }
    let bad = reports.iter().filter(|report| report.found.is_err()).count();
    ensure!(bad == 0, "{bad} of {} pools cannot be used", reports.len());
    Ok(())
}

fn row(report: &PoolReport) -> [String; 9] {
    let (name, backend) = (report.name.clone(), report.backend.as_str().to_owned());
    let path = match report.backend {
        BackendKind::Tmpfs => "-".to_owned(),
        _ => report.path.display().to_string(),
    };
    let Ok(found) = &report.found else {
        let unknown = || "-".to_owned();
        let unusable = "unusable".to_owned();
        return [name, backend, path, unknown(), unknown(), unknown(), unknown(), unknown(), unusable];
    };
    let yes = |can: bool| if can { "yes" } else { "no" }.to_owned();
    [
        name,
        backend,
        path,
        found.fs.clone(),
        Bytes(found.free).to_string(),
        yes(found.unenforced.is_none()),
        if found.unenforced.is_none() { "online" } else { "-" }.to_owned(),
        yes(found.reflink),
        match found.state {
            PoolState::Missing => "to be made",
            PoolState::Empty => "empty",
            PoolState::Ready => "ready",
            PoolState::InUse => "in use",
            _ => "unknown",
        }
        .to_owned(),
    ]
}

/// What goes beside the table: why a pool is unusable, and what it cannot do.
fn remarks(report: &PoolReport) -> Vec<String> {
    match &report.found {
        // A wrong path says of which pool it is.
        Err(error) => vec![format!("pool {:?} is unusable: {error}", report.name)],
        Ok(found) => found
            .unenforced
            .iter()
            .chain(&found.lacks)
            .map(|line| format!("pool {:?}: {line}", report.name))
            .collect(),
    }
}
