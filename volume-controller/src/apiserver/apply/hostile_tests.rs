//! Anything may come over the network: no configuration and no record of owners, however
//! odd, may end the server.

use proptest::prelude::*;
use serde_json::json;

use super::*;
use crate::apiserver::kinds::pod;

/// JSON of names and values that mean something here, in places where they do not.
fn any_json() -> impl Strategy<Value = Value> {
    let leaf = prop_oneof![
        Just(Value::Null),
        any::<bool>().prop_map(Value::from),
        any::<i64>().prop_map(Value::from),
        any::<f64>().prop_map(Value::from),
        "[a-c]{0,2}".prop_map(Value::from),
    ];
    let name = prop_oneof![
        Just("metadata"),
        Just("finalizers"),
        Just("ownerReferences"),
        Just("annotations"),
        Just("spec"),
        Just("containers"),
        Just("ports"),
        Just("name"),
        Just("status"),
        Just("kubectl.kubernetes.io/last-applied-configuration"),
        Just("."),
        Just("f:spec"),
        Just("k:{\"name\":\"a\"}"),
        Just("v:1"),
        Just("i:0"),
        Just("x"),
    ];
    leaf.prop_recursive(5, 40, 4, move |inner| {
        prop_oneof![
            prop::collection::vec(inner.clone(), 0..4).prop_map(Value::from),
            prop::collection::btree_map(name.clone().prop_map(str::to_owned), inner, 0..4)
                .prop_map(|map| Value::Object(map.into_iter().collect())),
        ]
    })
}

fn any_record() -> impl Strategy<Value = Value> {
    let entry = (any_json(), "(Apply|Update|x)", "(v1|v2)", "(|status)").prop_map(
        |(fields, operation, version, part)| {
            json!({
                "manager": "m", "operation": operation, "apiVersion": version, "subresource": part,
                "fieldsType": "FieldsV1", "fieldsV1": fields,
            })
        },
    );
    prop_oneof![any_json(), prop::collection::vec(entry, 0..3).prop_map(Value::from)]
}

proptest! {
    #[test]
    fn odd_objects(live in any_json(), config in any_json(), record in any_record(), force in any::<bool>()) {
        faults(&pod::KIND, &config);
        let owners = Owners::decode(&record, "v1").unwrap_or_default();
        for reach in [Reach::Main, Reach::Status, Reach::OnlyStatus] {
            let applier = Applier {
                kind: &pod::KIND, reach, subresource: "", name: "kubectl", force, now: Timestamp::UNIX_EPOCH,
            };
            match applier.apply(Some(&live), owners.clone(), &config) {
                Ok(applied) => {
                    let mut object = applied.object;
                    super::record(&pod::KIND, applied.owners, &mut object);
                }
                Err(conflicts) => prop_assert!(message(&conflicts, "v1").starts_with("Apply failed with ")),
            }
            let mut new = config.clone();
            let writer = Writer { name: "w", subresource: "", reach };
            track(&pod::KIND, writer, live.is_object().then_some(&live), &mut new, Timestamp::UNIX_EPOCH);
        }
        track_server("pods", &live, &mut config.clone(), Timestamp::UNIX_EPOCH);
    }
}
