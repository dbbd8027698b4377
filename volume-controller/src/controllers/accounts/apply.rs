//! Creates accounts.

use jiff::Timestamp;
use serde_json::json;

use super::decide::{Action, DEFAULT};
use crate::{
    controllers::{
        engine::{Io, Outcome},
        view::ACCOUNTS,
    },
    lifecycle,
    store::Key,
};

/// One write; a crash before it leaves a namespace without, which the next start finds.
pub(crate) async fn apply(io: &Io, action: Action) -> Outcome {
    let Action::Create(namespace) = action;
    let key = Key::new(ACCOUNTS, &namespace.key.name, DEFAULT);
    let body = json!({"apiVersion": "v1", "kind": "ServiceAccount"});
    let write = lifecycle::create(key, body, Timestamp::now());
    // What is created in a namespace that is being emptied would outlive it.
    io.commit_guarded(&[namespace], vec![Some(write)]).await
}
