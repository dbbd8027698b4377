//! Tables, as `kubectl get` asks for them (`Accept: application/json;as=Table`).

use jiff::Timestamp;
use serde_json::Value;

use super::kinds::Kind;

/// How much of each object goes with its row (`?includeObject=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Default)]
pub enum IncludeObject {
    /// Cells only.
    None,
    /// A `PartialObjectMetadata`; what is sent when nothing is asked for.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// A `meta.k8s.io/v1` Table of objects of one kind at one moment.
#[must_use]
pub fn render(
    _kind: &Kind,
    _objects: &[Value],
    _list_meta: Value,
    _now: Timestamp,
    _include: IncludeObject,
) -> Value {
    Value::Null
}
