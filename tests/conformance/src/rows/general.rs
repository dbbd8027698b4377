//! Rows about all RPCs, and the Identity service.

use super::{ANSWER, CAPABILITIES, OK, PRECONDITION, Row, Rpc, error, rule, section};
use tonic::Code;

const SCHEME: &str = "Error Scheme";
const LIFE: &str = "Volume Lifecycle";

pub(crate) const MESSAGE: &str = "The status of an error has a message for people";
pub(crate) const DETAILS: &str = "The status details are empty";
pub(crate) const MALFORMED: &str = "A message that cannot be decoded";
pub(crate) const UNKNOWN_FIELDS: &str = "A message with fields that the plugin does not know";
pub(crate) const WHOLE_LIFE: &str = "A volume's whole life, in the order of the specification";
pub(crate) const RETRIED: &str = "A volume's whole life, each call repeated with the same fields";
pub(crate) const RESTARTED: &str = "A volume's whole life, with a restart between any two calls";
pub(crate) const DATA: &str = "Data written to a volume are there while the volume is";
pub(crate) const INFO: &str = "The name is a domain name of at most 63 characters";
pub(crate) const HEALTHY: &str = "A healthy plugin answers OK";

pub(super) const ROWS: &[Row] = &[
    section(None, SCHEME, MESSAGE, &[]),
    section(None, SCHEME, DETAILS, &[]),
    section(None, SCHEME, "Permission denied", &[Code::PermissionDenied])
        .untestable("needs secrets of an identity that the plugin knows and that may not do this"),
    section(None, SCHEME, "Not authenticated", &[Code::Unauthenticated])
        .untestable("needs a plugin that asks for secrets, which no capability tells"),
    section(None, "Connectivity", MALFORMED, &[Code::Internal, Code::InvalidArgument, Code::Unknown]),
    section(None, "Connectivity", UNKNOWN_FIELDS, OK),
    section(None, LIFE, WHOLE_LIFE, OK),
    section(None, LIFE, DATA, OK),
    section(None, "Timeouts", RETRIED, OK),
    section(None, "Timeouts", RESTARTED, OK),
    rule(Rpc::GetPluginInfo, INFO, OK),
    rule(Rpc::GetPluginInfo, ANSWER, OK),
    rule(Rpc::GetPluginCapabilities, CAPABILITIES, OK),
    rule(Rpc::Probe, HEALTHY, OK),
    error(Rpc::Probe, "Plugin not healthy", PRECONDITION)
        .untestable("nothing in CSI makes a plugin unhealthy"),
    error(Rpc::Probe, "Missing required dependency", PRECONDITION)
        .untestable("nothing in CSI takes a dependency away"),
];
