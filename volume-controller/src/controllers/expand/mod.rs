//! Expansion: growth that no resizer will do is not left in silence.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;
mod reason;

use std::collections::BTreeSet;

use super::{
    engine::{Controller, Io, Outcome},
    view::{Touched, View},
};
use crate::store::Key;

pub(crate) struct Expand;

impl Controller for Expand {
    const NAME: &'static str = "volume-expand";
    const WORKERS: usize = 4;

    fn wake(_: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        if let Touched::Claim(delta) = touched {
            keys.insert(delta.key.clone());
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.claims.iter().map(|claim| claim.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, action),
            None => Outcome::Settled,
        }
    }
}
