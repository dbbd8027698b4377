//! What went wrong with a request, in upstream's wording, which kubectl prints and clients parse.

mod object;

use http::StatusCode;
use thiserror::Error;

use super::kinds::{Cause, Kind};
use super::size::MAX_OBJECT;
use crate::store::CommitError;
pub(crate) use object::deleted;
use object::sentence;

/// The largest request body, in bytes; upstream's limit.
pub(crate) const MAX_BODY: usize = 3 * 1024 * 1024;

/// The names of a kind that errors need.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Resource {
    pub(crate) group: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) kind: &'static str,
}

impl From<&Kind> for Resource {
    fn from(kind: &Kind) -> Self {
        Self { group: kind.group, plural: kind.plural, kind: kind.kind }
    }
}

impl Resource {
    /// `plural` or `plural.group`, as `schema.GroupResource` prints.
    fn qualified(&self) -> String {
        qualify(self.plural, self.group)
    }

    /// `Kind` or `Kind.group`, as `schema.GroupKind` prints.
    fn qualified_kind(&self) -> String {
        qualify(self.kind, self.group)
    }
}

fn qualify(name: &str, group: &str) -> String {
    if group.is_empty() { name.to_owned() } else { format!("{name}.{group}") }
}

/// What a refusal is about; nothing for a path.
fn subject(resource: &str, group: &str, name: &str) -> String {
    match (resource, name) {
        ("", _) => String::new(),
        (resource, "") => format!("{} is ", qualify(resource, group)),
        (resource, name) => format!("{} {name:?} is ", qualify(resource, group)),
    }
}

/// Why a request was refused or failed.
#[derive(Debug, Error)]
pub(crate) enum ApiError {
    #[error("{} {name:?} not found", resource.qualified())]
    NotFound { resource: Resource, name: String },
    #[error("the server could not find the requested resource")]
    NoSuchPath,
    #[error("{} {name:?} already exists", resource.qualified())]
    AlreadyExists { resource: Resource, name: String },
    #[error("Operation cannot be fulfilled on {} {name:?}: {why}", resource.qualified())]
    Conflict { resource: Resource, name: String, why: String },
    /// An apply would change what others own: `(field, why)`.
    #[error("{message}")]
    ApplyConflict { message: String, causes: Vec<(String, String)> },
    #[error("{} {name:?} is invalid: {}", resource.qualified_kind(), sentence(causes))]
    Invalid { resource: Resource, name: String, causes: Vec<Cause> },
    #[error("{0}")]
    BadRequest(String),
    #[error("{0}")]
    Unprocessable(String),
    #[error("Unauthorized")]
    Unauthorized,
    #[error("{} {name:?} is forbidden: {why}", resource.qualified())]
    Forbidden { resource: Resource, name: String, why: String, cause: Option<&'static str> },
    /// Who asks may not.
    #[error("{}forbidden: {why}", subject(resource, group, name))]
    Denied { group: String, resource: String, name: String, why: String },
    #[error("the server does not allow this method on the requested resource")]
    MethodNotAllowed,
    #[error("only the following media types are accepted: {0}")]
    NotAcceptable(&'static str),
    #[error("{0}")]
    UnsupportedMediaType(String),
    #[error("Request entity too large: {0}")]
    TooLarge(String),
    /// The bytes that it would have.
    #[error("the object is too large: {0} bytes, and {MAX_OBJECT} are the most that can be stored")]
    ObjectTooLarge(usize),
    #[error(
        "the list is too large to be converted at once: its objects have {bytes} bytes, and {most} are the most. \
         Ask for it in parts (limit and continue; kubectl's --chunk-size) or as application/json"
    )]
    ListTooLarge { bytes: usize, most: usize },
    #[error("the body of the request did not arrive in time")]
    SlowBody,
    #[error("too many requests, please try again later")]
    TooManyRequests,
    /// Of one user, or of all together.
    #[error("too many {what} are open: one user may have {most} {what}, please try again later")]
    TooManyOpen { what: &'static str, most: usize },
    #[error("{0}")]
    Expired(String),
    /// The state of a list's first page is forgotten; with the token that goes on all the same.
    #[error("{CONTINUE_EXPIRED}")]
    ContinueExpired(String),
    #[error("Too large resource version: {asked}, current: {current}")]
    FutureVersion { asked: u64, current: u64 },
    #[error("Internal error occurred: {0}")]
    Internal(String),
    #[error("{0}")]
    Unavailable(String),
    /// Somebody has to make room first. Without `Retry-After`, with which kubectl would try in silence.
    #[error("{0}")]
    NoRoom(String),
    /// Whether it was done is not known.
    #[error("{0}")]
    Timeout(String),
}

/// What an update that met a newer object says.
pub(crate) const MODIFIED: &str =
    "the object has been modified; please apply your changes to the latest version and try again";

const CONTINUE_EXPIRED: &str = "The provided continue parameter is too old to display a consistent list result: start a new list \
     without it, or use the token of this answer for the rest. That list is not consistent: objects that were made, changed \
     or deleted since the first page may show or be missing";

impl ApiError {
    pub(crate) fn not_found(kind: &Kind, name: &str) -> Self {
        Self::NotFound { resource: kind.into(), name: name.to_owned() }
    }

    pub(crate) fn conflict(kind: &Kind, name: &str, why: impl Into<String>) -> Self {
        Self::Conflict { resource: kind.into(), name: name.to_owned(), why: why.into() }
    }

    pub(crate) fn forbidden(kind: &Kind, name: &str, why: impl Into<String>) -> Self {
        Self::Forbidden { resource: kind.into(), name: name.to_owned(), why: why.into(), cause: None }
    }

    /// An error only when there is a cause.
    pub(crate) fn invalid(of: impl Into<Resource>, name: &str, causes: Vec<Cause>) -> Result<(), Self> {
        if causes.is_empty() {
            return Ok(());
        }
        Err(Self::Invalid { resource: of.into(), name: name.to_owned(), causes })
    }

    /// What a refused transaction means to the one who asked for it.
    pub(crate) fn from_commit(error: CommitError, kind: &Kind, name: &str) -> Self {
        match error {
            CommitError::Exists { .. } => {
                Self::AlreadyExists { resource: kind.into(), name: name.to_owned() }
            }
            CommitError::Missing { .. } => Self::not_found(kind, name),
            CommitError::Conflict { .. } => Self::conflict(kind, name, MODIFIED),
            CommitError::Closed => Self::Unavailable("the server is shutting down".to_owned()),
            // Whom a client asks leads or does not; what clients write is of no term.
            CommitError::Deposed => Self::Internal(error.to_string()),
            // Nothing was written, and the next attempt may find the disk in order.
            CommitError::Database(_) => Self::Unavailable(error.to_string()),
            CommitError::Full(_) => Self::NoRoom(error.to_string()),
            CommitError::Unknown(_) => Self::Timeout(error.to_string()),
            CommitError::Malformed { .. } => Self::BadRequest(error.to_string()),
            CommitError::Twice { .. } => Self::Internal(error.to_string()),
        }
    }

    /// The HTTP status code and `metav1.StatusReason`.
    pub(crate) fn code(&self) -> (StatusCode, &'static str) {
        match self {
            Self::NotFound { .. } | Self::NoSuchPath => (StatusCode::NOT_FOUND, "NotFound"),
            Self::AlreadyExists { .. } => (StatusCode::CONFLICT, "AlreadyExists"),
            Self::Conflict { .. } | Self::ApplyConflict { .. } => (StatusCode::CONFLICT, "Conflict"),
            Self::Invalid { .. } | Self::Unprocessable(_) => (StatusCode::UNPROCESSABLE_ENTITY, "Invalid"),
            Self::BadRequest(_) => (StatusCode::BAD_REQUEST, "BadRequest"),
            Self::Unauthorized => (StatusCode::UNAUTHORIZED, "Unauthorized"),
            Self::Forbidden { .. } | Self::Denied { .. } => (StatusCode::FORBIDDEN, "Forbidden"),
            Self::MethodNotAllowed => (StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
            Self::NotAcceptable(_) => (StatusCode::NOT_ACCEPTABLE, "NotAcceptable"),
            Self::UnsupportedMediaType(_) => (StatusCode::UNSUPPORTED_MEDIA_TYPE, "UnsupportedMediaType"),
            Self::TooLarge(_) | Self::ObjectTooLarge(_) | Self::ListTooLarge { .. } => {
                (StatusCode::PAYLOAD_TOO_LARGE, "RequestEntityTooLarge")
            }
            Self::SlowBody => (StatusCode::REQUEST_TIMEOUT, "Timeout"),
            Self::Expired(_) | Self::ContinueExpired(_) => (StatusCode::GONE, "Expired"),
            Self::TooManyRequests | Self::TooManyOpen { .. } => {
                (StatusCode::TOO_MANY_REQUESTS, "TooManyRequests")
            }
            Self::FutureVersion { .. } | Self::Timeout(_) => (StatusCode::GATEWAY_TIMEOUT, "Timeout"),
            Self::Internal(_) => (StatusCode::INTERNAL_SERVER_ERROR, "InternalError"),
            Self::NoRoom(_) => (StatusCode::INSUFFICIENT_STORAGE, "InsufficientStorage"),
            Self::Unavailable(_) => (StatusCode::SERVICE_UNAVAILABLE, "ServiceUnavailable"),
        }
    }

    /// Whether the same request may succeed later.
    pub(crate) fn is_retryable(&self) -> bool {
        matches!(
            self,
            Self::TooManyRequests
                | Self::TooManyOpen { .. }
                | Self::FutureVersion { .. }
                | Self::Internal(_)
                | Self::Unavailable(_)
                | Self::Timeout(_)
        )
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::CauseReason;

    const CLAIM: Resource =
        Resource { group: "", plural: "persistentvolumeclaims", kind: "PersistentVolumeClaim" };
    const CLASS: Resource =
        Resource { group: "storage.k8s.io", plural: "storageclasses", kind: "StorageClass" };

    fn cause(reason: CauseReason) -> Cause {
        Cause { field: "spec.a".into(), reason, message: "why".into() }
    }

    #[test]
    fn upstream_wording() {
        let name = || "x".to_owned();
        for (error, code, message) in [
            (
                ApiError::NotFound { resource: CLAIM, name: name() },
                404,
                r#"persistentvolumeclaims "x" not found"#,
            ),
            (
                ApiError::AlreadyExists { resource: CLASS, name: name() },
                409,
                r#"storageclasses.storage.k8s.io "x" already exists"#,
            ),
            (
                ApiError::Invalid {
                    resource: CLAIM,
                    name: name(),
                    causes: vec![cause(CauseReason::Required)],
                },
                422,
                r#"PersistentVolumeClaim "x" is invalid: spec.a: Required value: why"#,
            ),
            (
                ApiError::Invalid {
                    resource: CLASS,
                    name: name(),
                    causes: vec![cause(CauseReason::Invalid), cause(CauseReason::Forbidden)],
                },
                422,
                r#"StorageClass.storage.k8s.io "x" is invalid: [spec.a: Invalid value: why, spec.a: Forbidden: why]"#,
            ),
        ] {
            let status = error.status();
            assert_eq!(status["code"], code);
            assert_eq!(status["message"], message);
            assert_eq!(status["details"]["name"], "x");
        }
    }

    #[test]
    fn commits_that_fail() {
        let key = crate::store::Key::new("persistentvolumeclaims", "a", "x");
        for (error, code, reason, is_retryable) in [
            (CommitError::Missing { key: key.clone() }, 404, "NotFound", false),
            (CommitError::Malformed { key: key.clone(), why: "no" }, 400, "BadRequest", false),
            (CommitError::Twice { key }, 500, "InternalError", true),
            (CommitError::Full("disk full".into()), 507, "InsufficientStorage", false),
            (CommitError::Database("disk gone".into()), 503, "ServiceUnavailable", true),
            (CommitError::Unknown("disk gone".into()), 504, "Timeout", true),
            (CommitError::Closed, 503, "ServiceUnavailable", true),
        ] {
            let kind = crate::apiserver::route::find("", "v1", "persistentvolumeclaims").unwrap();
            let status = ApiError::from_commit(error, kind, "x").status();
            assert_eq!(status["code"], code, "{status}");
            assert_eq!(status["reason"], reason, "{status}");
            assert_eq!(!status["details"]["retryAfterSeconds"].is_null(), is_retryable, "{status}");
        }
    }
}
