//! Namespaces that are being deleted are emptied, and then they go.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;

use std::{collections::BTreeSet, time::Duration};

use super::{
    engine::{Controller, Io, Outcome},
    view::{Touched, View},
};
use crate::store::Key;

pub(crate) struct Namespaces;

/// How soon a namespace that still has content is looked at again: the content is
/// of any resource, and the shared view has only some of them.
const AGAIN: Duration = Duration::from_millis(100);

impl Controller for Namespaces {
    const NAME: &'static str = "namespace";
    const WORKERS: usize = 2;

    fn wake(_: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        if let Touched::Namespace(delta) = touched {
            keys.insert(delta.key.clone());
        }
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.namespaces.iter().map(|namespace| namespace.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        let content = apply::content(&io.store, &key.name);
        match io.index.read(|view| decide::decide(view, key, &content)) {
            Some(action) => apply::apply(io, action, AGAIN).await,
            None => Outcome::Settled,
        }
    }
}
