//! A pod's quality of service.
//!
//! Source: "Pod Quality of Service Classes" of Kubernetes' documentation.

use serde_json::Value;

use super::super::check::{entries, list};
use super::super::columns::quantity;

/// `Guaranteed` when every container has limits for processor and memory that
/// are also its requests, `BestEffort` when none has any, `Burstable` between.
pub(super) fn class(pod: &Value) -> &'static str {
    let containers = ["initContainers", "containers"].iter().flat_map(|lists| list(&pod["spec"][*lists]));
    let (mut any, mut guaranteed) = (false, true);
    for container in containers {
        let resources = &container["resources"];
        for name in ["cpu", "memory"] {
            let (limit, request) =
                (quantity(&resources["limits"][name]), quantity(&resources["requests"][name]));
            guaranteed &= !limit.is_empty() && (request.is_empty() || request == limit);
        }
        let counted = |(name, _): (&String, &Value)| name == "cpu" || name == "memory";
        any |= entries(&resources["limits"]).chain(entries(&resources["requests"])).any(counted);
    }
    match (any, guaranteed) {
        (false, _) => "BestEffort",
        (true, true) => "Guaranteed",
        (true, false) => "Burstable",
    }
}
