//! Whatever bytes arrive, decoders answer: no panic, and what was accepted keeps its promises.
//! `make test` takes 3,000 inputs of a fixed seed for each; `make fuzz-api` runs longer. See
//! `docs/decisions/2026-11-21-fuzzing-on-stable.md` for why without libFuzzer.

mod mutate;
mod structure;

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::time::{Duration, Instant};

use jiff::Timestamp;
use rand::rngs::StdRng;
use rand::{RngExt, SeedableRng};
use serde_json::{Value, json};

use super::apply::{self, Applier, Owners, Reach, Writer};
use super::body::{self, Document};
use super::kinds::{self, Kind, csi_node, persistent_volume_claim, pod, storage_class};
use super::options::{FieldValidation, Options};
use super::{accept, patch, protobuf, route};
use holdfast_api::quantity;
use holdfast_api::selector::Selector;

/// Objects whose kinds have most of what decoding is about.
fn objects() -> Vec<Value> {
    vec![
        json!({
            "apiVersion": "v1", "kind": "Pod", "metadata": {"name": "a", "labels": {"x": "y"}, "finalizers": ["a/b"],
            "managedFields": [{"manager": "m", "operation": "Update", "apiVersion": "v1", "time": "2026-11-21T10:00:00Z",
            "fieldsType": "FieldsV1", "fieldsV1": {"f:spec": {"k:{\"name\":\"c\"}": {".": {}, "f:image": {}}}}}]},
            "spec": {"containers": [{"name": "c", "image": "i", "ports": [{"containerPort": 80}],
            "livenessProbe": {"httpGet": {"port": "http"}}, "resources": {"requests": {"cpu": "100m"}}}],
            "volumes": [{"name": "v", "persistentVolumeClaim": {"claimName": "a"}}, {"name": "e", "emptyDir": {}}]},
        }),
        json!({
            "apiVersion": "v1", "kind": "PersistentVolumeClaim", "metadata": {"name": "a"},
            "spec": {"accessModes": ["ReadWriteOnce"], "resources": {"requests": {"storage": "1Gi"}},
            "selector": {"matchExpressions": [{"key": "k", "operator": "In", "values": ["v"]}]}},
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "CSINode", "metadata": {"name": "n"},
            "spec": {"drivers": [{"name": "d", "nodeID": "n", "topologyKeys": ["t"], "allocatable": {"count": 3}}]},
        }),
        json!({
            "apiVersion": "storage.k8s.io/v1", "kind": "StorageClass", "metadata": {"name": "s"}, "provisioner": "p",
            "parameters": {"pool": "a"}, "allowVolumeExpansion": true, "mountOptions": ["noatime"],
        }),
    ]
}

fn kinds_of() -> [&'static Kind; 4] {
    [&pod::KIND, &persistent_volume_claim::KIND, &csi_node::KIND, &storage_class::KIND]
}

/// Runs a target on changed seeds, for a number of inputs or as long as the environment says.
fn fuzz(name: &str, seeds: &[Vec<u8>], words: &[&str], target: impl Fn(&[u8])) {
    let number = |name: &str| std::env::var(name).ok().and_then(|value| value.parse::<u64>().ok());
    let deadline =
        number("HOLDFAST_FUZZ_SECONDS").map(|seconds| Instant::now() + Duration::from_secs(seconds));
    let seed = number("HOLDFAST_FUZZ_SEED").unwrap_or(if deadline.is_some() { rand::random() } else { 1 });
    let mut random = StdRng::seed_from_u64(seed);
    let (mut inputs, mut pool) = (0u64, seeds.to_vec());
    while deadline.map_or(inputs < 3_000, |deadline| Instant::now() < deadline) {
        let input = mutate::change(&pool, words, &mut random);
        let started = Instant::now();
        let outcome = catch_unwind(AssertUnwindSafe(|| target(&input)));
        let text = || format!("{name}, seed {seed}, input {inputs}: {:?}", String::from_utf8_lossy(&input));
        assert!(outcome.is_ok(), "a panic: {}", text());
        assert!(started.elapsed() < Duration::from_secs(5), "too slow: {}", text());
        // Changes upon changes reach deeper than one at a time.
        if random.random_ratio(1, 8) {
            let at = random.random_range(0..pool.len());
            if pool.len() < 64 { pool.push(input) } else { pool[at] = input }
        }
        inputs += 1;
        if inputs.is_multiple_of(256) {
            pool.truncate(seeds.len());
            pool.splice(.., seeds.iter().cloned());
        }
    }
}

fn texts(values: impl IntoIterator<Item = Value>) -> Vec<Vec<u8>> {
    values.into_iter().map(|value| value.to_string().into_bytes()).collect()
}

const WORDS: &[&str] = &[
    "null",
    "[",
    "]",
    "{",
    "}",
    ",",
    "\"",
    ":",
    "-",
    "1e999",
    "18446744073709551616",
    "-0",
    "\\ud800",
    "\\u0000",
    "$patch",
    "delete",
    "replace",
    "merge",
    "$setElementOrder/containers",
    "$deleteFromPrimitiveList/finalizers",
    "$retainKeys",
    "metadata",
    "spec",
    "status",
    "name",
    "/spec/containers/0",
    "/-",
    "~1",
    "~0",
    "\"op\":\"copy\"",
    "\"op\":\"test\"",
    "\"from\":",
    "k:{\"name\":\"c\"}",
    "v:1",
    "i:0",
    "f:",
    ".",
    "\u{0}",
    "ü",
    "2026-02-30T25:61:61Z",
    "1Ei",
    "99999999E",
];

/// What a body that was decoded goes through before anything is done with it; what is accepted
/// can be told to every client.
fn conform(kind: &Kind, document: Document) {
    if let Ok((object, _)) = body::conform(kind, document, FieldValidation::Strict) {
        let mut object = object;
        let writer = Writer { name: "fuzz", subresource: "", reach: Reach::Main };
        apply::track(kind, writer, None, &mut object, Timestamp::UNIX_EPOCH);
        (kind.default)(&mut object);
        (kind.prepare_create)(&mut object);
        (kind.validate)(&object);
        (kind.validate_update)(&object, &object);
        let now = Timestamp::UNIX_EPOCH;
        let _ = super::table::render(
            kind,
            std::slice::from_ref(&object),
            json!({}),
            now,
            super::table::IncludeObject::None,
        );
        let written = protobuf::encode(&object).map(|bytes| protobuf::decode(&bytes).map(|_| ()));
        assert!(matches!(written, Ok(Ok(()))), "{written:?}");
    }
}

fn is_read(headers: &str, bytes: &[u8]) -> Option<Document> {
    let mut map = http::HeaderMap::new();
    map.insert(http::header::CONTENT_TYPE, headers.parse().unwrap());
    body::decode(&map, bytes).ok()
}

#[test]
fn json_bodies() {
    fuzz("json_bodies", &texts(objects()), WORDS, |bytes| {
        if let Some(document) = is_read("application/json", bytes) {
            let again = is_read("application/json", document.value.to_string().as_bytes()).unwrap();
            assert_eq!(again.value, document.value);
        }
        for kind in kinds_of() {
            if let Some(document) = is_read("application/json", bytes) {
                conform(kind, document);
            }
        }
    });
}

#[test]
fn yaml_bodies() {
    let seeds: Vec<_> =
        objects().iter().map(|object| serde_saphyr::to_string(object).unwrap().into_bytes()).collect();
    let words =
        ["&a", "*a", "<<: *a", "!!binary", "|\n", ">-\n", "---\n", "- ", "? ", "~", "\t", "'", "%YAML 9.9\n"];
    fuzz("yaml_bodies", &seeds, &words, |bytes| {
        if let Some(document) = is_read("application/yaml", bytes) {
            conform(&pod::KIND, document);
        }
    });
}

#[test]
fn protobuf_bodies() {
    let times = [
        json!({"apiVersion": "v1", "kind": "Event", "metadata": {"name": "a"}, "involvedObject": {"kind": "Pod"},
            "eventTime": "2026-11-21T10:00:00.123456Z", "series": {"count": 2, "lastObservedTime": "2026-11-21T10:00:01.000001Z"}}),
        json!({"apiVersion": "coordination.k8s.io/v1", "kind": "Lease", "metadata": {"name": "a"},
            "spec": {"leaseDurationSeconds": 15, "renewTime": "2026-11-21T10:00:00.123456Z"}}),
    ];
    let seeds: Vec<_> =
        objects().iter().chain(&times).map(|object| protobuf::encode(object).unwrap()).collect();
    // Also the second field of a message with a number of 62 bits.
    let words = ["\u{0}", "\u{7f}", "\u{8}\u{1}", "v1", "Pod", "k8s\u{0}", "\u{10}ÿÿÿÿ\u{7f}"];
    fuzz("protobuf_bodies", &seeds, &words, |bytes| {
        for kind in kinds_of() {
            if let Some(document) = is_read(accept::PROTOBUF, bytes) {
                conform(kind, document);
            }
        }
    });
}

/// Patches as they come, on objects of their kinds.
fn patches(name: &str, seeds: Vec<Value>, apply: impl Fn(&Kind, &Value, &Value) -> Option<Value>) {
    let objects = objects();
    fuzz(name, &texts(seeds), WORDS, |bytes| {
        let Ok(document) = body::json_document(bytes) else { return };
        for (kind, object) in kinds_of().into_iter().zip(&objects) {
            if let Some(value) = apply(kind, object, &document.value) {
                conform(kind, Document { value, duplicates: Vec::new() });
            }
        }
    });
}

#[test]
fn json_patches() {
    let seeds = vec![
        json!([{"op": "add", "path": "/metadata/labels/x~1y", "value": "z"}, {"op": "test", "path": "/metadata/name", "value": "a"}]),
        json!([{"op": "copy", "from": "/spec", "path": "/spec/containers/0"}, {"op": "move", "from": "/metadata", "path": "/spec/x"}]),
        json!([{"op": "remove", "path": "/spec/containers/0"}, {"op": "replace", "path": "", "value": {}}]),
    ];
    patches("json_patches", seeds, |_, object, patch| {
        patch::json(object, patch).ok().filter(Value::is_object)
    });
}

#[test]
fn merge_patches() {
    let seeds = objects().into_iter().chain([json!({"metadata": {"labels": null}, "spec": null})]).collect();
    patches("merge_patches", seeds, |_, object, patch| {
        let patched = patch::merge(object, patch);
        assert_eq!(patch::merge(&patched, patch), patched, "twice is once");
        Some(patched).filter(Value::is_object)
    });
}

#[test]
fn strategic_patches() {
    let seeds = vec![
        json!({"spec": {"containers": [{"name": "c", "image": "j"}, {"name": "d", "$patch": "delete"}], "$setElementOrder/containers": [{"name": "c"}]}}),
        json!({"metadata": {"$deleteFromPrimitiveList/finalizers": ["a/b"]}, "spec": {"$patch": "replace", "volumes": []}}),
        json!({"spec": {"drivers": [{"$patch": "replace"}, {"name": "x", "nodeID": "y"}], "volumes": [{"name": "v", "$retainKeys": ["name"]}]}}),
    ];
    patches("strategic_patches", seeds, |kind, object, patch| {
        let patched = patch::strategic(kind, object, patch).ok()?;
        assert!(patched.is_object());
        Some(patched)
    });
}

#[test]
fn apply_configurations() {
    patches("apply_configurations", objects(), |kind, object, config| {
        let record = &config["metadata"]["managedFields"];
        let owners = Owners::decode(record, &kind.api_version()).unwrap_or_default();
        let now = Timestamp::UNIX_EPOCH;
        let applier = Applier { kind, reach: Reach::Main, subresource: "", name: "m", force: true, now };
        let applied = config.is_object().then(|| applier.apply(Some(object), owners, config).ok())??;
        Some(applied.object).filter(Value::is_object)
    });
}

fn strings(seeds: &[&str]) -> Vec<Vec<u8>> {
    seeds.iter().map(|seed| seed.as_bytes().to_vec()).collect()
}

#[test]
fn selectors() {
    let seeds = strings(&["a=b,c!=d", "a in (b,c),!d", "x notin (),y", "metadata.name=a", "a==b"]);
    fuzz("selectors", &seeds, &["in", "notin", "(", ")", ",", "=", "!", " ", "\\", "ü"], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        for selector in [Selector::parse(text).ok(), Selector::parse_fields(text).ok()].into_iter().flatten()
        {
            selector.matches(|_| None);
            selector.matches(|_| Some("b"));
        }
    });
}

#[test]
fn quantities() {
    let seeds = strings(&["1Gi", "100m", "1.5e3", "-0.5Ei", "9223372036854775807", "12E"]);
    fuzz("quantities", &seeds, &["e", "E", "Ki", "n", "u", ".", "-", "+", "999999999999"], |bytes| {
        let Ok(text) = std::str::from_utf8(bytes) else { return };
        if let Ok(size) = quantity::parse_bytes(text) {
            assert_eq!(quantity::parse_bytes(&quantity::format_bytes(size)), Ok(size), "{text}");
        }
    });
}

#[test]
fn continue_tokens() {
    let seeds = strings(&["eyJyZXZpc2lvbiI6NywibmFtZXNwYWNlIjoiZGV2IiwibmFtZSI6ImEifQ", "", "e30"]);
    fuzz("continue_tokens", &seeds, &["=", "-", "_", "eyJ", "fQ"], |bytes| {
        if let Ok(text) = std::str::from_utf8(bytes) {
            super::verbs::is_continue_token(text);
        }
    });
}

#[test]
fn targets() {
    let seeds = strings(&[
        "/api/v1/namespaces/default/pods/a/status?watch=1&limit=5",
        "/apis/storage.k8s.io/v1/csinodes?labelSelector=a%3Db&timeoutSeconds=1&resourceVersion=0&continue=e30",
        "/apis/events.k8s.io/v1/events?fieldSelector=reason%21%3Dx",
    ]);
    let words = ["..", "%2f", "//", "%00", "%", "?", "&", "=", "namespaces", "+", "18446744073709551616"];
    fuzz("targets", &seeds, &words, |bytes| {
        let Ok(uri) = http::Uri::try_from(bytes) else { return };
        if let Ok(target) = route::parse(uri.path()) {
            assert!(kinds::ALL.iter().any(|kind| std::ptr::eq(*kind, target.kind)));
        }
        if let Ok(options) = Options::parse(&uri) {
            let _ = options.revision();
        }
    });
}

#[test]
fn accept_headers() {
    let seeds = strings(&[
        "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
        "application/vnd.kubernetes.protobuf;q=0.5, */*;q=nan",
    ]);
    fuzz("accept_headers", &seeds, &[";", ",", "=", "q=", "NaN", "inf", "-1", "as=", "*/*"], |bytes| {
        let mut headers = http::HeaderMap::new();
        let Ok(value) = http::HeaderValue::from_bytes(bytes) else { return };
        headers.insert(http::header::ACCEPT, value);
        for kind in kinds_of() {
            let _ = accept::negotiate(&headers, kind);
        }
    });
}
