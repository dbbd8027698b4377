//! The OpenAPI v2 document: all groups in one.

use serde_json::{Map, Value, json};

use super::super::{kinds, reviews};
use super::{operations, schemas};

pub(super) fn document() -> Value {
    let mut paths = Map::new();
    for kind in kinds::ALL {
        paths.extend(operations::paths(kind));
    }
    paths.extend(reviews::ALL.iter().map(operations::question));
    json!({
        "swagger": "2.0",
        "info": info(),
        "paths": paths,
        "definitions": schemas::all().definitions,
    })
}

pub(super) fn info() -> Value {
    json!({"title": "Holdfast", "version": env!("CARGO_PKG_VERSION")})
}
