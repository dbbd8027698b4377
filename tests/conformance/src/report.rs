//! What a run found.

use std::{fmt, path::PathBuf};

use serde::Serialize;

/// Why a run could not be made at all.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// Nothing that speaks CSI answers there.
    #[error("no CSI plugin answers at {socket}: {reason}", socket = socket.display())]
    Unreachable {
        /// The socket.
        socket: PathBuf,
        /// The last answer.
        reason: String,
    },
    /// The folder for staging cannot be used.
    #[error("the staging folder {folder} cannot be used: {reason}; give an existing folder", folder = folder.display())]
    Staging {
        /// The folder.
        folder: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The filter leaves nothing.
    #[error("no check has {0:?} in its id; --list shows all of them")]
    NothingMatches(String),
}

/// How a check ended.
#[derive(Debug, Clone, PartialEq, Eq, Serialize)]
#[serde(rename_all = "lowercase", tag = "outcome")]
pub enum Outcome {
    /// What the row says holds.
    Passed,
    /// It does not.
    Failed {
        /// What the specification asks for.
        expected: String,
        /// What came.
        came: String,
        /// The last calls of the check, the failing one at the end.
        sent: Vec<String>,
    },
    /// There was nothing to check.
    Skipped {
        /// Why.
        reason: String,
    },
}

/// One check and its end.
#[derive(Debug, Clone, Serialize)]
pub struct Finding {
    /// The check's id.
    pub id: &'static str,
    /// The RPC, or `every RPC`.
    pub rpc: &'static str,
    /// The condition that it proves.
    pub condition: &'static str,
    /// The specification that has it.
    pub specification: &'static str,
    /// The section of the specification.
    pub section: String,
    /// MUST or SHOULD.
    pub level: String,
    /// How long it took, in milliseconds.
    pub milliseconds: u64,
    /// How it ended.
    #[serde(flatten)]
    pub outcome: Outcome,
}

/// Everything that a run found.
#[derive(Debug, Clone, Serialize)]
pub struct Report {
    /// The plugin's name and version.
    pub plugin: String,
    /// One for each check, in the order of the run.
    pub findings: Vec<Finding>,
}

impl Report {
    /// Checks that passed.
    #[must_use]
    pub fn passed(&self) -> usize {
        self.count(|outcome| *outcome == Outcome::Passed)
    }

    /// Checks that failed.
    #[must_use]
    pub fn failed(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Failed { .. }))
    }

    /// Checks that had nothing to check.
    #[must_use]
    pub fn skipped(&self) -> usize {
        self.count(|outcome| matches!(outcome, Outcome::Skipped { .. }))
    }

    fn count(&self, is: impl Fn(&Outcome) -> bool) -> usize {
        self.findings.iter().filter(|finding| is(&finding.outcome)).count()
    }
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.outcome {
            Outcome::Passed => write!(f, "passed   {}", self.id),
            Outcome::Skipped { reason } => write!(f, "skipped  {}: {reason}", self.id),
            Outcome::Failed { expected, came, sent } => {
                writeln!(f, "FAILED   {}", self.id)?;
                writeln!(f, "  proves   {}: {}", self.rpc, self.condition)?;
                for call in sent {
                    writeln!(f, "  sent     {call}")?;
                }
                writeln!(
                    f,
                    "  expected {expected} ({}, {:?}, {})",
                    self.specification, self.section, self.level
                )?;
                write!(f, "  came     {came}")
            }
        }
    }
}

impl fmt::Display for Report {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        for finding in &self.findings {
            writeln!(f, "{finding}")?;
        }
        write!(
            f,
            "{}: {} passed, {} failed, {} skipped",
            self.plugin,
            self.passed(),
            self.failed(),
            self.skipped()
        )
    }
}
