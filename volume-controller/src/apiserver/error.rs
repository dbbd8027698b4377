//! Why the API server does not start.

use std::net::SocketAddr;
use std::path::PathBuf;

use thiserror::Error;

/// Why the API server does not start.
#[derive(Debug, Error)]
pub enum ServeError {
    /// The address cannot be listened on.
    #[error("cannot listen on {address}: {source}; stop what uses it, or choose another address")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A file of keys or credentials cannot be read or written.
    #[error("cannot {doing} {}: {source}", path.display())]
    File {
        /// `read` or `write`.
        doing: &'static str,
        /// Which file.
        path: PathBuf,
        /// What the kernel said.
        #[source]
        source: std::io::Error,
    },
    /// A file of keys or credentials holds something else.
    #[error("{} is damaged ({why}); restore it, or remove it to have a new one made", path.display())]
    Damaged {
        /// Which file.
        path: PathBuf,
        /// What is wrong with it.
        why: String,
    },
    /// A certificate cannot be made.
    #[error("cannot make the server's certificate: {0}")]
    Certificate(String),
    /// A certificate cannot have this name.
    #[error("{0:?} is neither a host's name in ASCII nor an IP address, so no certificate can have it")]
    Name(String),
    /// One of the namespaces that a cluster always has cannot be created.
    #[error("cannot create namespace {name}: {why}")]
    Namespace {
        /// Which one.
        name: &'static str,
        /// Why not.
        why: String,
    },
    /// The audit policy cannot be read.
    #[error("the audit policy cannot be read: {0}")]
    Policy(String),
    /// The roles that a cluster begins with cannot be created.
    #[error("cannot create the default roles: {why}")]
    Roles {
        /// Why not.
        why: String,
    },
}

impl ServeError {
    /// Whether starting may succeed later without anybody changing a file.
    #[must_use]
    pub fn is_retryable(&self) -> bool {
        matches!(self, Self::Listen { .. } | Self::Namespace { .. } | Self::Roles { .. })
    }
}
