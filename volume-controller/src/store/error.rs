//! Why a store does not open.

use std::fmt;
use std::path::PathBuf;

use thiserror::Error;

use super::{Location, StoreId};

/// Why a store does not open. No object was changed. Only [`OpenError::Damaged`] and what fails after the
/// check may leave tables that were brought up to date.
#[derive(Debug, Error)]
pub enum OpenError {
    /// Another process has it open.
    #[error("{store} is in use by {}; stop that process, or choose another place", holder.as_deref().unwrap_or("another process"))]
    InUse {
        /// The store.
        store: Location,
        /// Who holds it, where known.
        holder: Option<String>,
    },
    /// It is not one of ours.
    #[error("{store} is not a Holdfast store ({why}); it was left alone, choose another place")]
    Foreign {
        /// The store.
        store: Location,
        /// What was found instead.
        why: String,
    },
    /// It is empty, or was emptied.
    #[error("{store} is empty, and was to have the store {expected}; restore it, or choose the right place")]
    Absent {
        /// The database.
        store: Location,
        /// What was to be there.
        expected: StoreId,
    },
    /// It has another store.
    #[error("{store} has the store {found}, not {expected}; choose the right place")]
    Another {
        /// The database.
        store: Location,
        /// What is there.
        found: StoreId,
        /// What was to be there.
        expected: StoreId,
    },
    /// Other servers have it open, or had, with other keys.
    #[error(
        "{store} belongs to servers with other keys: this root has not their {}. Copy encryption.keys and pki/ (ca.crt, ca.key, \
         sa.key, admin.token) from the root of one of them",
        files.join(", ")
    )]
    OtherKeys {
        /// The database.
        store: Location,
        /// What differs or is missing.
        files: Vec<String>,
    },
    /// A later version of this program wrote it.
    #[error(
        "{store} has schema version {found}, this program knows versions up to {known}; use the newer program that wrote it"
    )]
    Newer {
        /// The store.
        store: Location,
        /// The version found.
        found: i64,
        /// The newest version that is understood.
        known: i64,
    },
    /// The integrity check failed.
    #[error("{store} is damaged: {why}; restore a backup")]
    Damaged {
        /// The store.
        store: Location,
        /// What is wrong with it.
        why: String,
    },
    /// The database server would not keep what it acknowledges, or cannot be written to.
    #[error("{store} cannot hold a store: {why}")]
    Unfit {
        /// The store.
        store: Location,
        /// What is wrong with the server, and what to do.
        why: String,
    },
    /// The database server does not answer there.
    #[error("cannot reach {store}: {source}; is the server running, and the address right?")]
    Unreachable {
        /// The store.
        store: Location,
        /// What the kernel said.
        #[source]
        source: Said,
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
    #[error("cannot {doing} {store}: {source}")]
    Database {
        /// What was tried.
        doing: &'static str,
        /// The store.
        store: Location,
        /// What it said.
        #[source]
        source: Said,
    },
}

impl OpenError {
    /// Whether opening may succeed later without anybody doing something to it.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::InUse { .. } | Self::Unreachable { .. })
    }
}

/// What a database said, without what the library puts around it.
#[derive(Debug)]
pub struct Said(sqlx::Error);

impl From<sqlx::Error> for Said {
    fn from(error: sqlx::Error) -> Self {
        Self(error)
    }
}

impl Said {
    /// Whether the database had no room: SQLite's result code FULL (sqlite.org/rescode.html, the low byte is the
    /// primary code), PostgreSQL's SQLSTATE 53100 disk_full (its appendix A), or the kernel's ENOSPC.
    pub(crate) fn is_full(&self) -> bool {
        const FULL: i32 = 13;
        match &self.0 {
            sqlx::Error::Io(said) => said.kind() == std::io::ErrorKind::StorageFull,
            sqlx::Error::Database(said) => said.code().is_some_and(|code| {
                code == "53100"
                    || said.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
                        && code.parse::<i32>().is_ok_and(|code| code & 0xff == FULL)
            }),
            _ => false,
        }
    }
}

impl Said {
    /// Whether what is stored is wrong, and not merely out of reach.
    pub(crate) fn is_damage(&self) -> bool {
        const CORRUPT: i32 = 11;
        const NOTADB: i32 = 26;
        match &self.0 {
            sqlx::Error::Decode(_) | sqlx::Error::ColumnDecode { .. } => true,
            sqlx::Error::Database(said) => {
                said.try_downcast_ref::<sqlx::sqlite::SqliteError>().is_some()
                    && said
                        .code()
                        .and_then(|code| code.parse::<i32>().ok())
                        .is_some_and(|code| matches!(code & 0xff, CORRUPT | NOTADB))
            }
            _ => false,
        }
    }
}

impl fmt::Display for Said {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            sqlx::Error::Database(said) => f.write_str(said.message()),
            sqlx::Error::Io(said) => said.fmt(f),
            sqlx::Error::Decode(said) => said.fmt(f),
            other => other.fmt(f),
        }
    }
}

impl std::error::Error for Said {}
