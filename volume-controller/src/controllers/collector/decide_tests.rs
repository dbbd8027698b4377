//! The table of what goes with what it belongs to.

use serde_json::{Value, json};

use super::{
    decide::{Action, Standing, decide},
    graph::{Graph, Owner},
    reason::Reason,
};
use crate::{
    controllers::view::fixture::*,
    store::{Guard, Key, Precondition},
};

/// A claim that belongs to these, each by its name; `!` after it: it waits for this one.
fn owned(name: &str, owners: &[&str]) -> Made {
    let reference = |owner: &&str| {
        let (name, blocks) = owner.strip_suffix('!').map_or((*owner, false), |name| (name, true));
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "name": name, "uid": format!("uid-{name}"),
            "blockOwnerDeletion": blocks,
        })
    };
    claim(name).set("metadata.ownerReferences", Value::from_iter(owners.iter().map(reference)))
}

fn going(made: Made, finalizer: &str) -> Made {
    made.deleting().finalizer(finalizer)
}

fn gone(name: &str) -> Guard {
    Guard { key: of_claim(name), precondition: Precondition::Absent }
}

/// By an owner's name: `gone…`, `strange…` and `far…` are what they are called, all others are there.
fn standing(owner: &Owner, _: &Key) -> Standing {
    match owner.name.as_str() {
        name if name.starts_with("gone") => Standing::Gone(gone(name)),
        name if name.starts_with("strange") => Standing::Unknown,
        name if name.starts_with("far") => Standing::OutOfReach,
        _ => Standing::There,
    }
}

#[expect(clippy::unnecessary_wraps, reason = "each is what a decision is")]
fn delete(foreground: bool, absent: &[&str]) -> Option<Action> {
    let guards = absent.iter().map(|name| gone(name)).collect();
    Some(Action::Delete { object: at(of_claim("x")), foreground, guards })
}

#[expect(clippy::unnecessary_wraps, reason = "each is what a decision is")]
fn unlink(objects: &[&str], owners: &[&str], absent: &[&str]) -> Option<Action> {
    Some(Action::Unlink {
        objects: objects.iter().map(|name| at(of_claim(name))).collect(),
        uids: owners.iter().map(|name| format!("uid-{name}")).collect(),
        guards: absent.iter().map(|name| gone(name)).collect(),
    })
}

#[expect(clippy::unnecessary_wraps, reason = "each is what a decision is")]
fn release(finalizer: &'static str) -> Option<Action> {
    Some(Action::Release { object: at(of_claim("x")), finalizer })
}

#[test]
fn table() {
    let foreground = |made: Made| going(made, "foregroundDeletion");
    let orphan = |made: Made| going(made, "orphan");
    let far = Reason::OutOfReach { kind: "PersistentVolumeClaim".to_owned(), name: "far".to_owned() };
    for (number, why, objects, expected) in [
        (1, "it is not there", vec![], None),
        (2, "it belongs to nobody", vec![claim("x")], None),
        (3, "its owner is there", vec![owned("x", &["a"])], None),
        (4, "its owner is gone", vec![owned("x", &["gone"])], delete(false, &["gone"])),
        (5, "both are gone", vec![owned("x", &["gone", "gone2"])], delete(false, &["gone", "gone2"])),
        (6, "one of two is gone", vec![owned("x", &["gone", "a"])], unlink(&["x"], &["gone"], &["gone"])),
        (7, "of one nobody knows what it is", vec![owned("x", &["strange"])], None),
        (8, "that one may be there", vec![owned("x", &["gone", "strange"])], None),
        (9, "it goes already", vec![owned("x", &["gone"]).deleting().finalizer("y")], None),
        (
            10,
            "it has no namespace and its owner has",
            vec![owned("x", &["far"])],
            Some(Action::Tell { object: at(of_claim("x")), reason: far }),
        ),
        (11, "its owner waits for it", vec![owned("x", &["a!"]), foreground(claim("a"))], delete(false, &[])),
        (
            12,
            "its owner goes and does not wait",
            vec![owned("x", &["a!"]), claim("a").deleting().finalizer("y")],
            None,
        ),
        (
            13,
            "its owner waits, and it has dependents itself: they go first",
            vec![owned("x", &["a!"]), foreground(claim("a")), owned("z", &["x!"])],
            delete(true, &[]),
        ),
        (
            14,
            "one owner waits, another one is there",
            vec![owned("x", &["a!", "b"]), foreground(claim("a"))],
            unlink(&["x"], &["a"], &[]),
        ),
        (
            15,
            "one owner waits, the other is gone",
            vec![owned("x", &["a!", "gone"]), foreground(claim("a"))],
            delete(false, &["gone"]),
        ),
        (16, "nobody belongs to it any more", vec![foreground(claim("x"))], release("foregroundDeletion")),
        (17, "somebody does", vec![foreground(claim("x")), owned("z", &["x!"])], None),
        (
            18,
            "somebody does whom it does not wait for",
            vec![foreground(claim("x")), owned("z", &["x"])],
            release("foregroundDeletion"),
        ),
        (19, "nobody is left to let go", vec![orphan(claim("x"))], release("orphan")),
        (
            20,
            "it lets go",
            vec![orphan(claim("x")), owned("y", &["x"]), owned("z", &["x", "a"])],
            unlink(&["y", "z"], &["x"], &[]),
        ),
        (21, "its owner lets go of it", vec![owned("x", &["a"]), orphan(claim("a"))], None),
        (
            22,
            "they would wait for each other",
            vec![owned("x", &["a!"]), foreground(owned("a", &["x!"]))],
            Some(Action::Unblock { object: at(of_claim("x")) }),
        ),
        (
            23,
            "they do not any more",
            vec![owned("x", &["a"]), foreground(owned("a", &["x!"]))],
            delete(true, &[]),
        ),
        (
            24,
            "it was to go before its own dependents",
            vec![owned("x", &["gone"]).finalizer("foregroundDeletion")],
            delete(true, &["gone"]),
        ),
    ] {
        let mut graph = Graph::default();
        for made in &objects {
            graph.put(&made.stored(REVISION));
        }
        assert_eq!(decide(&graph, standing, &of_claim("x")), expected, "case {number}: {why}");
    }
}

/// Whatever the order in which objects come and go, the graph is that of those that are there.
#[test]
fn the_graph_forgets() {
    let mut graph = Graph::default();
    let objects = [owned("x", &["a!", "b"]), owned("y", &["x!"]), going(claim("a"), "foregroundDeletion")];
    for made in objects.iter().chain(objects.iter().rev()) {
        graph.put(&made.stored(REVISION));
    }
    assert_eq!(graph.dependents("uid-a").count(), 1);
    // It is told whoever has to look: those that belong to it, and the owner that waited for it.
    let woken = graph.remove(&of_claim("x"), "uid-x");
    assert_eq!(woken.into_iter().collect::<Vec<_>>(), [of_claim("a"), of_claim("y")]);
    assert_eq!(graph.dependents("uid-a").count(), 0);
    // A write that takes the references off.
    graph.put(&claim("y").stored(REVISION));
    graph.put(&claim("a").stored(REVISION));
    assert_eq!(graph.keys().count(), 0);
    assert!(!graph.has_dependents("uid-x"));
}
