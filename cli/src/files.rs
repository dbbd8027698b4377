//! How many files the process may have open.

use rustix::process::{Resource, Rlimit, getrlimit, setrlimit};

/// Raises the limit to the highest that is allowed. The soft limit is 1,024 on most systems, for the sake of programs
/// that use select(2); here every client of the API and every pool takes some, and running out of them would refuse
/// clients. Where it cannot be raised, that is in the log, and the process goes on with what it has.
pub(crate) fn raise_limit() {
    let Rlimit { current, maximum } = getrlimit(Resource::Nofile);
    if current == maximum {
        return;
    }
    match setrlimit(Resource::Nofile, Rlimit { current: maximum, maximum }) {
        Ok(()) => tracing::debug!(from = ?current, to = ?maximum, "raised the limit of open files"),
        Err(error) => tracing::warn!(%error, ?current, "the limit of open files was not raised"),
    }
}
