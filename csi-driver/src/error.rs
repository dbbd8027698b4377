//! The driver's errors, and the one place that turns them into a gRPC status
//! (CSI v1.12, "Error Scheme").

use std::{io, path::PathBuf};

use tonic::{Code, Status};

use crate::{command::CommandError, config::ConfigError};

/// Why an operation, or the driver itself, failed.
#[derive(Debug, thiserror::Error)]
#[non_exhaustive]
pub enum Error {
    /// The request can never work as it is.
    #[error("{0}")]
    Invalid(String),
    /// No such volume.
    #[error("volume {0:?} does not exist")]
    VolumeNotFound(String),
    /// No such snapshot.
    #[error("snapshot {0:?} does not exist")]
    SnapshotNotFound(String),
    /// Something else that was named does not exist.
    #[error("{0}")]
    NotFound(String),
    /// The name or path is taken by something that is not what was asked for.
    #[error("{0}")]
    Exists(String),
    /// The pool has no room.
    #[error("{0}")]
    Exhausted(String),
    /// A size that can never be.
    #[error("{0}")]
    OutOfRange(String),
    /// Something else has to happen first.
    #[error("{0}")]
    Precondition(String),
    /// This pool, or this machine, cannot do it.
    #[error("{0}")]
    Unsupported(String),
    /// Another operation on this volume or snapshot is still running.
    #[error("another operation on {0:?} is still running; try again later")]
    Busy(String),
    /// Another process has the pool.
    #[error("{path} is in use by another driver; stop that one first", path = .0.display())]
    PoolInUse(PathBuf),
    /// A page token that this driver did not give out.
    #[error("starting_token {0:?} is not one that this driver gave out; start again without it")]
    BadToken(String),
    /// What is stored cannot be read as what it should be. Never treated as absent.
    #[error(
        "{path} is damaged: {reason}; restore it, or unpublish and unstage it and then move the folder out of the pool"
    )]
    Corrupt {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// As [`Error::Corrupt`], of a snapshot, which is never published or staged.
    #[error("{path} is damaged: {reason}; restore it, or move the snapshot's folder out of the pool")]
    CorruptSnapshot {
        /// The damaged file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// A volume or snapshot has no data any more: somebody deleted it or moved it away.
    #[error(
        "the data is missing: there is no {path}; put it back, or delete the volume or snapshot that had it"
    )]
    DataMissing {
        /// Where it should be.
        path: PathBuf,
    },
    /// A system call failed.
    #[error("{tried}: {source}")]
    Io {
        /// What was tried, and on what.
        tried: String,
        /// The system's answer.
        source: io::Error,
    },
    /// An outside command failed.
    #[error(transparent)]
    Command(#[from] CommandError),
    /// The configuration cannot be used.
    #[error(transparent)]
    Config(#[from] ConfigError),
    /// The gRPC server stopped.
    #[error("the CSI server stopped: {0}")]
    Server(#[from] tonic::transport::Error),
    /// An operation ended without an answer; a bug.
    #[error("the operation ended without an answer: {0}")]
    Lost(String),
}

impl Error {
    /// Whether the same call may succeed later with nobody changing the request.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        match self {
            Self::Exhausted(_)
            | Self::Precondition(_)
            | Self::PoolInUse(_)
            | Self::Busy(_)
            | Self::Io { .. }
            | Self::Lost(_) => true,
            Self::Command(error) => error.is_retryable(),
            _ => false,
        }
    }

    /// Whether the storage itself takes nothing more: full, over its quota, or read-only.
    pub(crate) fn is_of_storage(&self) -> bool {
        matches!(self, Self::Io { source, .. } if is_full(source) || is_read_only(source))
    }

    /// Whether it is a refusal, said before anything was done. Of all others nobody knows.
    pub(crate) fn changed_nothing(&self) -> bool {
        matches!(
            self,
            Self::Invalid(_)
                | Self::Exhausted(_)
                | Self::OutOfRange(_)
                | Self::Precondition(_)
                | Self::Unsupported(_)
                | Self::Busy(_)
        )
    }

    /// A capability that the volume does not support, as the tables of NodeStageVolume and
    /// NodePublishVolume have it (CSI v1.12, "Exceeds capabilities"): FAILED_PRECONDITION
    /// there, INVALID_ARGUMENT in all others.
    pub(crate) fn into_exceeded_on_node(self) -> Self {
        match self {
            Self::Invalid(message) => Self::Precondition(message),
            other => other,
        }
    }

    fn code(&self) -> Code {
        match self {
            Self::Invalid(_) => Code::InvalidArgument,
            Self::VolumeNotFound(_) | Self::SnapshotNotFound(_) | Self::NotFound(_) => Code::NotFound,
            Self::Exists(_) => Code::AlreadyExists,
            Self::Exhausted(_) => Code::ResourceExhausted,
            Self::OutOfRange(_) => Code::OutOfRange,
            // Not UNIMPLEMENTED: the driver declares the call, and does it in another pool.
            Self::Unsupported(_) | Self::Precondition(_) | Self::PoolInUse(_) | Self::Config(_) => {
                Code::FailedPrecondition
            }
            Self::Busy(_) | Self::BadToken(_) => Code::Aborted,
            Self::Io { source, .. } if is_full(source) => Code::ResourceExhausted,
            // As it is, no repetition helps: somebody has to look at the disk.
            Self::Io { source, .. } if is_read_only(source) => Code::FailedPrecondition,
            Self::Command(CommandError::Missing { .. }) => Code::FailedPrecondition,
            Self::Corrupt { .. }
            | Self::CorruptSnapshot { .. }
            | Self::DataMissing { .. }
            | Self::Io { .. }
            | Self::Command(_)
            | Self::Server(_)
            | Self::Lost(_) => Code::Internal,
        }
    }
}

fn is_full(source: &io::Error) -> bool {
    matches!(source.kind(), io::ErrorKind::StorageFull | io::ErrorKind::QuotaExceeded)
}

fn is_read_only(source: &io::Error) -> bool {
    source.kind() == io::ErrorKind::ReadOnlyFilesystem
}

impl From<Error> for Status {
    fn from(error: Error) -> Self {
        Self::new(error.code(), one_line(&error.to_string()))
    }
}

/// The most characters of a message. It travels in the HTTP/2 trailers, percent-encoded,
/// and clients take 16 KiB of those: above, they lose the code together with the message.
const MAX_MESSAGE: usize = 1024;

/// The text as one line that is not too long: requests and outside commands decide what is
/// in it. What is cut out is cut from the middle, for the advice is at the end.
pub(crate) fn one_line(text: &str) -> String {
    let escaped = |text: &str| {
        text.chars().fold(String::with_capacity(text.len()), |mut line, c| {
            if c.is_control() {
                line.extend(c.escape_default())
            } else {
                line.push(c)
            }
            line
        })
    };
    let length = text.chars().count();
    if length <= MAX_MESSAGE {
        return escaped(text);
    }
    let half = MAX_MESSAGE / 2;
    let first: String = text.chars().take(half).collect();
    let last: String = text.chars().skip(length - half).collect();
    format!("{} … {} characters … {}", escaped(&first), length - 2 * half, escaped(&last))
}

/// Says what was tried when a system call fails.
pub(crate) trait Tried<T> {
    /// `tried` is only made when there is an error.
    fn tried(self, tried: impl FnOnce() -> String) -> Result<T, Error>;
}

impl<T, E: Into<io::Error>> Tried<T> for Result<T, E> {
    fn tried(self, tried: impl FnOnce() -> String) -> Result<T, Error> {
        self.map_err(|source| Error::Io { tried: tried(), source: source.into() })
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_message_is_one_line_whatever_is_in_it() {
        assert_eq!(one_line("volume \"ü\" is full; delete some"), "volume \"ü\" is full; delete some");
        assert_eq!(one_line("a\nfaked log line\u{1b}[31m"), "a\\nfaked log line\\u{1b}[31m");
        let long = one_line(&format!("no {} here; do this", "ü".repeat(1 << 20)));
        assert!(long.starts_with("no ü") && long.ends_with("here; do this"), "{long}");
        assert!(long.chars().count() < 2 * MAX_MESSAGE && long.contains("characters"), "{long}");
    }
}
