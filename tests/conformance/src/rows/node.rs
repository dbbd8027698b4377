//! Rows about the Node service.

use super::{
    ALREADY_EXISTS, ANSWER, CAPABILITIES, EXCEEDS, IDEMPOTENT, INVALID, INVALID_ARGUMENT, MISSING, NO_VOLUME,
    NOT_FOUND, OK, OK_OR_ABORTED, OUT_OF_RANGE, PENDING, PRECONDITION, PUBLISHED_INCOMPATIBLE, Row, Rpc::*,
    UNIMPLEMENTED, UNIMPLEMENTED_CODE, error, kubernetes, rule, scheme, section,
};
use tonic::Code;

pub(crate) const STAGED: &str = "The volume is at the staging path";
pub(crate) const UNSTAGED: &str = "What staging did is undone, and a volume that is not staged is OK";
pub(crate) const PUBLISHED: &str = "The volume is at the target path, writable unless readonly";
pub(crate) const NOT_STAGED: &str = "Staging target path not set";
pub(crate) const STAGE_FIRST: &str = "The volume is not staged at the staging path";
pub(crate) const SECOND_SAME: &str = "Second publish: T1=T2, P1=P2";
pub(crate) const SECOND_OTHER_ARGUMENTS: &str = "Second publish: T1=T2, P1!=P2";
pub(crate) const SECOND_SINGLE: &str = "Second publish: T1!=T2, access mode of one writer";
pub(crate) const SECOND_MULTI: &str = "Second publish: T1!=T2, access mode of several";
pub(crate) const UNPUBLISHED: &str = "The target path is removed, and a path that is not there is OK";
const KEP_596: &str = "KEP 596, Ephemeral Inline CSI Volumes";
pub(crate) const INLINE_MADE: &str =
    "An inline volume is made at its target path: empty, with a size of its own";
pub(crate) const INLINE_BAD: &str = "Attributes that an inline volume cannot have";
pub(crate) const INLINE_ENDED: &str = "An inline volume ends where it is unpublished, and its data with it";
pub(crate) const USAGE: &str = "The usage is not negative, has units, and is the volume's";
pub(crate) const CONDITION: &str = "The condition of a healthy volume is normal";
pub(crate) const GROWN: &str = "The volume has at least the required size, and its data";
pub(crate) const IN_USE: &str = "Volume in use";
pub(crate) const BAD_CAPACITY: &str = "Unsupported capacity_range";

pub(super) const ROWS: &[Row] = &[
    scheme(NodeStageVolume, MISSING, INVALID_ARGUMENT),
    scheme(NodeStageVolume, INVALID, INVALID_ARGUMENT),
    scheme(NodeStageVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    section(Some(NodeStageVolume), "Concurrency", PENDING, OK_OR_ABORTED).should(),
    rule(NodeStageVolume, STAGED, OK),
    rule(NodeStageVolume, IDEMPOTENT, OK),
    error(NodeStageVolume, NO_VOLUME, NOT_FOUND),
    error(NodeStageVolume, PUBLISHED_INCOMPATIBLE, ALREADY_EXISTS),
    error(NodeStageVolume, EXCEEDS, PRECONDITION),
    scheme(NodeUnstageVolume, MISSING, INVALID_ARGUMENT),
    scheme(NodeUnstageVolume, INVALID, INVALID_ARGUMENT),
    scheme(NodeUnstageVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(NodeUnstageVolume, UNSTAGED, OK),
    rule(NodeUnstageVolume, IDEMPOTENT, OK),
    error(NodeUnstageVolume, NO_VOLUME, NOT_FOUND),
    scheme(NodePublishVolume, MISSING, INVALID_ARGUMENT),
    scheme(NodePublishVolume, INVALID, INVALID_ARGUMENT),
    section(Some(NodePublishVolume), "Concurrency", PENDING, OK_OR_ABORTED).should(),
    rule(NodePublishVolume, PUBLISHED, OK),
    rule(NodePublishVolume, IDEMPOTENT, OK),
    rule(NodePublishVolume, SECOND_SAME, OK).should(),
    rule(NodePublishVolume, SECOND_OTHER_ARGUMENTS, ALREADY_EXISTS).should(),
    rule(NodePublishVolume, SECOND_SINGLE, PRECONDITION).should(),
    rule(NodePublishVolume, SECOND_MULTI, OK).should(),
    section(Some(NodePublishVolume), "RPC Interactions and Reference Counting", STAGE_FIRST, PRECONDITION)
        .should(),
    error(NodePublishVolume, NO_VOLUME, NOT_FOUND),
    error(NodePublishVolume, PUBLISHED_INCOMPATIBLE, ALREADY_EXISTS),
    error(NodePublishVolume, EXCEEDS, PRECONDITION),
    error(NodePublishVolume, NOT_STAGED, PRECONDITION),
    kubernetes(NodePublishVolume, KEP_596, INLINE_MADE, OK),
    kubernetes(NodePublishVolume, KEP_596, INLINE_BAD, &[Code::InvalidArgument, Code::OutOfRange]),
    scheme(NodeUnpublishVolume, MISSING, INVALID_ARGUMENT),
    scheme(NodeUnpublishVolume, INVALID, INVALID_ARGUMENT),
    rule(NodeUnpublishVolume, UNPUBLISHED, OK),
    rule(NodeUnpublishVolume, IDEMPOTENT, OK),
    error(NodeUnpublishVolume, NO_VOLUME, NOT_FOUND),
    kubernetes(NodeUnpublishVolume, KEP_596, INLINE_ENDED, OK),
    scheme(NodeGetVolumeStats, MISSING, INVALID_ARGUMENT),
    // No volume is at such a path either: the own table of the RPC applies as well.
    scheme(NodeGetVolumeStats, INVALID, &[Code::InvalidArgument, Code::NotFound]),
    scheme(NodeGetVolumeStats, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(NodeGetVolumeStats, USAGE, OK),
    rule(NodeGetVolumeStats, CONDITION, OK),
    error(NodeGetVolumeStats, NO_VOLUME, NOT_FOUND),
    rule(NodeGetCapabilities, CAPABILITIES, OK),
    rule(NodeGetInfo, ANSWER, OK),
    scheme(NodeExpandVolume, MISSING, INVALID_ARGUMENT),
    scheme(NodeExpandVolume, INVALID, INVALID_ARGUMENT),
    scheme(NodeExpandVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(NodeExpandVolume, GROWN, OK),
    rule(NodeExpandVolume, IDEMPOTENT, OK),
    error(NodeExpandVolume, EXCEEDS, INVALID_ARGUMENT),
    error(NodeExpandVolume, NO_VOLUME, NOT_FOUND),
    error(NodeExpandVolume, IN_USE, &[Code::Ok, Code::FailedPrecondition]),
    error(NodeExpandVolume, BAD_CAPACITY, OUT_OF_RANGE),
];
