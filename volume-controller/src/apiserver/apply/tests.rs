//! Applies and updates of several managers, as sequences of steps on one object.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apiserver::kinds::{config_map, persistent_volume, persistent_volume_claim, pod};

/// An object and who owns it, without a server around it.
struct World {
    kind: &'static Kind,
    object: Option<Value>,
    second: i64,
}

impl World {
    fn new(kind: &'static Kind) -> Self {
        Self { kind, object: None, second: 0 }
    }

    fn whole(&self, config: &Value) -> Value {
        let mut whole =
            json!({"apiVersion": self.kind.api_version(), "kind": self.kind.kind, "metadata": {"name": "a"}});
        json_patch::merge(&mut whole, config);
        whole
    }

    fn now(&mut self) -> Timestamp {
        self.second += 1;
        Timestamp::from_second(self.second).unwrap()
    }

    fn apply_with(&mut self, name: &str, force: bool, config: &Value) -> Result<(), String> {
        let config = self.whole(config);
        assert_eq!(faults(self.kind, &config), Vec::<String>::new());
        let now = self.now();
        let mut live = self.object.clone();
        let version = self.kind.api_version();
        let owners = live.as_mut().and_then(take).unwrap_or_default();
        let owners = Owners::decode(&owners, &version).unwrap();
        let applier = Applier { kind: self.kind, reach: Reach::Main, subresource: "", name, force, now };
        let Applied { mut object, owners } =
            applier.apply(live.as_ref(), owners, &config).map_err(|c| message(&c, &version))?;
        object["metadata"]["uid"] = json!("u");
        record(self.kind, owners, &mut object);
        self.object = Some(object);
        Ok(())
    }

    #[track_caller]
    fn apply(&mut self, name: &str, config: &Value) {
        self.apply_with(name, false, config).unwrap();
    }

    fn update(&mut self, name: &str, edit: impl FnOnce(&mut Value)) {
        let now = self.now();
        let before = self.object.clone();
        let mut new = before.clone().unwrap_or_else(|| self.whole(&json!({})));
        edit(&mut new);
        let writer = Writer { name, subresource: "", reach: Reach::Main };
        track(self.kind, writer, before.as_ref(), &mut new, now);
        self.object = Some(new);
    }

    fn at(&self, pointer: &str) -> Value {
        self.object.as_ref().unwrap().pointer(pointer).cloned().unwrap_or_default()
    }

    /// The fields of a manager.
    fn of(&self, name: &str, operation: &str) -> Value {
        let list = self.at("/metadata/managedFields");
        let mut entries = list.as_array().into_iter().flatten();
        let entry = entries.find(|entry| entry["manager"] == name && entry["operation"] == operation);
        entry.map(|entry| entry["fieldsV1"].clone()).unwrap_or_default()
    }
}

fn data(pairs: &[(&str, &str)]) -> Value {
    json!({"data": pairs.iter().map(|(key, value)| ((*key).to_owned(), json!(value))).collect::<serde_json::Map<_, _>>()})
}

#[test]
fn fields_that_are_applied_no_more_go() {
    let mut world = World::new(&config_map::KIND);
    world.apply("one", &data(&[("a", "1"), ("b", "1")]));
    assert_eq!(world.of("one", "Apply"), json!({"f:data": {"f:a": {}, "f:b": {}}}));
    world.apply("one", &data(&[("a", "1")]));
    assert_eq!(world.at("/data"), json!({"a": "1"}));
    assert_eq!(world.of("one", "Apply"), json!({"f:data": {"f:a": {}}}));
    // What an update added is not the applier's to remove.
    world.update("edit", |object| object["data"]["c"] = json!("2"));
    assert_eq!(world.of("edit", "Update"), json!({"f:data": {"f:c": {}}}));
    world.apply("one", &data(&[("a", "2")]));
    assert_eq!(world.at("/data"), json!({"a": "2", "c": "2"}));
    // Nothing left to want: what the applier owned goes, and it with it.
    world.apply("one", &json!({}));
    assert_eq!(world.at("/data"), json!({"c": "2"}));
    assert_eq!(world.of("one", "Apply"), Value::Null);
}

#[test]
fn shared_fields_stay_until_nobody_wants_them() {
    let mut world = World::new(&config_map::KIND);
    world.apply("one", &data(&[("a", "1"), ("b", "1")]));
    world.apply("two", &data(&[("a", "1")]));
    world.apply("one", &data(&[("b", "1")]));
    assert_eq!(world.at("/data"), json!({"a": "1", "b": "1"}));
    world.apply("two", &json!({}));
    assert_eq!(world.at("/data"), json!({"b": "1"}));
}

#[test]
fn conflicts() {
    let mut world = World::new(&config_map::KIND);
    world.apply("one", &data(&[("a", "1"), ("b", "1")]));
    world.update("edit", |object| object["data"]["b"] = json!("2"));
    assert_eq!(world.of("one", "Apply"), json!({"f:data": {"f:a": {}}}));
    let before = world.object.clone();
    let refused = world.apply_with("one", false, &data(&[("a", "1"), ("b", "1")])).unwrap_err();
    assert_eq!(refused, r#"Apply failed with 1 conflict: conflict with "edit" using v1: .data.b"#);
    assert_eq!(world.object, before);
    // To want what is there is no conflict: both own it.
    world.apply("one", &data(&[("a", "1"), ("b", "2")]));
    assert_eq!(world.of("edit", "Update"), json!({"f:data": {"f:b": {}}}));
    let refused = world.apply_with("three", false, &data(&[("a", "3"), ("b", "3")])).unwrap_err();
    assert_eq!(
        refused,
        "Apply failed with 3 conflicts: conflicts with \"edit\" using v1:\n- .data.b\nconflicts with \"one\":\n- \
         .data.a\n- .data.b"
    );
    world.apply_with("three", true, &data(&[("a", "3"), ("b", "3")])).unwrap();
    assert_eq!(world.at("/data"), json!({"a": "3", "b": "3"}));
    assert_eq!((world.of("one", "Apply"), world.of("edit", "Update")), (Value::Null, Value::Null));
}

#[test]
fn lists_by_key() {
    let container = |name: &str, image: &str| json!({"name": name, "image": image});
    let spec = |containers: Value| json!({"spec": {"containers": containers}});
    let mut world = World::new(&pod::KIND);
    let mut main = container("main", "m:1");
    main["ports"] = json!([{"containerPort": 80}]);
    world.apply("app", &spec(json!([main])));
    assert_eq!(
        world.of("app", "Apply"),
        json!({"f:spec": {"f:containers": {"k:{\"name\":\"main\"}": {
            ".": {}, "f:name": {}, "f:image": {},
            "f:ports": {"k:{\"containerPort\":80,\"protocol\":\"TCP\"}": {".": {}, "f:containerPort": {}}},
        }}}})
    );
    world.apply("mesh", &spec(json!([container("proxy", "p:1")])));
    assert_eq!(world.at("/spec/containers"), json!([main, container("proxy", "p:1")]));
    // The element of another keeps its place, and its fields can be shared.
    let refused = world.apply_with("mesh", false, &spec(json!([container("main", "m:2")]))).unwrap_err();
    assert_eq!(
        refused,
        r#"Apply failed with 1 conflict: conflict with "app": .spec.containers[name="main"].image"#
    );
    world.apply("app", &spec(json!([container("init", "i"), container("main", "m:2")])));
    let names: Vec<Value> =
        world.at("/spec/containers").as_array().unwrap().iter().map(|c| c["name"].clone()).collect();
    assert_eq!(names, ["init", "main", "proxy"]);
    assert_eq!(world.at("/spec/containers/1"), container("main", "m:2"));
    world.apply("app", &spec(json!([container("main", "m:2")])));
    world.apply("mesh", &json!({}));
    assert_eq!(world.at("/spec/containers"), json!([container("main", "m:2")]));
    // What an update put into an element of the applier's stays with the element.
    world.update("edit", |pod| pod["spec"]["containers"][0]["tty"] = json!(true));
    world.apply("app", &spec(json!([container("main", "m:3")])));
    assert_eq!(world.at("/spec/containers/0/tty"), true);
}

#[test]
fn sets_and_values() {
    let mut world = World::new(&persistent_volume_claim::KIND);
    let finalizers = |list: Value| json!({"metadata": {"finalizers": list}});
    world.apply("one", &finalizers(json!(["x/a"])));
    world.apply("two", &finalizers(json!(["x/b", "x/c"])));
    assert_eq!(world.at("/metadata/finalizers"), json!(["x/a", "x/b", "x/c"]));
    assert_eq!(
        world.of("two", "Apply"),
        json!({"f:metadata": {"f:finalizers": {"v:\"x/b\"": {}, "v:\"x/c\"": {}}}})
    );
    world.apply("two", &finalizers(json!(["x/c"])));
    assert_eq!(world.at("/metadata/finalizers"), json!(["x/a", "x/c"]));
    // A list that is one value belongs to one.
    world.apply("one", &json!({"spec": {"accessModes": ["ReadWriteOnce"]}}));
    let refused =
        world.apply_with("two", false, &json!({"spec": {"accessModes": ["ReadOnlyMany"]}})).unwrap_err();
    assert!(refused.ends_with(r#"conflict with "one": .spec.accessModes"#), "{refused}");
    // An object that is one value, too.
    let selector = |value: &str| json!({"spec": {"selector": {"matchLabels": {"a": value}}}});
    world.apply("three", &selector("1"));
    assert_eq!(world.of("three", "Apply"), json!({"f:spec": {"f:selector": {}}}));
    assert!(world.apply_with("four", false, &selector("2")).is_err());
}

#[test]
fn objects_without_a_record() {
    let mut world = World::new(&config_map::KIND);
    world.object = Some(json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a", "uid": "u"}, "data": {"a": "1", "b": "1"},
    }));
    // Nothing is recorded before the first apply …
    world.update("edit", |object| object["data"]["c"] = json!("1"));
    assert_eq!(world.at("/metadata/managedFields"), Value::Null);
    // … which finds everything owned by nobody it knows.
    let refused = world.apply_with("one", false, &data(&[("a", "2")])).unwrap_err();
    assert!(refused.contains(r#"conflict with "before-first-apply" using v1: .data.a"#), "{refused}");
    world.apply("one", &data(&[("a", "1")]));
    assert_eq!(
        world.of("before-first-apply", "Update"),
        json!({"f:data": {".": {}, "f:a": {}, "f:b": {}, "f:c": {}}})
    );
    world.apply("one", &json!({}));
    assert_eq!(world.at("/data/a"), "1");
    // A client can take the record away.
    for reset in [json!([]), json!([{}])] {
        world.apply("one", &data(&[("a", "1")]));
        world.update("kubectl-edit", |object| object["metadata"]["managedFields"] = reset.clone());
        assert_eq!(world.at("/metadata/managedFields"), Value::Null);
    }
    // One that cannot be read, or none, changes nothing.
    world.apply("one", &data(&[("a", "1")]));
    let record = world.at("/metadata/managedFields");
    for odd in [Value::Null, json!([{"manager": "x"}])] {
        world.update("edit", |object| object["metadata"]["managedFields"] = odd);
        assert_eq!(world.at("/metadata/managedFields"), record);
    }
    world.update("edit", |object| object["metadata"]["managedFields"] = json!([record[0]]));
    assert_eq!(world.at("/metadata/managedFields"), json!([record[0]]));
}

#[test]
fn creates_and_updates_are_recorded() {
    let mut world = World::new(&persistent_volume_claim::KIND);
    world.update("kubectl-create", |claim| {
        claim["metadata"]["labels"] = json!({"a": "b"});
        claim["spec"] = json!({"accessModes": ["ReadWriteOnce"], "volumeMode": "Filesystem"});
        claim["status"] = json!({"phase": "Bound"});
    });
    let created = json!({
        "f:metadata": {"f:labels": {".": {}, "f:a": {}}},
        "f:spec": {"f:accessModes": {}, "f:volumeMode": {}},
    });
    assert_eq!(world.of("kubectl-create", "Update"), created);
    assert_eq!(world.at("/metadata/managedFields/0/time"), "1970-01-01T00:00:01Z");
    // What was written as it was changes neither owners nor times.
    let record = world.at("/metadata/managedFields");
    world.update("other", |_| {});
    world.update("kubectl-create", |_| {});
    assert_eq!(world.at("/metadata/managedFields"), record);
    world.update("other", |claim| claim["metadata"]["labels"]["a"] = json!("c"));
    assert_eq!(world.of("other", "Update"), json!({"f:metadata": {"f:labels": {"f:a": {}}}}));
    world.update("third", |claim| claim["metadata"]["labels"] = Value::Null);
    assert_eq!(world.of("other", "Update"), Value::Null);
    for (name, expected) in [("", "unknown"), ("x", "x")] {
        world.update(name, |claim| claim["metadata"]["annotations"] = json!({"by": name}));
        assert!(!world.of(expected, "Update").is_null(), "{expected}");
    }
}

#[test]
fn controllers_are_recorded_where_there_is_a_record() {
    let mut world = World::new(&persistent_volume::KIND);
    let wanted =
        json!({"spec": {"claimRef": {"namespace": "default", "name": "a"}, "storageClassName": "x"}});
    world.apply("me", &wanted);
    let bind = |world: &mut World| {
        let (now, live) = (world.now(), world.object.clone().unwrap());
        let mut new = live.clone();
        new["spec"]["claimRef"]["uid"] = json!("u");
        new["spec"]["storageClassName"] = json!("y");
        new["status"] = json!({"phase": "Bound"});
        track_server("persistentvolumes", &live, &mut new, now);
        world.object = Some(new);
    };
    bind(&mut world);
    let spec = json!({"f:spec": {"f:claimRef": {"f:uid": {}}, "f:storageClassName": {}}});
    assert_eq!(world.of(SERVER, "Update"), spec);
    let record = world.at("/metadata/managedFields");
    let status = record.as_array().unwrap().iter().find(|entry| entry["subresource"] == "status").unwrap();
    assert_eq!(
        (&status["manager"], &status["fieldsV1"]),
        (&json!(SERVER), &json!({"f:status": {"f:phase": {}}}))
    );
    // What the controller changed is not undone unasked, and what it added stays.
    let refused = world.apply_with("me", false, &wanted).unwrap_err();
    assert_eq!(
        refused,
        r#"Apply failed with 1 conflict: conflict with "holdfast" using v1: .spec.storageClassName"#
    );
    world.apply("me", &json!({"spec": {"claimRef": {"namespace": "default", "name": "a"}}}));
    assert_eq!(world.at("/spec/claimRef/uid"), "u");
    world.object.as_mut().map(take);
    bind(&mut world);
    assert_eq!(world.at("/metadata/managedFields"), Value::Null);
}

#[test]
fn client_side_applies_are_taken_over() {
    let mut world = World::new(&config_map::KIND);
    let last = json!({"apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": "a"}, "data": {"a": "1", "b": "1"}});
    world.update("kubectl-client-side-apply", |object| {
        object["data"] = last["data"].clone();
        object["metadata"]["annotations"] =
            json!({"kubectl.kubernetes.io/last-applied-configuration": last.to_string()});
    });
    world.update("edit", |object| object["data"]["b"] = json!("2"));
    let wanted = data(&[("a", "9"), ("b", "9")]);
    // Others do not get what was applied on the client's side.
    assert!(world.apply_with("other", false, &data(&[("a", "9")])).is_err());
    // kubectl does, but not what was changed since.
    let refused = world.apply_with("kubectl", false, &wanted).unwrap_err();
    assert_eq!(refused, r#"Apply failed with 1 conflict: conflict with "edit" using v1: .data.b"#);
    world.apply("kubectl", &data(&[("a", "9")]));
    let text = world.at("/metadata/annotations/kubectl.kubernetes.io~1last-applied-configuration");
    let renewed: Value = serde_json::from_str(text.as_str().unwrap()).unwrap();
    assert_eq!(renewed["data"], json!({"a": "9"}));
}

#[test]
fn what_cannot_be_applied() {
    for (kind, config, expected) in [
        (&config_map::KIND, json!({"dta": {}}), ".dta: field not declared in schema"),
        (&config_map::KIND, json!({"data": []}), ".data: expected map, got list"),
        (
            &pod::KIND,
            json!({"spec": {"containers": [{"name": "a"}, {"name": "b"}, {"name": "a"}]}}),
            r#".spec.containers: duplicate entries for key [name="a"]"#,
        ),
        (
            &pod::KIND,
            json!({"spec": {"containers": [{"name": "a", "ports": [{"containerPort": 1}, {"containerPort": 1, "protocol": "TCP"}]}]}}),
            r#".spec.containers[name="a"].ports: duplicate entries for key [containerPort=1,protocol="TCP"]"#,
        ),
        (&pod::KIND, json!({"spec": {"containers": {}}}), ".spec.containers: expected list, got map"),
        (
            &pod::KIND,
            json!({"metadata": {"finalizers": ["a", "a"]}}),
            r#".metadata.finalizers: duplicate entries for key [="a"]"#,
        ),
    ] {
        assert_eq!(faults(kind, &config), [expected]);
    }
}

fn any_config() -> impl Strategy<Value = Value> {
    let containers = prop::collection::btree_map(
        "[a-c]",
        (prop::option::of("[xy]"), prop::collection::btree_set(1..3, 0..3)),
        0..3,
    )
    .prop_map(|containers| {
        let one = |(name, (image, ports)): (String, (Option<String>, std::collections::BTreeSet<i32>))| {
            let mut container = json!({"name": name});
            if let Some(image) = image {
                container["image"] = json!(image);
            }
            if !ports.is_empty() {
                container["ports"] = ports.iter().map(|port| json!({"containerPort": port})).collect();
            }
            container
        };
        containers.into_iter().map(one).collect::<Vec<Value>>()
    })
    .prop_shuffle();
    let labels = prop::collection::btree_map("[a-c]", "[xy]", 0..3);
    let finalizers = prop::collection::btree_set("x/[a-c]", 0..3);
    (containers, labels, finalizers).prop_map(|(containers, labels, finalizers)| {
        let mut config = json!({});
        if !containers.is_empty() {
            config["spec"]["containers"] = json!(containers);
        }
        if !labels.is_empty() {
            config["metadata"]["labels"] = json!(labels);
        }
        if !finalizers.is_empty() {
            config["metadata"]["finalizers"] = json!(finalizers);
        }
        config
    })
}

/// Every field that a configuration names is in the object as it says.
fn is_in(config: &Value, object: &Value) -> bool {
    match (config, object) {
        (Value::Object(config), Value::Object(object)) => {
            config.iter().all(|(name, value)| object.get(name).is_some_and(|found| is_in(value, found)))
        }
        (Value::Array(config), Value::Array(object)) => {
            config.iter().all(|wanted| object.iter().any(|found| is_in(wanted, found)))
        }
        _ => config == object,
    }
}

proptest! {
    #![proptest_config(ProptestConfig::with_cases(200))]

    #[test]
    fn a_second_time_changes_nothing(configs in prop::collection::vec((any::<bool>(), any_config()), 1..5)) {
        let mut world = World::new(&pod::KIND);
        for (is_one, config) in &configs {
            world.apply_with(if *is_one { "one" } else { "two" }, true, config).unwrap();
            prop_assert!(is_in(config, world.object.as_ref().unwrap()));
            let before = world.object.clone();
            world.apply_with(if *is_one { "one" } else { "two" }, false, config).unwrap();
            prop_assert_eq!(&world.object, &before);
        }
    }

    #[test]
    fn what_nobody_wants_any_more_is_gone(first in any_config(), second in any_config()) {
        let mut world = World::new(&pod::KIND);
        world.apply("one", &first);
        world.apply_with("two", true, &second).unwrap();
        world.apply("one", &json!({}));
        let mut alone = World::new(&pod::KIND);
        alone.apply("two", &second);
        // The order of lists apart: "one" came first.
        let (left, right) = (world.at("/spec/containers"), alone.at("/spec/containers"));
        prop_assert!(is_in(&left, &right) && is_in(&right, &left), "{left} {right}");
        prop_assert_eq!(world.at("/metadata/labels"), alone.at("/metadata/labels"));
        world.apply("two", &json!({}));
        prop_assert_eq!(world.at("/metadata/managedFields"), Value::Null);
        prop_assert_eq!(world.at("/metadata/finalizers"), Value::Null);
    }

    #[test]
    fn different_fields_never_conflict(keys in prop::collection::btree_map("[a-f]", any::<bool>(), 0..6)) {
        let of = |is_one: bool| {
            let own = keys.iter().filter(|(_, who)| **who == is_one).map(|(key, _)| (key.clone(), json!("v")));
            json!({"data": own.collect::<serde_json::Map<_, _>>()})
        };
        let mut world = World::new(&config_map::KIND);
        world.apply("one", &of(true));
        world.apply("two", &of(false));
        prop_assert!(is_in(&of(true), world.object.as_ref().unwrap()));
        // Updates of what is nobody else's never conflict with the applier either.
        world.update("three", |object| object["immutable"] = json!(false));
        world.apply("one", &of(true));
        world.apply("two", &of(false));
    }
}
