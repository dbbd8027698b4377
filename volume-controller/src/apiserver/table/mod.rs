//! Tables, as `kubectl get` asks for them (`Accept: application/json;as=Table`).

use jiff::Timestamp;
use serde_json::{Value, json};

use super::kinds::Kind;

/// How much of each object goes with its row (`?includeObject=`).
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash, Default)]
pub enum IncludeObject {
    /// Cells only.
    None,
    /// A `PartialObjectMetadata`; what is sent when nothing is asked for.
    #[default]
    Metadata,
    /// The whole object.
    Object,
}

/// The group and version of tables.
const META: &str = "meta.k8s.io/v1";

/// A `meta.k8s.io/v1` Table of objects of one kind at one moment.
#[must_use]
pub fn render(
    kind: &Kind,
    objects: &[Value],
    list_meta: Value,
    now: Timestamp,
    include: IncludeObject,
) -> Value {
    let rows: Vec<Value> = objects.iter().map(|object| row(kind, object, now, include)).collect();
    let mut table = head(kind, list_meta);
    table["rows"] = Value::Array(rows);
    table
}

/// A table without its rows.
pub(crate) fn head(kind: &Kind, list_meta: Value) -> Value {
    let columns: Vec<Value> = kind
        .columns
        .iter()
        .map(|column| {
            json!({
                "name": column.name,
                "type": column.kind,
                "format": column.format,
                "description": column.description,
                "priority": column.priority,
            })
        })
        .collect();
    json!({"kind": "Table", "apiVersion": META, "metadata": list_meta, "columnDefinitions": columns})
}

/// The row of one object.
pub(crate) fn row(kind: &Kind, object: &Value, now: Timestamp, include: IncludeObject) -> Value {
    let cells: Vec<Value> = kind.columns.iter().map(|column| (column.cell)(object, now)).collect();
    let mut row = json!({ "cells": cells });
    match include {
        IncludeObject::None => {}
        IncludeObject::Metadata => {
            row["object"] = json!({
                "kind": "PartialObjectMetadata", "apiVersion": META, "metadata": object["metadata"],
            });
        }
        IncludeObject::Object => row["object"] = object.clone(),
    }
    row
}

#[cfg(test)]
mod tests;
