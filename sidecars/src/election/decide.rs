//! What to do next for a lease that one would like to have. Pure.
//!
//! Whether a holder still lives is told by our own clock: a lease that has not changed for as long as its holder said it
//! would be good has nobody. The times in it are for people; clocks of machines differ.

use std::time::Duration;

use k8s_openapi::api::coordination::v1::LeaseSpec;

/// One step.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Step {
    /// There is none: make it.
    Create,
    /// Nobody has it, or not any more; `changes_hands` when it was somebody else's.
    Take { changes_hands: bool },
    /// Somebody has it, at least for this long.
    Wait(Duration),
}

/// `lease` is what was read, unchanged since `unchanged_for`; `usual` counts where it does not say how long it is good.
pub(super) fn decide(
    lease: Option<Option<&LeaseSpec>>,
    unchanged_for: Duration,
    me: &str,
    usual: Duration,
) -> Step {
    let Some(spec) = lease else { return Step::Create };
    let holder = spec.and_then(|spec| spec.holder_identity.as_deref()).unwrap_or_default();
    if holder == me {
        return Step::Take { changes_hands: false };
    }
    if holder.is_empty() {
        return Step::Take { changes_hands: true };
    }
    let seconds = spec.and_then(|spec| spec.lease_duration_seconds).and_then(|s| u64::try_from(s).ok());
    let good_for = seconds.filter(|seconds| *seconds > 0).map_or(usual, Duration::from_secs);
    match good_for.checked_sub(unchanged_for) {
        None | Some(Duration::ZERO) => Step::Take { changes_hands: true },
        Some(left) => Step::Wait(left),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn who_may_take_a_lease() {
        use Step::{Create, Take, Wait};
        let held = |holder: Option<&str>, seconds: Option<i32>| {
            Some(Some(LeaseSpec {
                holder_identity: holder.map(str::to_owned),
                lease_duration_seconds: seconds,
                ..LeaseSpec::default()
            }))
        };
        let (ours, theirs) = (Take { changes_hands: false }, Take { changes_hands: true });
        let seconds = Duration::from_secs;
        let table = [
            (1, None, 0, Create),
            (2, Some(None), 0, theirs),
            (3, held(None, Some(15)), 0, theirs),
            (4, held(Some(""), Some(1)), 0, theirs),
            (5, held(Some("me"), Some(15)), 0, ours),
            (6, held(Some("me"), Some(15)), 100, ours),
            (7, held(Some("b"), Some(15)), 0, Wait(seconds(15))),
            (8, held(Some("b"), Some(15)), 14, Wait(seconds(1))),
            (9, held(Some("b"), Some(15)), 15, theirs),
            (10, held(Some("b"), Some(15)), 16, theirs),
            // What does not say how long it is good is good for as long as ours would be.
            (11, held(Some("b"), None), 6, Wait(seconds(1))),
            (12, held(Some("b"), Some(0)), 6, Wait(seconds(1))),
            (13, held(Some("b"), Some(-3)), 7, theirs),
            (14, held(Some("b"), Some(60)), 20, Wait(seconds(40))),
        ];
        for (number, lease, unchanged, wanted) in table {
            let lease = lease.as_ref().map(Option::as_ref);
            assert_eq!(decide(lease, seconds(unchanged), "me", seconds(7)), wanted, "row {number}");
        }
    }
}
