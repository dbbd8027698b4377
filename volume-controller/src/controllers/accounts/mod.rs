//! Each namespace has the service account `default`, for pods that name none.

mod apply;
mod decide;
#[cfg(test)]
mod decide_tests;

use std::collections::BTreeSet;

use super::{
    engine::{Controller, Io, Outcome},
    view::{NAMESPACES, Touched, View},
};
use crate::store::Key;

pub(crate) struct Accounts;

impl Controller for Accounts {
    const NAME: &'static str = "serviceaccount";
    const WORKERS: usize = 1;

    fn wake(_: &View, touched: &Touched, keys: &mut BTreeSet<Key>) {
        match touched {
            Touched::Namespace(delta) => keys.insert(delta.key.clone()),
            Touched::Account(delta) if delta.new.is_none() => {
                keys.insert(Key::new(NAMESPACES, "", &delta.key.namespace))
            }
            _ => return,
        };
    }

    fn all(view: &View) -> BTreeSet<Key> {
        view.namespaces.iter().map(|namespace| namespace.key.clone()).collect()
    }

    async fn look(io: &Io, key: &Key) -> Outcome {
        match io.index.read(|view| decide::decide(view, key)) {
            Some(action) => apply::apply(io, action).await,
            None => Outcome::Settled,
        }
    }
}
