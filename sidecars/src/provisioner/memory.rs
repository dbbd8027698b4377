//! What this process knows of its CreateVolume calls for one claim.
//!
//! A volume's name is the claim's, and CSI makes the name the key of idempotency
//! (CreateVolume, field `name`): a success under it *is* the volume, whoever asked first.
//! A refusal only tells of the call that it answers. So once a call went unanswered, in
//! this life of the process or in an earlier one, no later error means that nothing exists.

use super::plan::Plan;
use crate::csi::{CsiError, Origin};

/// Lost with a restart. What is left then is the intent on the claim, and `None` here: that
/// is doubt, which costs a repetition of the call.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Memory {
    /// This process put the intent there, and every call since then was answered with a
    /// refusal, or its volume deleted again: nothing exists.
    Nothing,
    /// A call may have done something: exactly this has to be asked again.
    Unanswered(Box<Plan>),
    /// The volume is saved and the intent taken away; caches may still be behind.
    Finished,
}

/// After the intent was written by us, over a version of the claim that had none.
pub(super) fn after_intent(before: Option<Memory>) -> Memory {
    match before {
        // Someone took the intent off meanwhile, which answers nothing.
        Some(Memory::Unanswered(plan)) => Memory::Unanswered(plan),
        Some(Memory::Nothing | Memory::Finished) | None => Memory::Nothing,
    }
}

/// After CreateVolume of `plan` failed.
pub(super) fn after_failure(before: Option<Memory>, plan: Box<Plan>, error: &CsiError) -> Option<Memory> {
    if error.origin == Origin::Unsent {
        return before;
    }
    // Made by an earlier attempt from another class or place: to ask for exactly this once
    // more is of no use, what is planned anew may fit.
    if error.is_taken() {
        return None;
    }
    // Sent, and not refused.
    if !error.is_final() {
        return Some(Memory::Unanswered(plan));
    }
    // Refused: what was in doubt before is in doubt still.
    before
}

/// Whether it is certain that nothing exists outside.
pub(super) fn is_clear(memory: Option<&Memory>) -> bool {
    memory == Some(&Memory::Nothing)
}

#[cfg(test)]
#[path = "memory_tests.rs"]
mod tests;
