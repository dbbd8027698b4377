//! Which bytes of an image are there, and which differ between two images of one file
//! system, by where they lie. Pure.

use std::ops::Range;

/// Where a run of bytes lies.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Lies {
    /// It has no place and reads as zeros.
    Nowhere,
    /// From this address on.
    At(u64),
    /// Somewhere; the address does not say what its bytes are.
    Unknown,
}

/// A run of bytes of a file.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Extent {
    pub(crate) start: u64,
    pub(crate) end: u64,
    pub(crate) lies: Lies,
}

/// What is at `position`, and how far it is so, up to `end`. The extents ascend; what is
/// between them lies nowhere.
fn look(extents: &[Extent], position: u64, end: u64) -> (Lies, u64) {
    let next = extents.partition_point(|extent| extent.end <= position);
    match extents.get(next) {
        Some(extent) if extent.start <= position => {
            let lies = match extent.lies {
                Lies::At(address) => Lies::At(address.saturating_add(position - extent.start)),
                lies => lies,
            };
            (lies, extent.end.min(end))
        }
        Some(extent) => (Lies::Nowhere, extent.start.min(end)),
        None => (Lies::Nowhere, end),
    }
}

/// The bytes of `within` that are there.
pub(crate) fn allocated(extents: &[Extent], within: Range<u64>) -> Vec<Range<u64>> {
    runs(within, |position, end| {
        let (lies, end) = look(extents, position, end);
        (lies != Lies::Nowhere, end)
    })
}

/// The bytes of `within` that may differ: all that do, and none that both have in common.
pub(crate) fn changed(base: &[Extent], target: &[Extent], within: Range<u64>) -> Vec<Range<u64>> {
    runs(within, |position, end| {
        let (old, end) = look(base, position, end);
        let (new, end) = look(target, position, end);
        (old != new || new == Lies::Unknown, end)
    })
}

/// The longest runs for which `is` says so.
fn runs(within: Range<u64>, is: impl Fn(u64, u64) -> (bool, u64)) -> Vec<Range<u64>> {
    let mut runs: Vec<Range<u64>> = Vec::new();
    let mut position = within.start;
    while position < within.end {
        let (so, end) = is(position, within.end);
        if so {
            match runs.last_mut() {
                Some(last) if last.end == position => last.end = end,
                _ => runs.push(position..end),
            }
        }
        // Malformed extents must not keep this from coming to an end.
        position = end.max(position + 1);
    }
    runs
}

#[cfg(test)]
mod tests {
    use super::*;
    use proptest::prelude::*;

    /// Each byte of a small file: where it lies.
    type Model = Vec<Lies>;

    fn extents_of(model: &Model) -> Vec<Extent> {
        let mut extents: Vec<Extent> = Vec::new();
        for (position, lies) in (0_u64..).zip(model) {
            let goes_on = |last: &Extent| match (last.lies, lies) {
                (Lies::At(address), Lies::At(here)) => address + (position - last.start) == *here,
                (a, b) => a == *b,
            };
            match extents.last_mut() {
                Some(last) if goes_on(last) => last.end = position + 1,
                _ => extents.push(Extent { start: position, end: position + 1, lies: *lies }),
            }
        }
        // As a file system shows it: some runs that lie nowhere are told, others left out.
        extents.retain(|extent| extent.lies != Lies::Nowhere || extent.start % 2 == 0);
        extents
    }

    fn model() -> impl Strategy<Value = Model> {
        let lies = prop_oneof![
            2 => Just(Lies::Nowhere),
            1 => Just(Lies::Unknown),
            5 => (0_u64..6).prop_map(Lies::At)
        ];
        proptest::collection::vec(lies, 24)
    }

    fn bytes(runs: &[Range<u64>]) -> Vec<u64> {
        assert!(runs.windows(2).all(|pair| pair[0].end < pair[1].start), "{runs:?}");
        runs.iter().cloned().flatten().collect()
    }

    proptest! {
        #[test]
        fn every_byte_is_judged_by_itself(base in model(), target in model(), from in 0_u64..24, to in 0_u64..24) {
            let (a, b) = (extents_of(&base), extents_of(&target));
            let differs = |at: &u64| {
                let (old, new) = (base[*at as usize], target[*at as usize]);
                old != new || new == Lies::Unknown
            };
            let expected: Vec<u64> = (from..to).filter(differs).collect();
            prop_assert_eq!(bytes(&changed(&a, &b, from..to)), expected);
            let there: Vec<u64> = (from..to).filter(|at| target[*at as usize] != Lies::Nowhere).collect();
            prop_assert_eq!(bytes(&allocated(&b, from..to)), there);
        }
    }

    #[test]
    fn a_moved_byte_is_a_change_and_a_kept_one_is_none() {
        let run = |start, end, lies| Extent { start, end, lies };
        let base = [run(0, 100, Lies::At(1000))];
        // One extent cut in two at the same place is the same.
        let cut = [run(0, 40, Lies::At(1000)), run(40, 100, Lies::At(1040))];
        assert_eq!(changed(&base, &cut, 0..100), []);
        let moved = [run(0, 40, Lies::At(1000)), run(40, 50, Lies::At(7000)), run(50, 100, Lies::At(1050))];
        assert_eq!(bytes(&changed(&base, &moved, 0..100)), (40..50).collect::<Vec<_>>());
        assert_eq!(bytes(&changed(&base, &moved, 45..60)), (45..50).collect::<Vec<_>>());
        assert_eq!(bytes(&changed(&base, &[], 0..200)).len(), 100, "a hole where data was");
    }
}
