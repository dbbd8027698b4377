//! Takes finalizers off.

use super::decide::Action;
use crate::controllers::engine::{Io, Outcome};

/// One transaction. A crash before it leaves the object protected, and the next
/// look takes the finalizer off.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let Action::Release { object, finalizer, reason } = action;
    tracing::info!(object = %object.key, finalizer, "{reason}");
    let write = io.edit(&object, |body| {
        if let Some(list) = body["metadata"]["finalizers"].as_array_mut() {
            list.retain(|entry| entry != finalizer);
        }
    });
    io.commit(vec![write]).await
}
