//! The table of namespaces.

use serde_json::json;

use super::decide::{Action, Content, decide};
use crate::{
    controllers::view::{NAMESPACES, fixture::*},
    store::Key,
};

#[test]
fn table() {
    let key = Key::new(NAMESPACES, "", SPACE);
    let content = |name: &str, deleting| Content { at: at(of_pod(name)), deleting, grace: 30 };
    let going = || vec![namespace(SPACE).deleting()];
    let held_by_others =
        || namespace(SPACE).deleting().set("spec.finalizers", json!(["example.com/content"]));
    let (open, closing) = (|| content("p", false), || content("q", true));
    for (number, why, objects, found, expected) in [
        (1, "it is not there", vec![], vec![open()], None),
        (2, "it stays", vec![namespace(SPACE)], vec![open()], None),
        (3, "it stays, empty", vec![namespace(SPACE)], vec![], None),
        (4, "it goes and is empty", going(), vec![], Some(Action::Finish(at(key.clone())))),
        (8, "it goes and its content is settled", vec![held_by_others()], vec![], None),
        (9, "and stays settled", vec![held_by_others()], vec![open()], None),
        (5, "it goes with what is in it", going(), vec![open()], Some(Action::Empty(vec![open()]))),
        (6, "what goes already is waited for", going(), vec![closing()], Some(Action::Await)),
        (
            7,
            "only what does not go yet is told to",
            going(),
            vec![open(), closing()],
            Some(Action::Empty(vec![open()])),
        ),
    ] {
        assert_eq!(decide(&view(&objects), &key, &found), expected, "case {number}: {why}");
    }
}
