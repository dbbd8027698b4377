//! Rows about volumes in the Controller service.

use super::{
    ABORTED, ALREADY_EXISTS, ANSWER, BAD_CAPACITY, BAD_RANGE, BAD_TOKEN, CAPABILITIES, EXCEEDS, EXHAUSTED,
    IDEMPOTENT, INVALID, INVALID_ARGUMENT, MISSING, NO_VOLUME, NOT_FOUND, OK, OK_OR_ABORTED, OUT_OF_RANGE,
    PENDING, PRECONDITION, PUBLISHED_INCOMPATIBLE, Row, Rpc::*, TOO_LONG, UNIMPLEMENTED, UNIMPLEMENTED_CODE,
    error, rule, scheme, section,
};
use tonic::Code;

pub(crate) const NAMES: &str =
    "Any Unicode name of at most 128 bytes without banned characters is a volume's";
pub(crate) const SILENT_RANGE: &str = "A capacity range that says nothing";
pub(crate) const REVERSED_RANGE: &str = "A capacity range that contradicts itself";
pub(crate) const CAPACITY: &str = "The volume has a size within the range";
pub(crate) const SOURCE_UNSUPPORTED: &str = "Source incompatible or not supported";
pub(crate) const NO_SOURCE: &str = "Source does not exist";
pub(crate) const EXISTS: &str = "Volume already exists but is incompatible";
pub(crate) const ELSEWHERE: &str = "Unable to provision in `accessible_topology`";
pub(crate) const TOPOLOGY: &str = "The volume is accessible from where it was required";
pub(crate) const FROM_SOURCE: &str = "The volume has what its source has, and says which that is";
pub(crate) const SEVERAL: &str = "Several capabilities: the volume satisfies each, or there is none";
pub(crate) const GONE: &str = "The volume does not exist";
pub(crate) const IN_USE: &str = "Volume in use";
pub(crate) const SNAPSHOTS_STAY: &str =
    "The volume has snapshots: they stay fully operational, or nothing changes";
pub(crate) const NO_NODE: &str = "Node does not exist";
pub(crate) const MAX_ATTACHED: &str = "Max volumes attached";
pub(crate) const UNPUBLISHED: &str = "The volume is not attached, or not to this node";
pub(crate) const ALL_NODES: &str = "Without `node_id` the volume is unpublished from all nodes";
pub(crate) const NO_VOLUME_UNASSUMED: &str =
    "Volume does not exist and volume not assumed ControllerUnpublished from node";
pub(crate) const NO_NODE_UNASSUMED: &str =
    "Node does not exist and volume not assumed ControllerUnpublished from node";
pub(crate) const CONFIRMED: &str = "Confirmed only if all of the capabilities are supported";
pub(crate) const LISTED: &str = "All volumes are listed";
pub(crate) const PAGES: &str = "A page has at most `max_entries`, and leads to the next";
pub(crate) const CHANGING: &str = "Volumes come and go while pages are read";
pub(crate) const PUBLISHED_NODES: &str = "The nodes to which the volume is published are named";
pub(crate) const UNSUPPORTED_PARAMETERS: &str = "Parameters not supported";
pub(crate) const MODIFIED: &str = "Valid parameters are applied";
pub(crate) const AVAILABLE: &str = "The capacity is not negative, and fits what was asked for";
pub(crate) const GROWN: &str = "The volume has at least the required size";
pub(crate) const LARGE_ENOUGH: &str = "The volume is already larger than or equal to the target";

const ROUNDED: &[Code] = &[Code::Ok, Code::OutOfRange];
const LIMIT: &str = "Size Limits";

pub(super) const ROWS: &[Row] = &[
    scheme(CreateVolume, MISSING, INVALID_ARGUMENT),
    scheme(CreateVolume, INVALID, INVALID_ARGUMENT),
    section(Some(CreateVolume), LIMIT, TOO_LONG, INVALID_ARGUMENT),
    scheme(CreateVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    section(Some(CreateVolume), "Concurrency", PENDING, OK_OR_ABORTED).should(),
    rule(CreateVolume, ANSWER, OK),
    rule(CreateVolume, IDEMPOTENT, OK),
    rule(CreateVolume, NAMES, OK),
    // That one of the fields is set binds who calls; Docker Swarm leaves out both.
    rule(CreateVolume, SILENT_RANGE, &[Code::Ok, Code::InvalidArgument, Code::OutOfRange]),
    rule(CreateVolume, REVERSED_RANGE, BAD_RANGE),
    rule(CreateVolume, CAPACITY, ROUNDED),
    rule(CreateVolume, SEVERAL, &[Code::Ok, Code::InvalidArgument]),
    rule(CreateVolume, TOPOLOGY, OK),
    rule(CreateVolume, FROM_SOURCE, OK),
    error(CreateVolume, SOURCE_UNSUPPORTED, INVALID_ARGUMENT),
    error(CreateVolume, NO_SOURCE, NOT_FOUND),
    error(CreateVolume, EXISTS, ALREADY_EXISTS),
    error(CreateVolume, ELSEWHERE, EXHAUSTED),
    error(CreateVolume, BAD_CAPACITY, OUT_OF_RANGE),
    scheme(DeleteVolume, MISSING, INVALID_ARGUMENT),
    scheme(DeleteVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    section(Some(DeleteVolume), "Concurrency", PENDING, OK_OR_ABORTED).should(),
    rule(DeleteVolume, GONE, OK),
    rule(DeleteVolume, IDEMPOTENT, OK),
    rule(DeleteVolume, SNAPSHOTS_STAY, &[Code::Ok, Code::FailedPrecondition]),
    error(DeleteVolume, IN_USE, PRECONDITION),
    scheme(ControllerPublishVolume, MISSING, INVALID_ARGUMENT),
    scheme(ControllerPublishVolume, INVALID, INVALID_ARGUMENT),
    scheme(ControllerPublishVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    section(Some(ControllerPublishVolume), "Concurrency", PENDING, OK_OR_ABORTED).should(),
    rule(ControllerPublishVolume, IDEMPOTENT, OK),
    error(ControllerPublishVolume, NO_VOLUME, NOT_FOUND),
    error(ControllerPublishVolume, NO_NODE, NOT_FOUND),
    error(ControllerPublishVolume, PUBLISHED_INCOMPATIBLE, ALREADY_EXISTS),
    error(ControllerPublishVolume, "Volume published to another node", PRECONDITION)
        .untestable("needs a second node, and a socket has one"),
    error(ControllerPublishVolume, MAX_ATTACHED, EXHAUSTED),
    scheme(ControllerUnpublishVolume, MISSING, INVALID_ARGUMENT),
    scheme(ControllerUnpublishVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ControllerUnpublishVolume, IDEMPOTENT, OK),
    rule(ControllerUnpublishVolume, UNPUBLISHED, OK),
    rule(ControllerUnpublishVolume, ALL_NODES, OK),
    error(ControllerUnpublishVolume, NO_VOLUME_UNASSUMED, &[Code::Ok, Code::NotFound]),
    error(ControllerUnpublishVolume, NO_NODE_UNASSUMED, &[Code::Ok, Code::NotFound]),
    scheme(ValidateVolumeCapabilities, MISSING, INVALID_ARGUMENT),
    rule(ValidateVolumeCapabilities, CONFIRMED, OK),
    rule(ValidateVolumeCapabilities, IDEMPOTENT, OK),
    error(ValidateVolumeCapabilities, NO_VOLUME, NOT_FOUND),
    scheme(ListVolumes, INVALID, INVALID_ARGUMENT),
    scheme(ListVolumes, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ListVolumes, LISTED, OK),
    rule(ListVolumes, PAGES, OK),
    rule(ListVolumes, CHANGING, OK_OR_ABORTED),
    rule(ListVolumes, PUBLISHED_NODES, OK),
    error(ListVolumes, BAD_TOKEN, ABORTED),
    scheme(ControllerGetVolume, MISSING, INVALID_ARGUMENT),
    scheme(ControllerGetVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ControllerGetVolume, ANSWER, OK),
    rule(ControllerGetVolume, PUBLISHED_NODES, OK),
    error(ControllerGetVolume, NO_VOLUME, NOT_FOUND),
    scheme(ControllerModifyVolume, MISSING, INVALID_ARGUMENT),
    scheme(ControllerModifyVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ControllerModifyVolume, MODIFIED, OK),
    rule(ControllerModifyVolume, IDEMPOTENT, OK),
    error(ControllerModifyVolume, UNSUPPORTED_PARAMETERS, INVALID_ARGUMENT),
    error(ControllerModifyVolume, NO_VOLUME, NOT_FOUND),
    scheme(GetCapacity, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(GetCapacity, AVAILABLE, OK),
    rule(ControllerGetCapabilities, CAPABILITIES, OK),
    scheme(ControllerExpandVolume, MISSING, INVALID_ARGUMENT),
    scheme(ControllerExpandVolume, UNIMPLEMENTED, UNIMPLEMENTED_CODE),
    rule(ControllerExpandVolume, SILENT_RANGE, BAD_RANGE),
    rule(ControllerExpandVolume, REVERSED_RANGE, BAD_RANGE),
    rule(ControllerExpandVolume, GROWN, OK),
    rule(ControllerExpandVolume, LARGE_ENOUGH, OK).should(),
    rule(ControllerExpandVolume, IDEMPOTENT, OK),
    error(ControllerExpandVolume, EXCEEDS, INVALID_ARGUMENT),
    error(ControllerExpandVolume, NO_VOLUME, NOT_FOUND),
    error(ControllerExpandVolume, IN_USE, PRECONDITION),
    error(ControllerExpandVolume, BAD_CAPACITY, OUT_OF_RANGE),
];
