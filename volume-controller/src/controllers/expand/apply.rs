//! Says it.

use super::decide::Action;
use crate::controllers::{
    engine::{Io, Outcome},
    recorder::{News, Severity},
};

pub(crate) fn apply(io: &Io, action: Action) -> Outcome {
    let Action::Tell { claim, reason } = action;
    let message = reason.to_string();
    let component = "volume_expand";
    io.recorder.tell(News {
        about: claim,
        component,
        severity: Severity::Warning,
        reason: reason.name(),
        message,
    });
    Outcome::Settled
}
