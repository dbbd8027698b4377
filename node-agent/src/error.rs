//! What can go wrong in the node agent, and whether trying again can help.

use std::{io, path::PathBuf};

use thiserror::Error;

/// Why the node agent, or one operation of it, failed.
#[derive(Debug, Error)]
pub enum Error {
    /// A file or folder could not be used.
    #[error("cannot {what} {}: {source}", path.display())]
    Io {
        /// What was tried, as a verb: `read`, `create the folder`.
        what: &'static str,
        /// On what.
        path: PathBuf,
        /// What the kernel said.
        source: io::Error,
    },
    /// A journal is there but cannot be read, so what it stands for is unknown.
    #[error("the journal {} cannot be read ({reason}); what it stands for is left alone", path.display())]
    Journal {
        /// The journal.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The API server refused or could not be reached.
    #[error("cannot {what}: {}", api_message(source))]
    Api {
        /// What was tried.
        what: String,
        /// What came back.
        source: Box<kube::Error>,
    },
    /// A CSI driver answered with an error.
    #[error("{method} of driver {driver}: {}: {}", code_name(status.code()), status.message())]
    Csi {
        /// The driver's name.
        driver: String,
        /// The call.
        method: &'static str,
        /// The answer.
        status: Box<tonic::Status>,
    },
    /// A CSI driver did not answer in time; the operation may still be under way.
    #[error("{method} of driver {driver} gave no answer within {seconds} s")]
    CsiTimeout {
        /// The driver's name.
        driver: String,
        /// The call.
        method: &'static str,
        /// The deadline.
        seconds: u64,
    },
    /// No driver of that name is registered on this node.
    #[error("driver {0} is not registered on this node")]
    NoDriver(String),
    /// The state of the outside is not what the operation needs.
    #[error("{0}")]
    Refused(String),
    /// A task of the agent ended in a way that it must not.
    #[error("a task of the node agent ended: {0}")]
    Task(String),
}

impl Error {
    /// Whether the same operation may work later without anybody changing its input.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        use tonic::Code;
        match self {
            Self::Io { .. }
            | Self::Api { .. }
            | Self::CsiTimeout { .. }
            | Self::NoDriver(_)
            | Self::Refused(_) => true,
            Self::Csi { status, .. } => !matches!(
                status.code(),
                Code::InvalidArgument | Code::Unimplemented | Code::PermissionDenied | Code::OutOfRange
            ),
            Self::Journal { .. } | Self::Task(_) => false,
        }
    }

    pub(crate) fn io(what: &'static str, path: impl Into<PathBuf>) -> impl FnOnce(io::Error) -> Self {
        let path = path.into();
        move |source| Self::Io { what, path, source }
    }

    pub(crate) fn api(what: impl Into<String>) -> impl FnOnce(kube::Error) -> Self {
        let what = what.into();
        move |source| Self::Api { what, source: Box::new(source) }
    }
}

/// The server's own sentence when it gave one.
fn api_message(error: &kube::Error) -> String {
    match error {
        kube::Error::Api(status) => status.message.clone(),
        other => other.to_string(),
    }
}

/// The name of a status code as the CSI specification writes it.
pub(crate) fn code_name(code: tonic::Code) -> &'static str {
    use tonic::Code;
    match code {
        Code::Ok => "OK",
        Code::Cancelled => "CANCELLED",
        Code::Unknown => "UNKNOWN",
        Code::InvalidArgument => "INVALID_ARGUMENT",
        Code::DeadlineExceeded => "DEADLINE_EXCEEDED",
        Code::NotFound => "NOT_FOUND",
        Code::AlreadyExists => "ALREADY_EXISTS",
        Code::PermissionDenied => "PERMISSION_DENIED",
        Code::ResourceExhausted => "RESOURCE_EXHAUSTED",
        Code::FailedPrecondition => "FAILED_PRECONDITION",
        Code::Aborted => "ABORTED",
        Code::OutOfRange => "OUT_OF_RANGE",
        Code::Unimplemented => "UNIMPLEMENTED",
        Code::Internal => "INTERNAL",
        Code::Unavailable => "UNAVAILABLE",
        Code::DataLoss => "DATA_LOSS",
        Code::Unauthenticated => "UNAUTHENTICATED",
    }
}
