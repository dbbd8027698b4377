//! Why a store does not open.

use std::path::PathBuf;

use thiserror::Error;

/// Why a store does not open. Nothing was changed in the file.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{} is in use by {}; stop that process, or choose another folder", path.display(), holder(*pid))]
    InUse {
        /// The database file.
        path: PathBuf,
        /// Who holds it, where known.
        pid: Option<u32>,
    },
    /// The file is not one of ours.
    #[error("{} is not a Holdfast store ({why}); it was left alone, choose another folder", path.display())]
    Foreign {
        /// The database file.
        path: PathBuf,
        /// What was found instead.
        why: String,
    },
    /// A later version of this program wrote the file.
    #[error(
        "{} has schema version {found}, this program knows versions up to {known}; use the newer program that wrote it",
        path.display()
    )]
    Newer {
        /// The database file.
        path: PathBuf,
        /// The file's version.
        found: i64,
        /// The newest version that is understood.
        known: i64,
    },
    /// The integrity check failed.
    #[error("{} is damaged: {why}; restore a backup", path.display())]
    Damaged {
        /// The database file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// The file or its lock cannot be reached.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// What was tried.
        doing: &'static str,
        /// On which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// The database engine failed.
    #[error("cannot {doing} {}: {source}", path.display())]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The database file.
        path: PathBuf,
        /// What it said.
        #[source]
        source: sqlx::Error,
    },
}

impl OpenError {
    /// Whether opening may succeed later without anybody doing something to the file.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. })
    }
}

fn holder(pid: Option<u32>) -> String {
    pid.map_or_else(|| "another process".to_owned(), |pid| format!("process {pid}"))
}
