//! `holdfast csi-check`: the conformance suite against any CSI socket. Options and output
//! only; the checks are in `holdfast-csi-check`.

use std::{
    io::{self, Write},
    os::unix::fs::DirBuilderExt,
    path::{Path, PathBuf},
    pin::pin,
    process::ExitCode,
    time::Duration,
};

use anyhow::{Context, Result, anyhow, bail, ensure};
use clap::ValueEnum;
use holdfast_csi_check::{Options, Outcome, Proof, Report, Restart, junit, list, rows, run_each};

use crate::signals::Signals;

/// What `holdfast csi-check` takes.
#[derive(clap::Args)]
pub(crate) struct Args {
    /// The plugin's socket: unix:///path/to/csi.sock, or a path.
    #[arg(value_name = "ENDPOINT", required_unless_present_any = ["list", "rows"])]
    endpoint: Option<String>,
    /// Run only the checks whose id contains this.
    #[arg(long, value_name = "ID-PART")]
    filter: Option<String>,
    /// List the checks; run none.
    #[arg(long, conflicts_with = "rows")]
    list: bool,
    /// List the rows of the specification with what proves each; run nothing.
    #[arg(long)]
    rows: bool,
    /// Parameters of every CreateVolume, as a StorageClass has them.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = key_value)]
    parameters: Vec<(String, String)>,
    /// Parameters with which a volume of the same name would be another one.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = key_value)]
    other_parameters: Vec<(String, String)>,
    /// Parameters that ControllerModifyVolume accepts.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = key_value)]
    mutable: Vec<(String, String)>,
    /// Attributes of inline ephemeral volumes, as a pod has them.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = key_value)]
    ephemeral: Vec<(String, String)>,
    /// Attributes with which the plugin makes no inline volume.
    #[arg(long, value_name = "K=V,…", value_delimiter = ',', value_parser = key_value)]
    bad_ephemeral: Vec<(String, String)>,
    /// The size of each volume, as a quantity.
    #[arg(long, value_name = "QUANTITY", default_value = "64Mi")]
    size: String,
    /// The file system to ask for [default: the plugin's]
    #[arg(long, value_name = "NAME")]
    fs_type: Option<String>,
    /// A folder for staging and publishing that the plugin sees under the same path, its mounts
    /// shared with this process [default: a new one below TMPDIR]
    #[arg(long, value_name = "DIR")]
    staging_dir: Option<PathBuf>,
    /// Leave out the Node service, and what has to be mounted.
    #[arg(long)]
    controller_only: bool,
    /// Restarts the plugin: run by `sh -c` between calls. It must not return before the old process
    /// is gone; the new one may still be starting.
    #[arg(long, value_name = "CMD")]
    restart_command: Option<String>,
    /// How many seconds one call may take.
    #[arg(long, value_name = "SECONDS", default_value_t = 60)]
    call_timeout: u64,
    /// Also write the findings to a file in JUnit's XML.
    #[arg(long, value_name = "FILE")]
    junit: Option<PathBuf>,
    /// How the findings are printed.
    #[arg(short, long, value_enum, default_value_t = Output::Table)]
    output: Output,
}

#[derive(Clone, Copy, PartialEq, Eq, ValueEnum)]
enum Output {
    /// One line for each check as it ends, several for one that failed, then the totals.
    Table,
    /// One JSON object at the end.
    Json,
}

fn key_value(text: &str) -> Result<(String, String), String> {
    match text.split_once('=') {
        Some((key, value)) if !key.is_empty() => Ok((key.to_owned(), value.to_owned())),
        _ => Err("write KEY=VALUE".to_owned()),
    }
}

/// 0: nothing failed. 1: something did. 2: the suite could not be run.
pub(crate) fn main(args: Args) -> ExitCode {
    match args.run() {
        Ok(failed) => ExitCode::from(u8::from(failed)),
        Err(error) => {
            crate::complain(&error);
            ExitCode::from(2)
        }
    }
}

impl Args {
    fn run(self) -> Result<bool> {
        if self.list {
            return print_list(self.filter.as_deref()).map(|()| false);
        }
        if self.rows {
            return print_rows().map(|()| false);
        }
        let made = self.make_staging()?;
        let done = self.check(made.as_deref());
        if let Some(folder) = made
            && let Err(error) = std::fs::remove_dir(&folder)
        {
            // Not with what is in it: a volume may still be mounted there.
            let left = anyhow!(error).context(format!("{} is left behind", folder.display()));
            match done {
                Ok(false) => return Err(left),
                _ => crate::complain(&left),
            }
        }
        done
    }

    /// A folder of our own where none was given and it can be used.
    fn make_staging(&self) -> Result<Option<PathBuf>> {
        let unused = self.controller_only || !rustix::process::geteuid().is_root();
        if self.staging_dir.is_some() || unused {
            return Ok(None);
        }
        let folder = std::env::temp_dir().join(format!("holdfast-csi-check-{}", std::process::id()));
        std::fs::DirBuilder::new()
            .mode(0o700)
            .create(&folder)
            .with_context(|| format!("cannot make {}; give --staging-dir", folder.display()))?;
        Ok(Some(folder.canonicalize()?))
    }

    fn check(&self, staging: Option<&Path>) -> Result<bool> {
        let options = self.options(staging)?;
        let table = self.output == Output::Table;
        let stop = options.stop.clone();
        let runtime = tokio::runtime::Builder::new_multi_thread()
            .enable_all()
            .build()
            .context("cannot start the runtime")?;
        let report = runtime.block_on(async {
            let mut signals = Signals::listen()?;
            let mut checks = pin!(run_each(options, |finding| {
                if table {
                    // A closed terminal must not leave volumes behind: the run goes on.
                    let _ = writeln!(io::stdout(), "{finding}");
                }
            }));
            tokio::select! {
                report = &mut checks => return Ok(report?),
                () = signals.recv() => stop.cancel(),
            }
            tokio::select! {
                report = &mut checks => Ok(report?),
                () = signals.recv() => bail!("ended by a second signal: the volumes of one check are left behind"),
            }
        })?;
        if let Some(file) = &self.junit {
            std::fs::write(file, junit(&report))
                .with_context(|| format!("cannot write {}", file.display()))?;
        }
        print(&report, table)?;
        ensure!(!stop.is_cancelled(), "stopped by a signal; what was checked is cleaned up");
        Ok(report.findings.iter().any(|finding| matches!(finding.outcome, Outcome::Failed { .. })))
    }

    fn options(&self, staging: Option<&Path>) -> Result<Options> {
        let mut options = Options::new(socket(self.endpoint.as_deref().unwrap_or_default())?);
        options.filter.clone_from(&self.filter);
        options.parameters = self.parameters.iter().cloned().collect();
        let given = |pairs: &[(String, String)]| (!pairs.is_empty()).then(|| pairs.iter().cloned().collect());
        options.other_parameters = given(&self.other_parameters);
        options.ephemeral = given(&self.ephemeral);
        options.bad_ephemeral = given(&self.bad_ephemeral);
        options.mutable_parameters = self.mutable.iter().cloned().collect();
        options.size = holdfast_api::quantity::parse_bytes(&self.size)
            .ok()
            .filter(|bytes| *bytes > 0)
            .ok_or_else(|| anyhow!("--size {:?}: give a size such as 64Mi", self.size))?;
        options.fs_type = self.fs_type.clone().unwrap_or_default();
        options.staging_dir = match (&self.staging_dir, staging) {
            (Some(given), _) => Some(std::path::absolute(given).context("--staging-dir")?),
            (None, made) => made.map(Path::to_owned),
        };
        options.controller_only = self.controller_only;
        options.restart = self.restart_command.clone().map(Restart::Command);
        options.call_timeout = Duration::from_secs(self.call_timeout.max(1));
        Ok(options)
    }
}

/// The path of an endpoint.
fn socket(endpoint: &str) -> Result<PathBuf> {
    let path =
        endpoint.strip_prefix("unix://").or_else(|| endpoint.strip_prefix("unix:")).unwrap_or(endpoint);
    if path.is_empty() || path.contains("://") {
        bail!("{endpoint:?} is no endpoint: write unix:///path/to/csi.sock (CSI knows unix sockets only)");
    }
    Ok(PathBuf::from(path))
}

fn print(report: &Report, table: bool) -> Result<()> {
    let mut out = io::stdout().lock();
    if table {
        let (passed, failed, skipped) = (report.passed(), report.failed(), report.skipped());
        writeln!(out, "{}: {passed} passed, {failed} failed, {skipped} skipped", report.plugin)?;
    } else {
        serde_json::to_writer_pretty(&mut out, report)?;
        writeln!(out)?;
    }
    Ok(())
}

fn print_list(filter: Option<&str>) -> Result<()> {
    let mut out = io::stdout().lock();
    for check in list().iter().filter(|check| filter.is_none_or(|part| check.id.contains(part))) {
        writeln!(out, "{:<52} {}: {}", check.id, check.rpc, check.condition)?;
    }
    Ok(())
}

fn print_rows() -> Result<()> {
    let mut out = io::stdout().lock();
    for (row, proof) in rows() {
        writeln!(out, "{} | {} | {} | {:?}", row.rpc_name(), row.condition, row.code_names(), row.section())?;
        match proof {
            Proof::Checks(ids) => ids.iter().try_for_each(|id| writeln!(out, "    {id}"))?,
            Proof::Untestable(why) => writeln!(out, "    not testable from outside: {why}")?,
        }
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn endpoints() {
        for (endpoint, path) in [
            ("unix:///csi/csi.sock", Some("/csi/csi.sock")),
            ("unix:/csi/csi.sock", Some("/csi/csi.sock")),
            ("/csi/csi.sock", Some("/csi/csi.sock")),
            ("tcp://127.0.0.1:1", None),
            ("unix://", None),
            ("", None),
        ] {
            assert_eq!(socket(endpoint).ok(), path.map(PathBuf::from), "{endpoint}");
        }
    }

    #[test]
    fn key_values() {
        assert_eq!(key_value("a=b=c"), Ok(("a".to_owned(), "b=c".to_owned())));
        assert_eq!(key_value("a="), Ok(("a".to_owned(), String::new())));
        assert!(key_value("=b").is_err());
        assert!(key_value("a").is_err());
    }
}
