use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apiserver::kinds;

fn pod(patch: &Value, object: &Value) -> Result<Value, PatchError> {
    strategic(&kinds::pod::KIND, object, patch)
}

#[test]
fn json_patches() {
    let object = json!({"metadata": {"labels": {"a/b": "c"}}, "list": [1, 2]});
    let ok = |patch: Value| json(&object, &patch).unwrap();
    assert_eq!(
        ok(json!([{"op": "remove", "path": "/metadata/labels/a~1b"}]))["metadata"],
        json!({"labels": {}})
    );
    assert_eq!(ok(json!([{"op": "add", "path": "/list/-", "value": 3}]))["list"], json!([1, 2, 3]));
    assert_eq!(ok(json!([{"op": "test", "path": "/list/0", "value": 1}])), object);
    for patch in [
        json!([{"op": "test", "path": "/list/0", "value": 9}]),
        json!([{"op": "remove", "path": "/missing"}]),
        json!([{"op": "replace", "path": "/list/7", "value": 9}]),
    ] {
        assert!(matches!(json(&object, &patch), Err(PatchError::Unprocessable(_))), "{patch}");
    }
    for patch in [json!({}), json!([{"op": "shuffle", "path": "/a"}]), json!([{"op": "add"}])] {
        assert!(matches!(json(&object, &patch), Err(PatchError::Malformed(_))), "{patch}");
    }
}

#[test]
fn failures_name_their_operation_and_copies_are_limited() {
    let object = json!({"a": {"x": "y".repeat(1000)}});
    let patch =
        json!([{"op": "test", "path": "/a/x", "value": object["a"]["x"]}, {"op": "remove", "path": "/b"}]);
    let Err(PatchError::Unprocessable(why)) = json(&object, &patch) else { panic!("applied") };
    assert!(why.contains("'/1'"), "{why}");
    let doubling: Vec<Value> =
        (0..40).map(|n| json!({"op": "copy", "from": "/a", "path": format!("/a/{n}")})).collect();
    assert_eq!(json(&object, &json!(doubling[..5])).unwrap()["a"]["4"]["3"]["x"], object["a"]["x"]);
    assert!(matches!(json(&object, &json!(doubling)), Err(PatchError::Unprocessable(_))));
}

#[test]
fn the_elements_that_a_json_patch_moves_are_counted() {
    let object = json!({"list": [1, 2, 3, 4], "map": {"0": 1}});
    for (operation, expected) in [
        (json!({"op": "add", "path": "/list/0", "value": 0}), 4),
        (json!({"op": "add", "path": "/list/4", "value": 0}), 0),
        (json!({"op": "add", "path": "/list/-", "value": 0}), 0),
        (json!({"op": "add", "path": "/map/0", "value": 0}), 0),
        (json!({"op": "add", "path": "", "value": 0}), 0),
        (json!({"op": "remove", "path": "/list/1"}), 3),
        (json!({"op": "move", "from": "/list/3", "path": "/list/0"}), 5),
        (json!({"op": "copy", "from": "/map/0", "path": "/list/2"}), 2),
        (json!({"op": "replace", "path": "/list/0", "value": 9}), 0),
    ] {
        let read: PatchOperation = serde_json::from_value(operation.clone()).unwrap();
        assert_eq!(moves(&object, &read), expected, "{operation}");
    }
    let long = json!({"list": vec![0; 100_000]});
    let insert = |count: usize, path: &str| {
        json!((0..count).map(|_| json!({"op": "add", "path": path, "value": 1})).collect::<Vec<_>>())
    };
    let Err(PatchError::Unprocessable(why)) = json(&long, &insert(101, "/list/0")) else { panic!("applied") };
    assert!(why.contains("10000000"), "{why}");
    assert!(json(&long, &insert(90, "/list/0")).is_ok());
    assert!(json(&long, &insert(1000, "/list/-")).is_ok());
}

/// The examples of RFC 7386, appendix A.
#[test]
fn merge_patches() {
    for (object, patch, expected) in [
        (json!({"a": "b"}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "b"}), json!({"b": "c"}), json!({"a": "b", "b": "c"})),
        (json!({"a": "b"}), json!({"a": null}), json!({})),
        (json!({"a": "b", "b": "c"}), json!({"a": null}), json!({"b": "c"})),
        (json!({"a": ["b"]}), json!({"a": "c"}), json!({"a": "c"})),
        (json!({"a": "c"}), json!({"a": ["b"]}), json!({"a": ["b"]})),
        (json!({"a": {"b": "c"}}), json!({"a": {"b": "d", "c": null}}), json!({"a": {"b": "d"}})),
        (json!({"a": [{"b": "c"}]}), json!({"a": [1]}), json!({"a": [1]})),
        (json!({"e": null}), json!({"a": 1}), json!({"e": null, "a": 1})),
        (json!({}), json!({"a": {"bb": {"ccc": null}}}), json!({"a": {"bb": {}}})),
    ] {
        assert_eq!(merge(&object, &patch), expected, "{object} + {patch}");
    }
}

#[test]
fn strategic_cases() {
    let containers = |list: Value| json!({"spec": {"containers": list}});
    let volumes = |list: Value| json!({"spec": {"volumes": list}});
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    for (name, object, patch, expected) in [
        (
            "plain fields merge, null removes",
            json!({"metadata": {"labels": {"a": "1", "b": "2"}}}),
            json!({"metadata": {"labels": {"a": null, "c": "3"}}}),
            json!({"metadata": {"labels": {"b": "2", "c": "3"}}}),
        ),
        (
            "null for what is not there",
            json!({"metadata": {}}),
            json!({"metadata": {"labels": {"a": null}, "annotations": null}}),
            json!({"metadata": {"labels": {}}}),
        ),
        (
            "containers merge by name",
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "1"}])),
            containers(json!([{"name": "b", "image": "2"}])),
            containers(json!([{"name": "a", "image": "1"}, {"name": "b", "image": "2"}])),
        ),
        (
            "nested lists merge too",
            containers(json!([{"name": "a", "env": [{"name": "X", "value": "1"}], "args": ["p", "q"]}])),
            containers(json!([{"name": "a", "env": [{"name": "Y", "value": "2"}], "args": ["r"]}])),
            containers(
                json!([{"name": "a", "env": [{"name": "Y", "value": "2"}, {"name": "X", "value": "1"}], "args": ["r"]}]),
            ),
        ),
        (
            "delete one element",
            containers(json!([{"name": "a"}, {"name": "b"}])),
            containers(json!([{"name": "a", "$patch": "delete"}])),
            containers(json!([{"name": "b"}])),
        ),
        (
            "replace the list",
            containers(json!([{"name": "a"}, {"name": "b"}])),
            containers(json!([{"name": "c"}, {"$patch": "replace"}])),
            containers(json!([{"name": "c"}])),
        ),
        (
            "replace an object",
            json!({"spec": {"nodeSelector": {"a": "1"}}}),
            json!({"spec": {"nodeSelector": {"b": "2", "$patch": "replace"}}}),
            json!({"spec": {"nodeSelector": {"b": "2"}}}),
        ),
        (
            "delete an object's fields",
            json!({"spec": {"nodeSelector": {"a": "1"}}}),
            json!({"spec": {"nodeSelector": {"$patch": "delete"}}}),
            json!({"spec": {"nodeSelector": {}}}),
        ),
        (
            "the order that kubectl apply asks for",
            containers(json!([{"name": "a"}, {"name": "b"}, {"name": "c"}])),
            json!({"spec": {
                "$setElementOrder/containers": [{"name": "c"}, {"name": "a"}, {"name": "new"}],
                "containers": [{"name": "new", "image": "i"}, {"name": "b", "$patch": "delete"}],
            }}),
            containers(json!([{"name": "c"}, {"name": "a"}, {"name": "new", "image": "i"}])),
        ),
        (
            "elements that only the server has stay where they were",
            containers(json!([{"name": "injected"}, {"name": "a"}, {"name": "b"}])),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}, {"name": "b"}]}}),
            containers(json!([{"name": "injected"}, {"name": "a"}, {"name": "b"}])),
        ),
        (
            "an order for a list that is not there",
            json!({"spec": {}}),
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}]}}),
            json!({"spec": {}}),
        ),
        (
            "another source for a volume",
            volumes(json!([{"name": "v", "emptyDir": {}}])),
            volumes(
                json!([{"name": "v", "$retainKeys": ["name", "persistentVolumeClaim"], "persistentVolumeClaim": {"claimName": "c"}}]),
            ),
            volumes(json!([{"name": "v", "persistentVolumeClaim": {"claimName": "c"}}])),
        ),
        (
            "a volume that was not there comes without its directives",
            json!({"spec": {}}),
            volumes(json!([{"name": "v", "$retainKeys": ["name", "emptyDir"], "emptyDir": {}}])),
            volumes(json!([{"name": "v", "emptyDir": {}}])),
        ),
        (
            "values join",
            finalizers(json!(["a"])),
            finalizers(json!(["a", "b"])),
            finalizers(json!(["a", "b"])),
        ),
        (
            "values leave",
            finalizers(json!(["a", "b", "c"])),
            json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["b"], "$setElementOrder/finalizers": ["a", "c"]}}),
            finalizers(json!(["a", "c"])),
        ),
        (
            "an atomic list is replaced",
            json!({"spec": {"tolerations": [{"key": "a"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
            json!({"spec": {"tolerations": [{"key": "b"}]}}),
        ),
        (
            "conditions by type",
            json!({"status": {"conditions": [{"type": "A", "status": "False"}]}}),
            json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}}),
            json!({"status": {"conditions": [{"type": "A", "status": "True"}, {"type": "B", "status": "True"}]}}),
        ),
        (
            "owners by uid",
            json!({"metadata": {"ownerReferences": [{"uid": "1", "name": "a"}, {"uid": "2", "name": "b"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "1", "$patch": "delete"}]}}),
            json!({"metadata": {"ownerReferences": [{"uid": "2", "name": "b"}]}}),
        ),
        (
            "ports by number",
            containers(json!([{"name": "a", "ports": [{"containerPort": 1, "name": "x"}]}])),
            containers(json!([{"name": "a", "ports": [{"containerPort": 1, "name": "y"}]}])),
            containers(json!([{"name": "a", "ports": [{"containerPort": 1, "name": "y"}]}])),
        ),
    ] {
        assert_eq!(pod(&patch, &object), Ok(expected), "{name}");
    }
}

#[test]
fn strategic_mistakes() {
    let object = json!({"metadata": {}, "spec": {"containers": [{"name": "a"}], "volumes": [{"name": "v", "emptyDir": {}}]}});
    for (patch, part) in [
        (json!([]), "is an object"),
        (json!({"$patch": "explode"}), "\"explode\""),
        (json!({"spec": {"containers": [{"image": "i"}]}}), "merge key: name"),
        (json!({"spec": {"containers": ["a"]}}), "must be objects"),
        (json!({"spec": {"containers": [{"name": "a", "$patch": "explode"}]}}), "\"explode\""),
        (json!({"spec": {"$setElementOrder/containers": {}}}), "must be a list"),
        (
            json!({"spec": {"$setElementOrder/containers": [{"name": "a"}], "containers": [{"name": "b"}]}}),
            "does not name",
        ),
        (json!({"spec": {"$setElementOrder/tolerations": []}}), "not one that merges"),
        (
            json!({"spec": {"volumes": [{"name": "v", "$retainKeys": ["name"], "hostPath": {"path": "/"}}]}}),
            "hostPath",
        ),
        (json!({"metadata": {"$deleteFromPrimitiveList/finalizers": "a"}}), "must be a list"),
    ] {
        match pod(&patch, &object) {
            Err(PatchError::Malformed(message)) => assert!(message.contains(part), "{patch}: {message}"),
            other => panic!("{patch}: {other:?}"),
        }
    }
}

#[test]
fn other_kinds() {
    let apply = |kind: &Kind, object: Value, patch: Value| strategic(kind, &object, &patch).unwrap();
    assert_eq!(
        apply(
            &kinds::persistent_volume_claim::KIND,
            json!({"spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}}}}),
            json!({"spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "2Gi"}}}}),
        ),
        json!({"spec": {"accessModes": ["ReadOnlyMany"], "resources": {"requests": {"storage": "2Gi"}}}})
    );
    assert_eq!(
        apply(
            &kinds::csi_node::KIND,
            json!({"spec": {"drivers": [{"name": "a", "nodeID": "1"}, {"name": "b", "nodeID": "1"}]}}),
            json!({"spec": {"drivers": [{"name": "a", "$patch": "delete"}]}}),
        ),
        json!({"spec": {"drivers": [{"name": "b", "nodeID": "1"}]}})
    );
}

/// JSON without nulls, as objects are stored.
fn value() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        any::<bool>().prop_map(Value::from),
        any::<i8>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from)
    ];
    leaf.prop_recursive(4, 24, 4, |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map("[a-d]", inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn object() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-d]", value(), 0..5)
        .prop_map(|map| Value::Object(map.into_iter().collect()))
}

/// The merge patch that makes `to` of `from`.
fn diff(from: &Value, to: &Value) -> Value {
    let (Value::Object(from), Value::Object(to)) = (from, to) else { return to.clone() };
    let gone = from.keys().filter(|key| !to.contains_key(*key)).map(|key| (key.clone(), Value::Null));
    let changed = to.iter().filter(|(key, value)| from.get(*key) != Some(value)).map(|(key, value)| {
        (key.clone(), from.get(key).map_or_else(|| value.clone(), |before| diff(before, value)))
    });
    Value::Object(gone.chain(changed).collect())
}

/// Lists of named objects, each name once.
fn named() -> impl Strategy<Value = Value> {
    prop::collection::btree_map("[a-e]", "[a-c]{1,2}", 0..5).prop_map(|map| {
        Value::Array(map.into_iter().map(|(name, image)| json!({"name": name, "image": image})).collect())
    })
}

proptest! {
    #[test]
    fn merging_a_difference_makes_the_other(from in object(), to in object()) {
        prop_assert_eq!(merge(&from, &diff(&from, &to)), to);
    }

    #[test]
    fn merging_is_idempotent(from in object(), to in object()) {
        let patch = diff(&from, &to);
        let once = merge(&from, &patch);
        prop_assert_eq!(merge(&once, &patch), once);
    }

    #[test]
    fn an_empty_patch_changes_nothing(from in object()) {
        prop_assert_eq!(&merge(&from, &json!({})), &from);
        prop_assert_eq!(pod(&json!({}), &from).unwrap(), from);
    }

    /// Where no list of the kind merges, a strategic patch is a merge patch.
    #[test]
    fn strategic_is_merge_elsewhere(from in object(), to in object()) {
        let patch = diff(&from, &to);
        prop_assert_eq!(pod(&patch, &from).unwrap(), merge(&from, &patch));
    }

    #[test]
    fn named_lists_are_sets(before in named(), change in named()) {
        let wrap = |list: &Value| json!({"spec": {"containers": list}});
        let merged = pod(&wrap(&change), &wrap(&before)).unwrap();
        let merged = merged["spec"]["containers"].as_array().unwrap();
        let find = |list: &Value, name: &Value| list.as_array().unwrap().iter().find(|c| c["name"] == *name).cloned();
        for element in change.as_array().unwrap() {
            prop_assert!(merged.contains(element));
        }
        for element in before.as_array().unwrap() {
            prop_assert!(find(&change, &element["name"]).is_some() || merged.contains(element));
        }
        for element in merged {
            prop_assert_eq!(merged.iter().filter(|other| other["name"] == element["name"]).count(), 1);
        }
        let once = wrap(&json!(merged));
        prop_assert_eq!(pod(&wrap(&change), &once).unwrap(), once);
    }

    #[test]
    fn never_panics(object in object(), patch in object()) {
        let _ = json(&object, &patch);
        let _ = pod(&patch, &object);
    }
}
