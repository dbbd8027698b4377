//! The checks, one file for each part of the specification.

mod attach;
mod blocks;
mod capabilities;
mod change;
mod create_volume;
mod data;
pub(crate) mod existing;
mod groups;
mod identity;
mod inline;
mod life;
mod listing;
mod node_publish;
mod node_stage;
mod node_use;
mod second;
mod snapshots;
mod storm;
mod wire;

use crate::check::Check;

/// Every check, in the order of a run.
pub(crate) fn all() -> impl Iterator<Item = &'static Check> {
    [
        identity::CHECKS,
        capabilities::CHECKS,
        create_volume::CHECKS,
        existing::CHECKS,
        attach::CHECKS,
        listing::CHECKS,
        change::CHECKS,
        snapshots::CHECKS,
        node_stage::CHECKS,
        node_publish::CHECKS,
        second::CHECKS,
        node_use::CHECKS,
        groups::CHECKS,
        blocks::CHECKS,
        storm::CHECKS,
        inline::CHECKS,
        data::CHECKS,
        life::CHECKS,
        wire::CHECKS,
    ]
    .into_iter()
    .flatten()
}
