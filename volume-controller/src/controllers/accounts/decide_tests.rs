//! The table of accounts.

use super::decide::{Action, decide};
use crate::{
    controllers::view::{NAMESPACES, fixture::*},
    store::Key,
};

#[test]
fn table() {
    let key = Key::new(NAMESPACES, "", SPACE);
    let lacking = Some(Action::Create(at(key.clone())));
    for (number, why, objects, expected) in [
        (1, "it is not there", vec![], None),
        (2, "it has none", vec![namespace(SPACE)], lacking.clone()),
        (3, "it has another", vec![namespace(SPACE), account("robot")], lacking),
        (4, "it has it", vec![namespace(SPACE), account("default")], None),
        (5, "it goes", vec![namespace(SPACE).deleting()], None),
    ] {
        assert_eq!(decide(&view(&objects), &key), expected, "case {number}: {why}");
    }
}
