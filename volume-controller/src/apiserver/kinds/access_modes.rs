//! Access modes and volume modes, of claims and of volumes alike.

use serde_json::Value;

use super::check::{Checks, list};

const MODES: [&str; 4] = ["ReadOnlyMany", "ReadWriteMany", "ReadWriteOnce", "ReadWriteOncePod"];
const SINGLE_POD: &str = "ReadWriteOncePod";

/// At least one mode, only known ones, and `ReadWriteOncePod` only alone.
pub(crate) fn check(checks: &mut Checks, spec: &Value, required: &str) {
    let modes = list(&spec["accessModes"]);
    if modes.is_empty() {
        checks.required("spec.accessModes", required);
    }
    for mode in modes {
        checks.one_of("spec.accessModes", mode, &MODES);
    }
    if modes.len() > 1 && modes.iter().any(|mode| mode == SINGLE_POD) {
        checks.forbidden("spec.accessModes", "may not use ReadWriteOncePod with other access modes");
    }
    checks.one_of("spec.volumeMode", &spec["volumeMode"], &["Block", "Filesystem"]);
}

/// The printed form: `RWO,ROX`.
pub(crate) fn short(modes: &Value) -> String {
    let modes: Vec<String> = list(modes).iter().filter_map(Value::as_str).map(str::to_owned).collect();
    holdfast_api::access::short_modes(&modes)
}
