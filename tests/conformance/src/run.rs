//! One run: the checks one after the other, each cleaned up before the next.

use std::{
    sync::{Arc, atomic::AtomicU32},
    time::Instant,
};

use parking_lot::Mutex;

use crate::{
    check::Check,
    checks,
    client::Client,
    declared::{self, Declared},
    failure::{Failure, Verdict},
    fixture::{Fixture, Session},
    options::Options,
    report::{Error, Finding, Outcome, Report},
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
    let mut findings = Vec::with_capacity(chosen.len());
    for check in chosen {
        let finding = one(check, &session).await;
        tell(&finding);
        findings.push(finding);
    }
    Ok(Report { plugin: session.declared.plugin.clone(), findings })
}

async fn one(check: &Check, session: &Arc<Session>) -> Finding {
    let begin = Instant::now();
    let row = check.row();
    let unmet = (check.needs.iter().copied().flatten())
        .find_map(|need| need.unmet(&session.declared, &session.options));
    let outcome = match unmet {
        Some(reason) => Outcome::Skipped { reason },
        None => {
            let fixture = Fixture::new(Arc::clone(session), row.map_or(&[], |row| row.codes));
            let verdict = (check.run)(&fixture).await;
            let sent = fixture.last_calls();
            let left = fixture.clean_up().await;
            outcome(verdict, sent, &left)
        }
    };
    Finding {
        id: check.id,
        rpc: row.map_or("", |row| row.rpc_name()),
        condition: check.condition,
        section: row.map_or_else(String::new, |row| row.section()),
        level: row.map_or_else(String::new, |row| row.level.to_string()),
        milliseconds: u64::try_from(begin.elapsed().as_millis()).unwrap_or(u64::MAX),
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
