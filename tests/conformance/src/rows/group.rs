//! Rows about the GroupController and SnapshotMetadata services.

use super::{
    ALREADY_EXISTS, ANSWER, CAPABILITIES, EXHAUSTED, IDEMPOTENT, INVALID_ARGUMENT, MISSING, NEEDS_FULL,
    NOT_FOUND, OK, OUT_OF_RANGE, PRECONDITION, Row, Rpc::*, TOO_LONG, UNIMPLEMENTED, UNIMPLEMENTED_CODE,
    error, rule, scheme, section,
};
use tonic::Code;

pub(crate) const NO_SOURCE: &str = "A source volume does not exist";
pub(crate) const EXISTS: &str = "Group snapshot already exists but is incompatible";
pub(crate) const MISMATCH: &str = "Snapshot list mismatch";
pub(crate) const GONE: &str = "The group snapshot does not exist";
pub(crate) const MEMBERS_GO: &str = "All snapshots of the group are deleted with it";
pub(crate) const IN_USE: &str = "Volume group snapshot in use";
pub(crate) const NO_GROUP: &str = "Volume group snapshot does not exist";
pub(crate) const BAD_ARGUMENT: &str = "Missing or otherwise invalid argument";
pub(crate) const NO_SNAPSHOT: &str = "Invalid `snapshot_id`";
pub(crate) const NO_BASE: &str = "Invalid `base_snapshot_id` or `target_snapshot_id`";
pub(crate) const BAD_OFFSET: &str = "Invalid `starting_offset`";
pub(crate) const RANGES: &str = "The ranges ascend, do not overlap, and cover what was written";

pub(super) const ROWS: &[Row] = &[
    rule(GroupControllerGetCapabilities, CAPABILITIES, OK),
    scheme(CreateVolumeGroupSnapshot, MISSING, INVALID_ARGUMENT),
    section(Some(CreateVolumeGroupSnapshot), "Size Limits", TOO_LONG, INVALID_ARGUMENT),
    scheme(CreateVolumeGroupSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    // The table has no row for it; what is not there is NOT_FOUND everywhere else.
    rule(CreateVolumeGroupSnapshot, NO_SOURCE, NOT_FOUND).should(),
    rule(CreateVolumeGroupSnapshot, ANSWER, OK),
    rule(CreateVolumeGroupSnapshot, IDEMPOTENT, OK),
    error(CreateVolumeGroupSnapshot, EXISTS, ALREADY_EXISTS),
    error(CreateVolumeGroupSnapshot, "Cannot snapshot multiple volumes together", PRECONDITION)
        .untestable("which volumes a plugin cannot snapshot together is its own secret"),
    error(CreateVolumeGroupSnapshot, "Not enough space to create group snapshot", EXHAUSTED)
        .untestable(NEEDS_FULL),
    scheme(DeleteVolumeGroupSnapshot, MISSING, INVALID_ARGUMENT),
    scheme(DeleteVolumeGroupSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(DeleteVolumeGroupSnapshot, GONE, OK),
    rule(DeleteVolumeGroupSnapshot, IDEMPOTENT, OK),
    rule(DeleteVolumeGroupSnapshot, MEMBERS_GO, OK),
    error(DeleteVolumeGroupSnapshot, MISMATCH, INVALID_ARGUMENT).should(),
    error(DeleteVolumeGroupSnapshot, IN_USE, &[Code::Ok, Code::FailedPrecondition]),
    scheme(GetVolumeGroupSnapshot, MISSING, INVALID_ARGUMENT),
    scheme(GetVolumeGroupSnapshot, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(GetVolumeGroupSnapshot, ANSWER, OK),
    error(GetVolumeGroupSnapshot, MISMATCH, INVALID_ARGUMENT).should(),
    error(GetVolumeGroupSnapshot, NO_GROUP, NOT_FOUND),
    scheme(GetMetadataAllocated, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(GetMetadataAllocated, RANGES, OK),
    error(GetMetadataAllocated, BAD_ARGUMENT, INVALID_ARGUMENT),
    error(GetMetadataAllocated, NO_SNAPSHOT, NOT_FOUND),
    error(GetMetadataAllocated, BAD_OFFSET, OUT_OF_RANGE),
    scheme(GetMetadataDelta, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(GetMetadataDelta, RANGES, OK),
    error(GetMetadataDelta, BAD_ARGUMENT, INVALID_ARGUMENT),
    error(GetMetadataDelta, NO_BASE, NOT_FOUND),
    error(GetMetadataDelta, "Changed block tracking is not enabled", PRECONDITION)
        .untestable("CSI does not tell, nor switch, changed block tracking"),
    error(GetMetadataDelta, BAD_OFFSET, OUT_OF_RANGE),
];
