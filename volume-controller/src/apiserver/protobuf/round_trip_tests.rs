//! Any object of any kind, written as protobuf and read again, is the same.

use proptest::prelude::*;
use rand::SeedableRng;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::*;
use crate::apiserver::kinds;
use crate::apiserver::openapi::schemas::{self, DEFINITIONS};
use crate::apiserver::openapi::some_tests::object_of;

proptest! {
    #![proptest_config(ProptestConfig { cases: 24, failure_persistence: None, ..ProptestConfig::default() })]

    #[test]
    fn every_kind(seed in any::<u64>()) {
        let mut random = StdRng::seed_from_u64(seed);
        for kind in kinds::ALL.iter().filter(|kind| knows(kind)) {
            let object = object_of(kind, &mut random);
            let read = decode(&encode(&object).unwrap()).unwrap();
            prop_assert_eq!(&read, &object, "{}", kind.kind);
        }
    }
}

/// The fields of a type that its message does not have.
fn missing(name: &str, schema: &Value, seen: &mut Vec<String>, found: &mut Vec<String>) {
    let (_, schema) = schemas::all().resolve(schema);
    if seen.contains(&name.to_owned()) {
        return;
    }
    seen.push(name.to_owned());
    let mut all: Vec<&Field> = fields::message(name).unwrap_or_default().iter().collect();
    while let Some(at) = all.iter().position(|field| field.shape == Shape::Inline) {
        if let Content::Message(inner) = all.swap_remove(at).content {
            all.extend(fields::message(inner).unwrap_or_default());
        }
    }
    for (property, schema) in schema["properties"].as_object().into_iter().flatten() {
        let Some(field) = all.iter().find(|field| field.name == property) else {
            if !["apiVersion", "kind"].contains(&property.as_str()) || name == "ObjectReference" {
                found.push(format!("{name}.{property}"));
            }
            continue;
        };
        if let Content::Message(inner) = field.content {
            let (_, schema) = schemas::all().resolve(schema);
            let element = match field.shape {
                Shape::List => &schema["items"],
                Shape::Map => &schema["additionalProperties"],
                Shape::One | Shape::Inline => schema,
            };
            missing(inner, element, seen, found);
        }
    }
}

#[test]
fn no_field_is_forgotten() {
    let (mut seen, mut found) = (Vec::new(), Vec::new());
    for kind in kinds::ALL.iter().filter(|kind| knows(kind)) {
        let schema = json!({"$ref": format!("{DEFINITIONS}{}", schemas::all().name_of(kind))});
        missing(&message_name(&kind.api_version(), kind.kind), &schema, &mut seen, &mut found);
    }
    assert!(seen.len() > 150, "{seen:?}");
    assert_eq!(found, [""; 0]);
}

#[test]
fn kinds_with_the_encoding() {
    let without: Vec<_> = kinds::ALL.iter().filter(|kind| !knows(kind)).map(|kind| kind.group).collect();
    // Upstream, what comes from a CustomResourceDefinition has none.
    assert!(without.iter().all(|group| group.ends_with("snapshot.storage.k8s.io")), "{without:?}");
}

#[test]
fn zeros_that_mean_something() {
    let pod = json!({
        "apiVersion": "v1", "kind": "Pod",
        "metadata": {
            "name": "a", "creationTimestamp": "1970-01-01T00:00:00Z", "deletionGracePeriodSeconds": 0,
            "ownerReferences": [{"apiVersion": "v1", "kind": "x", "name": "y", "uid": "z", "controller": false}],
        },
        "spec": {
            "terminationGracePeriodSeconds": 0,
            "containers": [{"name": "a", "ports": [{"containerPort": 1}], "securityContext": {"runAsUser": 0, "privileged": false}}],
            "volumes": [{"name": "v", "emptyDir": {}}],
        },
    });
    assert_eq!(decode(&encode(&pod).unwrap()).unwrap(), pod);
}

#[test]
fn lists_and_events() {
    let item = json!({"metadata": {"name": "a"}, "data": {"k": "v"}});
    let list = json!({"apiVersion": "v1", "kind": "ConfigMapList", "metadata": {"resourceVersion": "7"}, "items": [item, item]});
    let hex = |bytes: &[u8]| bytes.iter().map(|byte| format!("{byte:02x}")).collect::<String>();
    let one = "0a030a0161" /* metadata.name */ .to_owned() + "12060a016b120176" /* data */;
    let raw = "0a031201 37".replace(' ', "") + &format!("120d{one}120d{one}");
    let names = "0a02763112 0d".replace(' ', "") + &hex(b"ConfigMapList");
    let envelope = format!("{}0a13{names}12{:02x}{raw}", hex(MAGIC), raw.len() / 2);
    assert_eq!(hex(&encode(&list).unwrap()), envelope);
    let read = decode(&encode(&list).unwrap()).unwrap();
    assert_eq!(read["metadata"]["resourceVersion"], "7");
    assert_eq!(read["items"].as_array().unwrap().len(), 2);
    let event = event("ADDED", &list).unwrap();
    let inner = envelope.len() / 2;
    let expected =
        format!("{:08x}0a05{}12{:02x}0a{inner:02x}{envelope}", 7 + 2 + 2 + inner, hex(b"ADDED"), inner + 2);
    assert_eq!(hex(&event), expected);
    assert!(matches!(
        encode(&json!({"apiVersion": "v1", "kind": "Widget"})),
        Err(ProtobufError::UnknownKind(..))
    ));
    let wrong = json!({"apiVersion": "v1", "kind": "ConfigMap", "data": ["a"]});
    assert_eq!(encode(&wrong), Err(ProtobufError::Unfit("data")));
}

/// Upstream's JSON of an Event always has the two; in its protobuf everything is always there.
#[test]
fn empty_fields_that_upstream_tells() {
    let event = json!({
        "apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {}, "reason": "r",
        "reportingComponent": "", "reportingInstance": "",
    });
    assert_eq!(decode(&encode(&event).unwrap()).unwrap(), event);
}
