//! Rows about snapshots in the Controller service.

use super::{
    ABORTED, ALREADY_EXISTS, ANSWER, BAD_TOKEN, EXHAUSTED, IDEMPOTENT, INVALID, INVALID_ARGUMENT, MISSING,
    NEEDS_FULL, NOT_FOUND, OK, OK_OR_ABORTED, Row, Rpc::*, SNAPSHOT_PENDING, TOO_LONG, UNIMPLEMENTED,
    UNIMPLEMENTED_CODE, error, rule, scheme, section,
};
use tonic::Code;

pub(crate) const NAMES: &str =
    "Any Unicode name of at most 128 bytes without banned characters is a snapshot's";
pub(crate) const NO_SOURCE: &str = "The source volume does not exist";
pub(crate) const EXISTS: &str = "Snapshot already exists but is incompatible";
pub(crate) const GONE: &str = "The snapshot does not exist";
pub(crate) const IN_GROUP: &str = "Snapshot is part of a group";
pub(crate) const IN_USE: &str = "Snapshot in use";
pub(crate) const LISTED: &str = "All snapshots are listed";
pub(crate) const FILTERED: &str = "Only the snapshots that were asked for are listed";
pub(crate) const PAGES: &str = "A page has at most `max_entries`, and leads to the next";
pub(crate) const NO_SNAPSHOT: &str = "Snapshot does not exist";

pub(super) const ROWS: &[Row] = &[
    scheme(CreateSnapshot, MISSING, INVALID_ARGUMENT),
    scheme(CreateSnapshot, INVALID, INVALID_ARGUMENT),
    section(Some(CreateSnapshot), "Size Limits", TOO_LONG, INVALID_ARGUMENT),
    scheme(CreateSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    // The table has no row for it; what is not there is NOT_FOUND everywhere else.
    rule(CreateSnapshot, NO_SOURCE, NOT_FOUND).should(),
    rule(CreateSnapshot, ANSWER, OK),
    rule(CreateSnapshot, IDEMPOTENT, OK),
    rule(CreateSnapshot, NAMES, OK),
    error(CreateSnapshot, EXISTS, ALREADY_EXISTS),
    error(CreateSnapshot, SNAPSHOT_PENDING, OK_OR_ABORTED).should(),
    error(CreateSnapshot, "Not enough space to create snapshot", EXHAUSTED).untestable(NEEDS_FULL),
    scheme(DeleteSnapshot, MISSING, INVALID_ARGUMENT),
    scheme(DeleteSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(DeleteSnapshot, GONE, OK),
    rule(DeleteSnapshot, IDEMPOTENT, OK),
    error(DeleteSnapshot, IN_GROUP, INVALID_ARGUMENT),
    error(DeleteSnapshot, IN_USE, &[Code::Ok, Code::FailedPrecondition]),
    error(DeleteSnapshot, SNAPSHOT_PENDING, OK_OR_ABORTED).should(),
    scheme(ListSnapshots, INVALID, INVALID_ARGUMENT),
    scheme(ListSnapshots, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ListSnapshots, LISTED, OK),
    rule(ListSnapshots, FILTERED, OK),
    rule(ListSnapshots, PAGES, OK),
    error(ListSnapshots, BAD_TOKEN, ABORTED),
    scheme(GetSnapshot, MISSING, INVALID_ARGUMENT),
    scheme(GetSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(GetSnapshot, ANSWER, OK),
    error(GetSnapshot, NO_SNAPSHOT, NOT_FOUND),
];
