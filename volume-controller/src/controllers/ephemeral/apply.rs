//! Creates claims of pods.

use super::{decide::Action, reason::Reason};
use crate::{
    apiserver::{self, status::ApiError},
    controllers::{
        engine::{Io, Outcome},
        recorder::{News, Severity},
    },
    store::Key,
};

const COMPONENT: &str = "ephemeral_volume";

/// One write. The claim is made as a client of the API would make it, held to the same rules and
/// quotas. One whose pod goes at the same moment has no owner, and the collector removes it.
pub(crate) async fn apply(io: &Io, pod: &Key, action: Action) -> Outcome {
    let (reason, outcome) = match action {
        Action::Tell { reason } => (reason, Outcome::Settled),
        Action::Create { volume, claim } => {
            let name = claim["metadata"]["name"].as_str().unwrap_or_default().to_owned();
            match apiserver::create(&io.store, &pod.namespace, claim).await {
                Ok(created) => {
                    io.index.wait_for(created.revision).await;
                    return Outcome::Wrote;
                }
                Err(ApiError::AlreadyExists { .. } | ApiError::Conflict { .. }) => return Outcome::Again,
                Err(error) => {
                    (Reason::Refused { volume, claim: name, why: error.to_string() }, Outcome::Again)
                }
            }
        }
    };
    io.recorder.tell(News {
        about: pod.clone(),
        component: COMPONENT,
        severity: Severity::Warning,
        reason: reason.name(),
        message: reason.to_string(),
    });
    outcome
}
