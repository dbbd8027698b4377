//! Whether a store is in order: the database by its own means, the log in itself, and the objects against memory.

use std::collections::HashMap;

use serde::{Deserialize, Serialize};
use serde_json::Value;
use tokio::sync::oneshot;

use super::dialect::{ChangeRow, Loaded, ObjectRow};
use super::memory::Memory;
use super::writer::Writer;
use super::{ChangeKind, Key, Store};

/// More findings than this help nobody.
const MOST: usize = 50;
/// How often everything is read while other replicas go on writing.
const ATTEMPTS: usize = 5;

/// What a check looked at, and found.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Report {
    /// The revision of which it is.
    pub revision: u64,
    /// The oldest revision from which the log goes.
    pub compacted: u64,
    /// How many objects there are.
    pub objects: u64,
    /// How many changes the log has.
    pub changes: u64,
    /// The bytes of the objects' bodies.
    pub bytes: u64,
    /// What is wrong, a sentence each; nothing when all is in order.
    pub findings: Vec<String>,
}

/// A store could not be checked, and why.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("the store could not be checked: {0}")]
pub struct CheckError(pub(crate) String);

/// Somebody who waits for a check.
pub(crate) type Asked = oneshot::Sender<Result<Report, CheckError>>;

impl Store {
    /// Checks everything that is stored. Reads and watches go on; writes wait for it, in an SQLite file all the
    /// time, which is about as long as the store takes to open. Meanwhile everything is in memory twice.
    ///
    /// # Errors
    /// When the database does not answer. What is wrong with it is no error but in the report.
    pub async fn check(&self) -> Result<Report, CheckError> {
        let closed = || CheckError("it is closed".to_owned());
        let (answer, report) = oneshot::channel();
        self.checks.send(answer).await.map_err(|_| closed())?;
        report.await.unwrap_or_else(|_| Err(closed()))
    }
}

impl Writer {
    /// Between two batches, so that memory and database are at the same revision.
    pub(super) async fn check(&mut self) -> Result<Report, CheckError> {
        let failed = |error: super::dialect::DialectError| CheckError(error.to_string());
        let mut findings = match self.dialect.integrity().await {
            Ok(findings) => findings,
            // So damaged that not even a list can be made of it.
            Err(error) if error.source.is_damage() => vec![error.to_string()],
            Err(error) => return Err(failed(error)),
        };
        for _ in 0..ATTEMPTS {
            self.try_follow().await.map_err(CheckError)?;
            let rows = match self.dialect.load(usize::MAX).await {
                Ok(rows) => rows,
                Err(error) if error.source.is_damage() => {
                    findings.push(error.to_string());
                    return Ok(self.report(findings));
                }
                Err(error) => return Err(failed(error)),
            };
            if rows.revision != self.memory.revision() {
                continue;
            }
            findings.extend(examine(&rows));
            findings.extend(compare(&rows, &self.memory));
            let mut report = self.report(findings);
            report.compacted = rows.compacted;
            report.changes = rows.changes.len() as u64;
            return Ok(report);
        }
        Err(CheckError("other processes write to it all the time; try again".to_owned()))
    }

    fn report(&self, mut findings: Vec<String>) -> Report {
        let more = findings.len().saturating_sub(MOST);
        findings.truncate(MOST);
        if more > 0 {
            findings.push(format!("and {more} more"));
        }
        let objects = self.memory.counts().iter().map(|(_, count)| *count as u64).sum();
        let (revision, bytes) = (self.memory.revision(), self.memory.bytes());
        Report { revision, compacted: self.compacted, objects, changes: 0, bytes, findings }
    }
}

/// What in the log does not fit together: it has no gap, each change follows the one before it, and every body is an object
/// that says the same of itself.
fn examine(rows: &Loaded) -> Vec<String> {
    let mut findings = Vec::new();
    let mut latest: HashMap<&Key, (ChangeKind, u64)> = HashMap::new();
    let mut expected = rows.floor + 1;
    for ChangeRow { kind, previous, object, .. } in &rows.changes {
        let ObjectRow { key, revision, .. } = object;
        if *revision != expected {
            findings.push(format!("the log goes on at revision {revision} where {expected} belongs"));
        }
        expected = revision + 1;
        let before = match latest.get(key) {
            Some((ChangeKind::Deleted, _)) => None,
            Some((_, revision)) => Some(*revision),
            // What was before the log is known by its number only.
            None => previous.filter(|previous| *previous <= rows.floor),
        };
        if *previous != before || (*kind == ChangeKind::Created) != before.is_none() {
            findings.push(format!(
                "change {revision} ({kind:?} {key}) follows revision {previous:?}, the log has {before:?} before it"
            ));
        }
        latest.insert(key, (*kind, *revision));
        findings.extend(body(object));
    }
    if expected != rows.revision + 1 {
        findings.push(format!(
            "the log ends at revision {}, the counter is at {}",
            expected - 1,
            rows.revision
        ));
    }
    // Of the others the log has the bodies.
    findings.extend(rows.objects.iter().filter(|object| object.revision <= rows.floor).filter_map(body));
    findings
}

/// What is wrong with a body.
fn body(ObjectRow { key, revision, body }: &ObjectRow) -> Option<String> {
    let body: Value = match serde_json::from_slice(body) {
        Ok(body) => body,
        Err(error) => return Some(format!("the body of {key} at revision {revision} is not JSON: {error}")),
    };
    let metadata = &body["metadata"];
    let differs =
        |field: &str, expected: &str| metadata[field].as_str().is_some_and(|found| found != expected);
    let written = metadata["resourceVersion"].as_str().and_then(|written| written.parse().ok());
    let is_other =
        written != Some(*revision) || differs("name", &key.name) || differs("namespace", &key.namespace);
    is_other.then(|| format!("the body of {key} at revision {revision} is that of something else"))
}

/// Whether what is served is what is stored, at the same revision.
fn compare(rows: &Loaded, memory: &Memory) -> Vec<String> {
    let (_, objects) = memory.everything();
    let mut served: HashMap<_, _> = objects.iter().map(|object| (&object.key, object)).collect();
    let mut findings = Vec::new();
    for ObjectRow { key, revision, body } in &rows.objects {
        match served.remove(key) {
            Some(object) if object.revision == *revision && object.body == *body => {}
            Some(object) => findings.push(format!(
                "{key} is served as of revision {}, and stored as of revision {revision}",
                object.revision
            )),
            None => findings.push(format!("{key} is stored at revision {revision}, and not served")),
        }
    }
    findings.extend(served.into_keys().map(|key| format!("{key} is served, and not stored")));
    findings
}
