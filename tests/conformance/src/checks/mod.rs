//! The checks, one file for each part of the specification.

mod capabilities;
mod identity;

use crate::check::Check;

/// Every check, in the order of a run.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    [identity::CHECKS, capabilities::CHECKS].into_iter().flatten()
}
