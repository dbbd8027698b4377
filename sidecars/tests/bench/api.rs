//! As much of a Kubernetes API as the sidecars use, in memory: list, watch, get, create,
//! merge patch with preconditions, the status subresource, delete with finalizers.

use std::{
    collections::{BTreeMap, VecDeque},
    convert::Infallible,
    sync::Arc,
};

use bytes::Bytes;
use futures::{StreamExt, stream};
use http::{Method, Request, Response};
use http_body_util::{BodyExt, Full, StreamBody, combinators::UnsyncBoxBody};
use kube::{Client, client::Body};
use parking_lot::Mutex;
use serde_json::{Value, json};
use tokio::sync::watch;

#[derive(Default)]
struct Inner {
    revision: u64,
    /// (resource, namespace, name) → object
    objects: BTreeMap<(String, String, String), Value>,
    /// (revision, resource, event)
    log: Vec<(u64, String, Value)>,
    /// "METHOD resource[/status]" of every write.
    writes: Vec<String>,
    /// Answers for the next writes of a kind, in place of doing them.
    faults: BTreeMap<String, VecDeque<u16>>,
}

#[derive(Clone)]
pub(crate) struct Api {
    inner: Arc<Mutex<Inner>>,
    changed: Arc<watch::Sender<u64>>,
}

impl Default for Api {
    fn default() -> Self {
        Self { inner: Arc::default(), changed: Arc::new(watch::channel(0).0) }
    }
}

struct Target {
    resource: String,
    namespace: String,
    name: Option<String>,
    status: bool,
}

fn target(path: &str) -> Target {
    let mut parts: VecDeque<&str> = path.trim_matches('/').split('/').collect();
    let group = if parts.pop_front() == Some("api") { 1 } else { 2 };
    parts.drain(..group);
    let mut namespace = String::new();
    if parts.front() == Some(&"namespaces") && parts.len() > 2 {
        parts.pop_front();
        namespace = parts.pop_front().unwrap_or_default().to_owned();
    }
    let resource = parts.pop_front().unwrap_or_default().to_owned();
    let name = parts.pop_front().map(str::to_owned);
    Target { resource, namespace, name, status: parts.front() == Some(&"status") }
}

fn merge(into: &mut Value, patch: &Value) {
    let Value::Object(patch) = patch else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().expect("an object").remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}

type Answer = (u16, Value);
type Reply = UnsyncBoxBody<Bytes, Infallible>;

fn failure(code: u16, reason: &str) -> Answer {
    (
        code,
        json!({"kind": "Status", "apiVersion": "v1", "status": "Failure", "code": code, "reason": reason, "message": reason}),
    )
}

impl Inner {
    fn record(&mut self, kind: &str, key: &(String, String, String), object: &mut Value) {
        self.revision += 1;
        object["metadata"]["resourceVersion"] = json!(self.revision.to_string());
        let event = json!({"type": kind, "object": object});
        self.log.push((self.revision, key.0.clone(), event));
        if kind == "DELETED" {
            self.objects.remove(key);
        } else {
            self.objects.insert(key.clone(), object.clone());
        }
    }

    fn create(&mut self, resource: &str, namespace: &str, mut object: Value) -> Answer {
        let name = object["metadata"]["name"].as_str().unwrap_or_default().to_owned();
        let key = (resource.to_owned(), namespace.to_owned(), name);
        if self.objects.contains_key(&key) {
            return failure(409, "AlreadyExists");
        }
        if object["metadata"]["uid"].is_null() {
            object["metadata"]["uid"] = json!(format!("uid-{}", self.revision + 1));
        }
        if !namespace.is_empty() {
            object["metadata"]["namespace"] = json!(namespace);
        }
        self.record("ADDED", &key, &mut object);
        (201, object)
    }

    fn patch(&mut self, target: &Target, patch: &Value) -> Answer {
        let key =
            (target.resource.clone(), target.namespace.clone(), target.name.clone().unwrap_or_default());
        let Some(old) = self.objects.get(&key).cloned() else { return failure(404, "NotFound") };
        for field in ["resourceVersion", "uid"] {
            let wanted = &patch["metadata"][field];
            if !wanted.is_null() && *wanted != old["metadata"][field] {
                return failure(409, "Conflict");
            }
        }
        let mut new = old.clone();
        merge(&mut new, patch);
        if target.status {
            let status = new["status"].clone();
            new = old.clone();
            new["status"] = status;
        } else {
            new["status"] = old["status"].clone();
        }
        if new == old {
            return (200, new);
        }
        let none = new["metadata"]["finalizers"].as_array().is_none_or(Vec::is_empty);
        let gone = none && !new["metadata"]["deletionTimestamp"].is_null();
        self.record(if gone { "DELETED" } else { "MODIFIED" }, &key, &mut new);
        (200, new)
    }

    fn delete(&mut self, target: &Target, options: &Value) -> Answer {
        let key =
            (target.resource.clone(), target.namespace.clone(), target.name.clone().unwrap_or_default());
        let Some(mut object) = self.objects.get(&key).cloned() else { return failure(404, "NotFound") };
        let uid = &options["preconditions"]["uid"];
        if !uid.is_null() && *uid != object["metadata"]["uid"] {
            return failure(409, "Conflict");
        }
        let finalizers = object["metadata"]["finalizers"].as_array().is_some_and(|list| !list.is_empty());
        if finalizers {
            if object["metadata"]["deletionTimestamp"].is_null() {
                object["metadata"]["deletionTimestamp"] = json!("2026-01-01T00:00:00Z");
                self.record("MODIFIED", &key, &mut object);
            }
        } else {
            self.record("DELETED", &key, &mut object);
        }
        (200, object)
    }

    fn list(&self, target: &Target) -> Answer {
        let items: Vec<&Value> = self
            .objects
            .iter()
            .filter(|((resource, namespace, _), _)| {
                *resource == target.resource
                    && (target.namespace.is_empty() || *namespace == target.namespace)
            })
            .map(|(_, object)| object)
            .collect();
        (
            200,
            json!({"kind": "List", "apiVersion": "v1", "metadata": {"resourceVersion": self.revision.to_string()}, "items": items}),
        )
    }
}

impl Api {
    pub(crate) fn client(&self) -> Client {
        let api = self.clone();
        let service = tower::service_fn(move |request: Request<Body>| {
            let api = api.clone();
            async move { Ok::<_, Infallible>(api.serve(request).await) }
        });
        Client::new(service, "default")
    }

    async fn serve(&self, request: Request<Body>) -> Response<Reply> {
        let (parts, body) = request.into_parts();
        let target = target(parts.uri.path());
        let query = parts.uri.query().unwrap_or_default().to_owned();
        if query.contains("watch=true") {
            return self.watch(target, &query);
        }
        let body = body.collect().await.expect("a body").to_bytes();
        let body: Value = serde_json::from_slice(&body).unwrap_or(Value::Null);
        let (code, answer) = self.answer(&parts.method, &target, body);
        let bytes = serde_json::to_vec(&answer).expect("serialises");
        Response::builder()
            .status(code)
            .body(Full::new(Bytes::from(bytes)).boxed_unsync())
            .expect("a response")
    }

    fn answer(&self, method: &Method, target: &Target, body: Value) -> Answer {
        let mut inner = self.inner.lock();
        if *method != Method::GET {
            let kind = format!("{method} {}{}", target.resource, if target.status { "/status" } else { "" });
            inner.writes.push(kind.clone());
            if let Some(code) = inner.faults.get_mut(&kind).and_then(VecDeque::pop_front) {
                return failure(code, "InternalError");
            }
        }
        let answer = match (method, &target.name) {
            (&Method::GET, None) => return inner.list(target),
            (&Method::GET, Some(name)) => {
                let key = (target.resource.clone(), target.namespace.clone(), name.clone());
                return inner
                    .objects
                    .get(&key)
                    .map_or_else(|| failure(404, "NotFound"), |object| (200, object.clone()));
            }
            (&Method::POST, _) => inner.create(&target.resource, &target.namespace, body),
            (&Method::PATCH, _) => inner.patch(target, &body),
            (&Method::DELETE, _) => inner.delete(target, &body),
            _ => failure(405, "MethodNotAllowed"),
        };
        self.changed.send_replace(inner.revision);
        answer
    }

    fn watch(&self, target: Target, query: &str) -> Response<Reply> {
        let from = query.split('&').find_map(|pair| pair.strip_prefix("resourceVersion="));
        let from: u64 = from.and_then(|text| text.parse().ok()).unwrap_or_default();
        let api = self.clone();
        let events = stream::unfold((from, self.changed.subscribe()), move |(seen, mut changed)| {
            let (api, resource) = (api.clone(), target.resource.clone());
            async move {
                loop {
                    let next = {
                        let inner = api.inner.lock();
                        inner.log.iter().find(|(at, kind, _)| *at > seen && *kind == resource).cloned()
                    };
                    if let Some((at, _, event)) = next {
                        let mut line = serde_json::to_vec(&event).expect("serialises");
                        line.push(b'\n');
                        return Some((Bytes::from(line), (at, changed)));
                    }
                    changed.changed().await.ok()?;
                }
            }
        });
        let frames = events.map(|line| Ok::<_, Infallible>(hyper::body::Frame::data(line)));
        Response::new(StreamBody::new(frames).boxed_unsync())
    }

    // What the tests do themselves, as users, binders and schedulers would.

    pub(crate) fn put(&self, resource: &str, namespace: &str, object: Value) {
        let mut inner = self.inner.lock();
        let (code, answer) = inner.create(resource, namespace, object);
        assert_eq!(code, 201, "{answer}");
        self.changed.send_replace(inner.revision);
    }

    pub(crate) fn change(&self, resource: &str, namespace: &str, name: &str, patch: &Value) {
        let mut inner = self.inner.lock();
        for status in [false, true] {
            let target = Target {
                resource: resource.to_owned(),
                namespace: namespace.to_owned(),
                name: Some(name.to_owned()),
                status,
            };
            let (code, answer) = inner.patch(&target, patch);
            // Taking the last finalizer off ends the object before its status can be written.
            assert!(code == 200 || (code == 404 && status), "{answer}");
        }
        self.changed.send_replace(inner.revision);
    }

    pub(crate) fn remove(&self, resource: &str, namespace: &str, name: &str) {
        let target = Target {
            resource: resource.to_owned(),
            namespace: namespace.to_owned(),
            name: Some(name.to_owned()),
            status: false,
        };
        let mut inner = self.inner.lock();
        let (code, answer) = inner.delete(&target, &json!({}));
        assert_eq!(code, 200, "{answer}");
        self.changed.send_replace(inner.revision);
    }

    /// The object, or null.
    pub(crate) fn get(&self, resource: &str, namespace: &str, name: &str) -> Value {
        let key = (resource.to_owned(), namespace.to_owned(), name.to_owned());
        self.inner.lock().objects.get(&key).cloned().unwrap_or(Value::Null)
    }

    pub(crate) fn has_finalizer(&self, resource: &str, namespace: &str, name: &str, finalizer: &str) -> bool {
        let object = self.get(resource, namespace, name);
        object["metadata"]["finalizers"].as_array().is_some_and(|list| list.contains(&json!(finalizer)))
    }

    /// The reasons of all events on an object.
    pub(crate) fn events(&self, name: &str) -> Vec<String> {
        let inner = self.inner.lock();
        let events = inner.objects.iter().filter(|((resource, ..), _)| resource == "events");
        events
            .filter(|(_, event)| event["regarding"]["name"] == json!(name))
            .map(|(_, event)| event["reason"].as_str().unwrap_or_default().to_owned())
            .collect()
    }

    pub(crate) fn event_note(&self, reason: &str) -> String {
        let inner = self.inner.lock();
        let found = inner.objects.values().find(|object| object["reason"] == json!(reason));
        found.and_then(|event| event["note"].as_str()).unwrap_or_default().to_owned()
    }

    /// How many writes of a kind were asked for, such as `PATCH persistentvolumeclaims`.
    pub(crate) fn writes(&self, kind: &str) -> usize {
        self.inner.lock().writes.iter().filter(|write| *write == kind).count()
    }

    /// Answers the next write of a kind with this code.
    pub(crate) fn fault(&self, kind: &str, code: u16) {
        self.inner.lock().faults.entry(kind.to_owned()).or_default().push_back(code);
    }

    pub(crate) fn clear_faults(&self) {
        self.inner.lock().faults.clear();
    }
}
