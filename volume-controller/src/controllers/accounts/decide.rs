//! Whether a namespace lacks its account.

use crate::{
    controllers::view::{ACCOUNTS, At, View, is_deleting},
    store::Key,
};

/// The account's name.
pub(crate) const DEFAULT: &str = "default";

/// One step.
#[derive(Debug, Clone, PartialEq)]
pub(crate) enum Action {
    /// Create the account in this namespace, if that is still as it was.
    Create(At),
}

/// `None` for a namespace that goes, or has it.
pub(crate) fn decide(view: &View, key: &Key) -> Option<Action> {
    let namespace = view.namespaces.at(key).filter(|namespace| !is_deleting(&namespace.metadata))?;
    let account = Key::new(ACCOUNTS, &key.name, DEFAULT);
    view.accounts.at(&account).is_none().then(|| Action::Create(namespace.at()))
}
