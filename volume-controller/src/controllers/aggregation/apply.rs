//! Writes the rules.

use serde_json::json;

use super::decide::Action;
use crate::controllers::engine::{Io, Outcome};

/// One write; who reads the role has the old rules or the new ones.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let Action::Replace { role, rules } = action;
    let write = io.edit(&role, |body| body["rules"] = json!(rules));
    io.commit(vec![write]).await
}
