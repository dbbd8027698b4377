//! What a failed CSI call means for what may exist on the other side.

use std::error::Error as _;

use tonic::{Code, Status};

/// What is known after a CSI call did not answer with success.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Verdict {
    /// The driver answered, and nothing is under way: the operation failed as a whole.
    Final,
    /// As `Final`, and the same request can never succeed.
    Infeasible,
    /// The operation may be running, done or not even begun. Only the same call
    /// again can tell.
    Unknown,
}

/// A CSI call that did not succeed. Never carries a request: requests hold secrets.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
#[error("{method} failed with {code:?}: {message}")]
pub(crate) struct CsiError {
    /// The RPC's name, such as `CreateVolume`.
    pub method: &'static str,
    /// The gRPC code; `DeadlineExceeded` when our own timeout struck.
    pub code: Code,
    /// The driver's own words.
    pub message: String,
    /// The error arose on the way (connection lost, reset) and not in the driver.
    pub transport: bool,
}

impl CsiError {
    pub(crate) fn from_status(method: &'static str, status: &Status) -> Self {
        // tonic answers errors of its transport as a status with a source; a status that
        // the server sent has none. A reply cut off before its trailers has neither, and
        // is told by its text.
        let cut_off = status.message().starts_with("grpc-status header missing");
        Self {
            method,
            code: status.code(),
            message: status.message().to_owned(),
            transport: status.source().is_some() || cut_off,
        }
    }

    pub(crate) fn timeout(method: &'static str, after: std::time::Duration) -> Self {
        Self {
            method,
            code: Code::DeadlineExceeded,
            message: format!("no answer within {} s", after.as_secs_f32()),
            transport: true,
        }
    }

    /// What may exist now. Source: "Error Scheme" and the tables of each RPC in the CSI
    /// specification, and the gRPC status codes' definitions.
    ///
    /// `ResourceExhausted` is the driver's own answer for `CreateVolume` ("unable to
    /// provision in `accessible_topology`"); for every other call it may also mean that
    /// the server shed load, which says nothing of an earlier attempt.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.transport {
            return Verdict::Unknown;
        }
        match self.code {
            Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted => Verdict::Unknown,
            Code::ResourceExhausted if self.method != "CreateVolume" => Verdict::Unknown,
            // "Volume already exists but is incompatible": under our name, so it is ours.
            Code::AlreadyExists if self.method == "CreateVolume" => Verdict::Unknown,
            Code::InvalidArgument | Code::OutOfRange | Code::NotFound => Verdict::Infeasible,
            _ => Verdict::Final,
        }
    }

    /// Whether it is certain that the call left nothing behind and nothing running.
    pub(crate) fn is_final(&self) -> bool {
        self.verdict() != Verdict::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn verdicts() {
        let table = [
            (1, "CreateVolume", Code::ResourceExhausted, false, Verdict::Final),
            (2, "ControllerExpandVolume", Code::ResourceExhausted, false, Verdict::Unknown),
            (3, "CreateVolume", Code::DeadlineExceeded, false, Verdict::Unknown),
            (4, "CreateVolume", Code::Aborted, false, Verdict::Unknown),
            (5, "CreateVolume", Code::Unavailable, false, Verdict::Unknown),
            (6, "CreateVolume", Code::InvalidArgument, false, Verdict::Infeasible),
            (7, "ControllerExpandVolume", Code::OutOfRange, false, Verdict::Infeasible),
            (8, "CreateVolume", Code::Internal, false, Verdict::Final),
            (9, "CreateVolume", Code::Internal, true, Verdict::Unknown),
            (10, "CreateVolume", Code::Unknown, false, Verdict::Final),
            (11, "CreateVolume", Code::Unknown, true, Verdict::Unknown),
            (12, "DeleteVolume", Code::FailedPrecondition, false, Verdict::Final),
            (13, "CreateVolume", Code::AlreadyExists, false, Verdict::Unknown),
        ];
        for (number, method, code, transport, verdict) in table {
            let error = CsiError { method, code, message: String::new(), transport };
            assert_eq!(error.verdict(), verdict, "row {number}");
        }
    }
}
