//! The rows of CSI v1.12 that a plugin has to satisfy, as data, in the order of the
//! specification: each row of each error table, and the rules of the prose around them.

pub(crate) mod controller;
pub(crate) mod general;
pub(crate) mod group;
pub(crate) mod node;
pub(crate) mod snapshot;

use std::fmt;

use tonic::Code;

use crate::rpc::Rpc;

/// A condition, and what the specification says must come.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub struct Row {
    /// The RPC; none where the row is about all of them.
    pub rpc: Option<Rpc>,
    /// When it applies, in the words of the table where there is one.
    pub condition: &'static str,
    /// The codes that conform; `Ok` where a call has to succeed.
    pub codes: &'static [Code],
    /// Where the specification says so.
    pub origin: Origin,
    /// How strongly it says so.
    pub level: Level,
    /// Why no check can prove it from the outside, if so.
    pub untestable: Option<&'static str>,
}

/// Where a row comes from.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Origin {
    /// The error table of the RPC.
    Errors,
    /// The text or the fields of the RPC.
    Rpc,
    /// Another section, by its title.
    Section(&'static str),
    /// Not CSI, but what Kubernetes asks of a CSI plugin, by the title of the proposal.
    Kubernetes(&'static str),
}

/// How strong a row is (RFC 2119).
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub enum Level {
    /// MUST, SHALL, REQUIRED.
    Must,
    /// SHOULD, RECOMMENDED.
    Should,
}

impl fmt::Display for Level {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(match self {
            Self::Must => "MUST",
            Self::Should => "SHOULD",
        })
    }
}

impl Row {
    /// The RPC's name, or `every RPC`.
    #[must_use]
    pub fn rpc_name(&self) -> &'static str {
        self.rpc.map_or("every RPC", Rpc::name)
    }

    /// The specification that it is of.
    #[must_use]
    pub fn specification(&self) -> &'static str {
        match self.origin {
            Origin::Kubernetes(_) => "Kubernetes",
            Origin::Errors | Origin::Rpc | Origin::Section(_) => "CSI v1.12",
        }
    }

    /// The section of the specification, by its title.
    #[must_use]
    pub fn section(&self) -> String {
        match (self.origin, self.rpc) {
            (Origin::Section(title) | Origin::Kubernetes(title), _) => title.to_owned(),
            (Origin::Errors, Some(rpc)) => format!("{} Errors", rpc.name()),
            (Origin::Rpc | Origin::Errors, _) => self.rpc_name().to_owned(),
        }
    }

    /// The codes, as the specification writes them.
    #[must_use]
    pub fn code_names(&self) -> String {
        self.codes.iter().map(|code| code_name(*code)).collect::<Vec<_>>().join(" or ")
    }

    const fn should(self) -> Self {
        Self { level: Level::Should, ..self }
    }

    const fn untestable(self, why: &'static str) -> Self {
        Self { untestable: Some(why), ..self }
    }
}

/// A row of an RPC's error table.
const fn error(rpc: Rpc, condition: &'static str, codes: &'static [Code]) -> Row {
    Row { rpc: Some(rpc), condition, codes, origin: Origin::Errors, level: Level::Must, untestable: None }
}

/// A rule of an RPC's text or fields.
const fn rule(rpc: Rpc, condition: &'static str, codes: &'static [Code]) -> Row {
    Row { origin: Origin::Rpc, ..error(rpc, condition, codes) }
}

/// A row of the general table, "Error Scheme", for one RPC.
const fn scheme(rpc: Rpc, condition: &'static str, codes: &'static [Code]) -> Row {
    Row { origin: Origin::Section("Error Scheme"), ..error(rpc, condition, codes) }
}

/// A rule of another section.
const fn section(
    rpc: Option<Rpc>,
    title: &'static str,
    condition: &'static str,
    codes: &'static [Code],
) -> Row {
    Row { rpc, condition, codes, origin: Origin::Section(title), level: Level::Must, untestable: None }
}

/// What Kubernetes asks for.
const fn kubernetes(rpc: Rpc, title: &'static str, condition: &'static str, codes: &'static [Code]) -> Row {
    Row { origin: Origin::Kubernetes(title), ..error(rpc, condition, codes) }
}

const OK: &[Code] = &[Code::Ok];
const INVALID_ARGUMENT: &[Code] = &[Code::InvalidArgument];
const NOT_FOUND: &[Code] = &[Code::NotFound];
const ALREADY_EXISTS: &[Code] = &[Code::AlreadyExists];
const EXHAUSTED: &[Code] = &[Code::ResourceExhausted];
const PRECONDITION: &[Code] = &[Code::FailedPrecondition];
const ABORTED: &[Code] = &[Code::Aborted];
const OUT_OF_RANGE: &[Code] = &[Code::OutOfRange];
const UNIMPLEMENTED_CODE: &[Code] = &[Code::Unimplemented];
/// The call that is second may win, too.
const OK_OR_ABORTED: &[Code] = &[Code::Ok, Code::Aborted];
/// A range that makes no sense: the general table and the RPC's own table both apply.
const BAD_RANGE: &[Code] = &[Code::InvalidArgument, Code::OutOfRange];

/// A REQUIRED field is not there.
pub(crate) const MISSING: &str = "Missing required field";
/// A field has a value that it cannot have.
pub(crate) const INVALID: &str = "Invalid or unsupported field in the request";
/// A string or map is longer than it may be.
pub(crate) const TOO_LONG: &str = "A field exceeds its size limit";
/// The capability is not declared.
pub(crate) const UNIMPLEMENTED: &str = "Call not implemented";
/// The same call again.
pub(crate) const IDEMPOTENT: &str = "The call is repeated";
/// Several calls at once.
pub(crate) const PENDING: &str = "Operation pending for volume";
/// As [`PENDING`], in the tables about snapshots.
pub(crate) const SNAPSHOT_PENDING: &str = "Operation pending for snapshot";
/// There is no volume of this id.
pub(crate) const NO_VOLUME: &str = "Volume does not exist";
/// A page token that the plugin did not give out.
pub(crate) const BAD_TOKEN: &str = "Invalid `starting_token`";
/// A size that the plugin does not make.
pub(crate) const BAD_CAPACITY: &str = "Unsupported `capacity_range`";
/// What a capability list may hold.
pub(crate) const CAPABILITIES: &str = "Each capability is known, and has what it builds on";
/// The answer has what it has to.
pub(crate) const ANSWER: &str = "The answer's REQUIRED fields are there and within their limits";
/// A volume cannot be used so.
pub(crate) const EXCEEDS: &str = "Exceeds capabilities";
/// Taken, by something else.
pub(crate) const PUBLISHED_INCOMPATIBLE: &str = "Volume published but is incompatible";

const NEEDS_FULL: &str = "the storage would have to be filled, which is not this suite's to do";

/// Every row, in the order of the specification.
pub(crate) fn all() -> impl Iterator<Item = &'static Row> {
    [general::ROWS, controller::ROWS, snapshot::ROWS, node::ROWS, group::ROWS].into_iter().flatten()
}

/// The row of this RPC and condition.
pub(crate) fn find(rpc: Option<Rpc>, condition: &str) -> Option<&'static Row> {
    all().find(|row| row.rpc == rpc && row.condition == condition)
}

/// A code as the specification writes it.
#[must_use]
pub fn code_name(code: Code) -> &'static str {
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
