//! `holdfast check`: whether the store is in order.

use std::process::ExitCode;

use anyhow::{Context, Result};
use holdfast_volume_controller::{
    apiserver::CHECK_PATH,
    store::{OpenError, Report},
};

use super::target::{Target, TargetArgs};

/// What `holdfast check` takes.
#[derive(clap::Args)]
pub(crate) struct CheckArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// Print JSON.
    #[arg(long)]
    json: bool,
}

/// The status of a store in which something is wrong.
const DAMAGED: u8 = 1;
/// The status when that could not be found out.
const UNKNOWN: u8 = 2;

pub(crate) fn main(args: &CheckArgs) -> ExitCode {
    match super::runtime().and_then(|runtime| runtime.block_on(check(args))) {
        Ok(true) => ExitCode::SUCCESS,
        Ok(false) => DAMAGED.into(),
        Err(error) => {
            crate::complain(&error);
            let is_damaged = matches!(error.downcast_ref(), Some(OpenError::Damaged { .. }));
            if is_damaged { DAMAGED } else { UNKNOWN }.into()
        }
    }
}

/// Whether all is in order.
async fn check(args: &CheckArgs) -> Result<bool> {
    let report = match args.target.reach().await? {
        Target::Running(client) => {
            let request = http::Request::get(CHECK_PATH).body(Vec::new())?;
            client.request::<Report>(request).await.context("the server made no check")?
        }
        Target::Idle(store, _root) => {
            let report = store.check().await;
            store.close().await;
            report?
        }
    };
    print(&report, args.json)?;
    Ok(report.findings.is_empty())
}

#[expect(clippy::print_stdout, reason = "the report is this command's output")]
fn print(report: &Report, json: bool) -> Result<()> {
    if json {
        println!("{}", serde_json::to_string_pretty(report)?);
        return Ok(());
    }
    for finding in &report.findings {
        println!("{finding}");
    }
    let Report { objects, bytes, changes, revision, .. } = report;
    let verdict = match report.findings.len() {
        0 => "in order".to_owned(),
        1 => "1 thing is wrong; see docs/store.md, \"When something is wrong\"".to_owned(),
        many => format!("{many} things are wrong; see docs/store.md, \"When something is wrong\""),
    };
    println!("{objects} objects ({bytes} bytes), {changes} changes, revision {revision}: {verdict}");
    Ok(())
}
