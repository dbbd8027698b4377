use std::collections::BTreeSet;

use prost::Message;
use serde_json::json;

use super::*;
use crate::apiserver::kinds;

fn references(value: &Value, found: &mut BTreeSet<String>) {
    match value {
        Value::Object(fields) => {
            if let Some(Value::String(path)) = fields.get("$ref") {
                found.insert(path.clone());
            }
            fields.values().for_each(|value| references(value, found));
        }
        Value::Array(list) => list.iter().for_each(|value| references(value, found)),
        _ => {}
    }
}

fn check_references(document: &Value) {
    let mut found = BTreeSet::new();
    references(document, &mut found);
    assert!(found.len() > 10);
    for path in found {
        assert!(document.pointer(path.trim_start_matches('#')).is_some(), "{path} leads nowhere");
    }
}

#[test]
fn v2_is_complete() {
    let document: Value = serde_json::from_slice(&v2_json()).unwrap();
    assert_eq!(document["swagger"], "2.0");
    check_references(&document);
    for kind in kinds::ALL {
        let patched = document["paths"].as_object().unwrap().values().any(|item| {
            let patch = &item["patch"];
            patch[schemas::GVK] == schemas::gvk(kind.group, kind.version, kind.kind)
                && patch["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation")
        });
        assert!(patched, "{}", kind.resource());
    }
    let review =
        &document["paths"]["/apis/authorization.k8s.io/v1/namespaces/{namespace}/localsubjectaccessreviews"];
    assert_eq!(review["post"]["operationId"], "createAuthorizationV1NamespacedLocalSubjectAccessReview");
    assert!(document["paths"]["/api/v1/namespaces"]["delete"].is_null());
    let spec = &document["definitions"]["io.k8s.api.core.v1.PodSpec"]["properties"];
    assert_eq!(spec["containers"]["x-kubernetes-patch-merge-key"], "name");
    assert_eq!(spec["volumes"]["x-kubernetes-patch-strategy"], "merge,retainKeys");
    // What the parser of kubectl takes: no schema but objects has properties, arrays have items.
    for (name, schema) in document["definitions"].as_object().unwrap() {
        check_schema(name, schema);
    }
}

fn check_schema(name: &str, schema: &Value) {
    let kind = schema["type"].as_str();
    assert!(schema["properties"].is_null() || kind == Some("object"), "{name}");
    assert!(kind != Some("array") || schema["items"].is_object(), "{name}");
    for (field, property) in schema["properties"].as_object().into_iter().flatten() {
        check_schema(&format!("{name}.{field}"), property);
    }
}

#[test]
fn v2_survives_protobuf() {
    let json: Value = serde_json::from_slice(&v2_json()).unwrap();
    let message = gnostic::Document::decode(v2_protobuf()).unwrap();
    assert_eq!(message, gnostic::Document::from_json(&json));
    let definitions = message.definitions.unwrap().additional_properties;
    assert_eq!(definitions.len(), json["definitions"].as_object().unwrap().len());
    let claim = definitions.iter().find(|d| d.name == "io.k8s.api.core.v1.PersistentVolumeClaim").unwrap();
    let claim = claim.value.as_ref().unwrap();
    assert_eq!(claim.vendor_extension[0].name, "x-kubernetes-group-version-kind");
    assert!(claim.vendor_extension[0].value.as_ref().unwrap().yaml.contains("PersistentVolumeClaim"));
    assert_eq!(message.paths.unwrap().path.len(), json["paths"].as_object().unwrap().len());
}

#[test]
fn v3_is_complete() {
    let index = v3_index();
    let roots: Vec<&String> = index["paths"].as_object().unwrap().keys().collect();
    assert_eq!(
        roots,
        [
            "api/v1",
            "apis/authentication.k8s.io/v1",
            "apis/authorization.k8s.io/v1",
            "apis/coordination.k8s.io/v1",
            "apis/events.k8s.io/v1",
            "apis/groupsnapshot.storage.k8s.io/v1",
            "apis/groupsnapshot.storage.k8s.io/v1beta2",
            "apis/rbac.authorization.k8s.io/v1",
            "apis/snapshot.storage.k8s.io/v1",
            "apis/storage.k8s.io/v1",
            "apis/storage.k8s.io/v1beta1"
        ]
    );
    for root in roots {
        let url = index["paths"][root]["serverRelativeURL"].as_str().unwrap();
        assert!(url.starts_with(&format!("/openapi/v3/{root}?hash=")), "{url}");
        let document: Value = serde_json::from_slice(&v3(root).unwrap()).unwrap();
        assert_eq!(document["openapi"], "3.0.0");
        check_references(&document);
    }
    assert!(v3("apis/nothing/v1").is_none());
    let core: Value = serde_json::from_slice(&v3("api/v1").unwrap()).unwrap();
    let schemas = &core["components"]["schemas"];
    assert_eq!(
        schemas["io.k8s.apimachinery.pkg.api.resource.Quantity"]["oneOf"],
        json!([{"type": "string"}, {"type": "number"}])
    );
    assert_eq!(
        schemas["io.k8s.api.core.v1.PersistentVolumeClaim"]["properties"]["spec"]["allOf"],
        json!([{"$ref": "#/components/schemas/io.k8s.api.core.v1.PersistentVolumeClaimSpec"}])
    );
    let create = &core["paths"]["/api/v1/namespaces/{namespace}/persistentvolumeclaims"]["post"];
    assert_eq!(create["x-kubernetes-action"], "post");
    assert!(create["parameters"].as_array().unwrap().iter().any(|p| p["name"] == "fieldValidation"));
    assert_eq!(
        create["requestBody"]["content"]["*/*"]["schema"]["$ref"],
        "#/components/schemas/io.k8s.api.core.v1.PersistentVolumeClaim"
    );
}
