//! One run: the checks one after the other, each cleaned up before the next.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Instant,
};

use holdfast_proto::csi::ProbeRequest;
use parking_lot::Mutex;

use crate::{
    check::Check,
    checks,
    client::Client,
    declared::{self, Declared},
    failure::{Failure, Verdict, describe},
    fixture::{Fixture, Session},
    options::Options,
    refused,
    report::{Error, Finding, Outcome, Report},
    rows::Row,
};

/// Runs every check that the options leave.
///
/// # Errors
/// When nothing could be checked: nobody answers, or the options cannot be.
pub async fn run(options: Options) -> Result<Report, Error> {
    run_each(options, |_| ()).await
}

/// As [`run`], and tells of each check as soon as it has ended.
///
/// # Errors
/// As [`run`].
pub async fn run_each(options: Options, mut tell: impl FnMut(&Finding)) -> Result<Report, Error> {
    if let Some(folder) = &options.staging_dir {
        declared::check_staging(folder)?;
    }
    let chosen: Vec<&Check> = checks::all()
        .filter(|check| options.filter.as_ref().is_none_or(|filter| check.id.contains(filter.as_str())))
        .collect();
    if chosen.is_empty() {
        return Err(Error::NothingMatches(options.filter.unwrap_or_default()));
    }
    let name = format!("csi-check-{:.8}", uuid::Uuid::new_v4().simple());
    let client = Client::new(options.socket.clone(), options.call_timeout);
    let declared = Declared::ask(&client, &options, &name).await?;
    let session = Arc::new(Session {
        options,
        declared,
        client,
        run: name,
        counter: AtomicU32::new(0),
        bare_errors: Mutex::default(),
        detailed_errors: Mutex::default(),
    });
    refused::try_all(&session).await;
    let mut findings = Vec::with_capacity(chosen.len());
    let mut gone_since = None;
    for check in chosen {
        let skipped = |reason: String| finding(check, Outcome::Skipped { reason });
        let finding = match gone_since {
            Some(id) => skipped(format!("the plugin is gone since {id}")),
            None if session.options.stop.is_cancelled() => skipped("the run was stopped".to_owned()),
            None => one(check, &session).await,
        };
        if gone_since.is_none() && !is_there(&session).await {
            gone_since = Some(check.id);
        }
        tell(&finding);
        findings.push(finding);
    }
    Ok(Report { plugin: session.declared.plugin.clone(), findings })
}

async fn one(check: &Check, session: &Arc<Session>) -> Finding {
    let begin = Instant::now();
    let unmet = (check.needs.iter().copied().flatten())
        .find_map(|need| need.unmet(&session.declared, &session.options));
    let outcome = match unmet {
        Some(reason) => Outcome::Skipped { reason },
        None => {
            let codes = check.row().map_or(&[][..], |row| row.codes);
            let fixture = Fixture::new(Arc::clone(session), codes);
            let verdict = (check.run)(&fixture).await;
            let sent = fixture.last_calls();
            let alive = revive(&fixture).await;
            let left = fixture.clean_up().await;
            outcome(verdict.and(alive), sent, &left)
        }
    };
    Finding {
        milliseconds: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
        ..finding(check, outcome)
    }
}

/// Whether the plugin answers, now or after its supervisor had time to start it.
async fn is_there(session: &Arc<Session>) -> bool {
    session.client.call(ProbeRequest {}).await.is_ok()
        || Fixture::new(Arc::clone(session), &[]).ready().await.is_ok()
}

/// A check during which the plugin ended has failed. Where it can be restarted it is, so that
/// the clean-up and the other checks have a plugin.
async fn revive(fixture: &Fixture) -> Verdict {
    let probed = fixture.session.client.call(ProbeRequest {}).await;
    let Err(status) = probed else { return Ok(()) };
    if fixture.options().restart.is_some() {
        fixture.restart().await?;
    }
    Err(Failure::wrong("a plugin that still answers", describe(&status)))
}

fn finding(check: &Check, outcome: Outcome) -> Finding {
    let row = check.row();
    Finding {
        id: check.id,
        rpc: row.map_or("", |row| row.rpc_name()),
        condition: check.condition,
        specification: row.map_or("", Row::specification),
        section: row.map_or_else(String::new, |row| row.section()),
        level: row.map_or_else(String::new, |row| row.level.to_string()),
        milliseconds: 0,
        outcome,
    }
}

/// What cannot be undone fails a check that passed: something is left on the plugin.
fn outcome(verdict: Verdict, sent: Vec<String>, left: &[String]) -> Outcome {
    match verdict {
        Err(Failure::Wrong { expected, came }) => Outcome::Failed { expected, came, sent },
        Err(Failure::Local(came)) => {
            Outcome::Failed { expected: "that this machine can look at it".to_owned(), came, sent }
        }
        _ if !left.is_empty() => Outcome::Failed {
            expected: "that everything made can be undone".to_owned(),
            came: left.join("; "),
            sent,
        },
        Err(Failure::Skip(reason)) => Outcome::Skipped { reason },
        Ok(()) => Outcome::Passed,
    }
}
