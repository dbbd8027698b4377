use proptest::prelude::*;
use serde_json::json;

use super::*;

fn set(value: &Value) -> FieldSet {
    FieldSet::from_json(value).unwrap()
}

fn shown(set: &FieldSet) -> Vec<String> {
    set.paths().iter().map(ToString::to_string).collect()
}

#[test]
fn there_and_back() {
    for json in [
        json!({}),
        json!({"f:a": {}}),
        json!({"f:a": {".": {}, "f:b": {}}}),
        json!({"f:a": {"f:b": {}}}),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"a\"}": {".": {}, "f:image": {}}}}}),
        json!({"f:metadata": {"f:finalizers": {".": {}, "v:\"x/y\"": {}}}}),
    ] {
        assert_eq!(set(&json).to_json(), json);
    }
    // Other spellings, and what a later version may add.
    let odd = json!({"f:a": {"k:{\"b\":1, \"a\":2}": {}, "z:new": {"f:x": {}}}});
    assert_eq!(set(&odd).to_json(), json!({"f:a": {"k:{\"a\":2,\"b\":1}": {}}}));
    assert_eq!(set(&Value::Null), FieldSet::default());
    for wrong in [json!([]), json!({"f:a": 1}), json!({"a": {}}), json!({"v:{": {}})] {
        assert!(FieldSet::from_json(&wrong).is_err(), "{wrong}");
    }
}

#[test]
fn algebra() {
    let a = set(&json!({"f:a": {".": {}, "f:b": {}, "f:c": {"f:d": {}}}, "f:x": {}}));
    let b = set(&json!({"f:a": {"f:b": {}, "f:e": {}}, "f:x": {".": {}, "f:y": {}}}));
    for (name, result, expected) in [
        ("union", a.clone().union(&b), vec![".a", ".x", ".a.b", ".a.e", ".a.c.d", ".x.y"]),
        ("intersection", a.intersection(&b), vec![".x", ".a.b"]),
        ("difference", a.difference(&b), vec![".a", ".a.c.d"]),
        ("the other way", b.difference(&a), vec![".a.e", ".x.y"]),
        // A parent does not take its children along.
        ("parent", b.difference(&set(&json!({"f:a": {}}))), vec![".x", ".a.b", ".a.e", ".x.y"]),
    ] {
        assert_eq!(shown(&result), expected, "{name}");
    }
    assert!(a.difference(&a).is_empty());
    for (tree, left) in [
        (&["a"][..], vec![".x"]),
        (&["a", "c"], vec![".a", ".x", ".a.b"]),
        (&["a", "c", "d"], vec![".a", ".x", ".a.b"]),
        (&["a", "z"], vec![".a", ".x", ".a.b", ".a.c.d"]),
    ] {
        let mut rest = a.clone();
        rest.remove_tree(tree);
        assert_eq!(shown(&rest), left, "{tree:?}");
        assert_eq!(FieldSet::from_json(&rest.to_json()).unwrap(), rest);
    }
    let mut kept = b.clone();
    kept.keep_tree("x");
    assert_eq!(shown(&kept), [".x", ".x.y"]);
    for path in a.paths() {
        assert!(a.has(&path), "{path}");
    }
    assert!(!a.has(&b.difference(&a).paths()[0]));
    assert_eq!(FieldSet::of_names(&[&["a"], &["a", "b"]]), set(&json!({"f:a": {".": {}, "f:b": {}}})));
}

fn any_set() -> impl Strategy<Value = FieldSet> {
    let element = prop_oneof![
        "[a-c]".prop_map(|name| Element::field(&name)),
        any::<bool>().prop_map(|v| Element::value(&json!(v)))
    ];
    let path = prop::collection::vec(element, 1..4);
    prop::collection::vec(path, 0..8).prop_map(|paths| {
        let mut set = FieldSet::default();
        paths.iter().for_each(|path| set.insert(path));
        set
    })
}

proptest! {
    #[test]
    fn sets_are_sets(a in any_set(), b in any_set()) {
        let members = |set: &FieldSet| set.paths().into_iter().collect::<std::collections::BTreeSet<Path>>();
        let (left, right) = (members(&a), members(&b));
        prop_assert_eq!(members(&a.clone().union(&b)), left.union(&right).cloned().collect());
        prop_assert_eq!(members(&a.intersection(&b)), left.intersection(&right).cloned().collect());
        prop_assert_eq!(members(&a.difference(&b)), left.difference(&right).cloned().collect());
        prop_assert_eq!(FieldSet::from_json(&a.to_json()).unwrap(), a.clone());
        prop_assert_eq!(a.difference(&b).union(&a.intersection(&b)), a);
    }
}
