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

/// Where an error arose: how far its call can have come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Origin {
    /// The driver answered with it.
    Driver,
    /// On the way there or back (connection lost, reset, our own timeout).
    Way,
    /// No connection came about: the driver never saw the call.
    Unsent,
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
    pub origin: Origin,
}

impl CsiError {
    pub(crate) fn from_status(method: &'static str, status: &Status) -> Self {
        // tonic answers errors of its transport as a status with a source; a status that
        // the server sent has none. A reply cut off before its trailers has neither, and
        // is told by its text.
        let cut_off = status.message().starts_with("grpc-status header missing");
        let mut sources = std::iter::successors(status.source(), |error| (*error).source());
        let origin = if sources.any(|error| error.is::<tonic::ConnectError>()) {
            Origin::Unsent
        } else if status.source().is_some() || cut_off {
            Origin::Way
        } else {
            Origin::Driver
        };
        Self { method, code: status.code(), message: status.message().to_owned(), origin }
    }

    pub(crate) fn timeout(method: &'static str, after: std::time::Duration) -> Self {
        Self {
            method,
            code: Code::DeadlineExceeded,
            message: format!("no answer within {} s", after.as_secs_f32()),
            origin: Origin::Way,
        }
    }

    /// What may exist now. Source: "Error Scheme" and the tables of each RPC in the CSI
    /// specification, and the gRPC status codes' definitions.
    ///
    /// `ResourceExhausted` is the driver's own answer for `CreateVolume` ("unable to
    /// provision in `accessible_topology`"); for every other call it may also mean that
    /// the server shed load, which says nothing of an earlier attempt.
    pub(crate) fn verdict(&self) -> Verdict {
        if self.origin != Origin::Driver {
            return Verdict::Unknown;
        }
        match self.code {
            Code::Cancelled | Code::DeadlineExceeded | Code::Unavailable | Code::Aborted => Verdict::Unknown,
            Code::ResourceExhausted if self.method != "CreateVolume" => Verdict::Unknown,
            // "Volume already exists but is incompatible": under our name, so it is ours. So with snapshots.
            Code::AlreadyExists
                if matches!(self.method, "CreateVolume" | "CreateSnapshot" | "CreateVolumeGroupSnapshot") =>
            {
                Verdict::Unknown
            }
            Code::InvalidArgument | Code::OutOfRange | Code::NotFound => Verdict::Infeasible,
            _ => Verdict::Final,
        }
    }

    /// The driver has something under our name that is not what was asked for.
    pub(crate) fn is_taken(&self) -> bool {
        self.origin == Origin::Driver && self.method == "CreateVolume" && self.code == Code::AlreadyExists
    }

    /// Whether it is certain that *this* call left nothing behind and nothing running. Of an
    /// earlier call that was never answered it says nothing: a driver may refuse a request
    /// (no room, bad credentials, a backend that is down) before it looks for the volume.
    pub(crate) fn is_final(&self) -> bool {
        self.verdict() != Verdict::Unknown
    }
}

#[cfg(test)]
mod tests {
    use super::{Origin::*, *};

    #[tokio::test]
    async fn a_call_that_found_no_driver_was_never_sent() {
        let folder = tempfile::tempdir().expect("a folder");
        let second = std::time::Duration::from_secs(60);
        let client =
            crate::csi::CsiClient::new(folder.path().join("csi.sock"), second, crate::Metrics::default());
        let error = client.create_volume(Default::default()).await.expect_err("nobody listens");
        assert_eq!((error.code, error.origin), (Code::Unavailable, Unsent), "{error}");
    }

    #[test]
    fn verdicts() {
        let table = [
            (1, "CreateVolume", Code::ResourceExhausted, Driver, Verdict::Final),
            (2, "ControllerExpandVolume", Code::ResourceExhausted, Driver, Verdict::Unknown),
            (3, "CreateVolume", Code::DeadlineExceeded, Driver, Verdict::Unknown),
            (4, "CreateVolume", Code::Aborted, Driver, Verdict::Unknown),
            (5, "CreateVolume", Code::Unavailable, Driver, Verdict::Unknown),
            (6, "CreateVolume", Code::InvalidArgument, Driver, Verdict::Infeasible),
            (7, "ControllerExpandVolume", Code::OutOfRange, Driver, Verdict::Infeasible),
            (8, "CreateVolume", Code::Internal, Driver, Verdict::Final),
            (9, "CreateVolume", Code::Internal, Way, Verdict::Unknown),
            (10, "CreateVolume", Code::Unknown, Driver, Verdict::Final),
            (11, "CreateVolume", Code::Unknown, Way, Verdict::Unknown),
            (12, "DeleteVolume", Code::FailedPrecondition, Driver, Verdict::Final),
            (13, "CreateVolume", Code::AlreadyExists, Driver, Verdict::Unknown),
            (14, "CreateVolume", Code::Internal, Unsent, Verdict::Unknown),
            (15, "CreateSnapshot", Code::AlreadyExists, Driver, Verdict::Unknown),
            (16, "CreateSnapshot", Code::FailedPrecondition, Driver, Verdict::Final),
            (17, "CreateVolumeGroupSnapshot", Code::AlreadyExists, Driver, Verdict::Unknown),
        ];
        for (number, method, code, origin, verdict) in table {
            let error = CsiError { method, code, message: String::new(), origin };
            assert_eq!(error.verdict(), verdict, "row {number}");
        }
    }
}
