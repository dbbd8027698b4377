//! For tests: an API server's storage without the server. It keeps whole objects by their path,
//! knows create, read, replace, merge patch and delete, and checks resource versions.

use std::{
    collections::BTreeMap,
    convert::Infallible,
    sync::{Arc, Mutex},
};

use http::{Method, Request, Response, StatusCode};
use kube::{Client, client::Body};
use serde_json::{Value, json};

/// The objects by path, such as `/api/v1/nodes/n1`.
pub(crate) type Objects = Arc<Mutex<BTreeMap<String, Value>>>;

/// A client whose server keeps `objects`.
pub(crate) fn client(objects: &Objects) -> Client {
    let objects = Arc::clone(objects);
    let service = tower::service_fn(move |request: Request<Body>| {
        let objects = Arc::clone(&objects);
        async move {
            let (head, body) = request.into_parts();
            let body = body.collect_bytes().await.unwrap_or_default();
            let path = head.uri.path().trim_end_matches("/status").to_owned();
            let (code, value) = answer(&mut objects.lock().unwrap(), &head.method, &path, &body);
            let response =
                Response::builder().status(code).body(Body::from(serde_json::to_vec(&value).unwrap()));
            Ok::<_, Infallible>(response.unwrap())
        }
    });
    Client::new(service, "default")
}

fn answer(
    objects: &mut BTreeMap<String, Value>,
    method: &Method,
    path: &str,
    body: &[u8],
) -> (StatusCode, Value) {
    let failure = |code: StatusCode, reason: &str| {
        (
            code,
            json!({"kind": "Status", "status": "Failure", "code": code.as_u16(), "reason": reason, "message": path}),
        )
    };
    let sent: Value = serde_json::from_slice(body).unwrap_or_default();
    match *method {
        Method::GET => match objects.get(path) {
            Some(value) => (StatusCode::OK, value.clone()),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        },
        Method::POST => {
            let at = format!("{path}/{}", sent["metadata"]["name"].as_str().unwrap_or_default());
            if objects.contains_key(&at) {
                return failure(StatusCode::CONFLICT, "AlreadyExists");
            }
            let mut kept = sent;
            kept["metadata"]["resourceVersion"] = json!("1");
            kept["metadata"]["uid"] = json!(format!("uid of {at}"));
            objects.insert(at, kept.clone());
            (StatusCode::CREATED, kept)
        }
        Method::PUT | Method::PATCH => {
            let Some(found) = objects.get_mut(path) else {
                return failure(StatusCode::NOT_FOUND, "NotFound");
            };
            let version = found["metadata"]["resourceVersion"].clone();
            let expected = &sent["metadata"]["resourceVersion"];
            if !expected.is_null() && *expected != version {
                return failure(StatusCode::CONFLICT, "Conflict");
            }
            if *method == Method::PUT {
                *found = sent
            } else {
                merge(found, &sent)
            }
            let next = version.as_str().and_then(|v| v.parse::<u64>().ok()).unwrap_or(0) + 1;
            found["metadata"]["resourceVersion"] = json!(next.to_string());
            (StatusCode::OK, found.clone())
        }
        Method::DELETE => match objects.remove(path) {
            Some(value) => (StatusCode::OK, value),
            None => failure(StatusCode::NOT_FOUND, "NotFound"),
        },
        _ => failure(StatusCode::METHOD_NOT_ALLOWED, "MethodNotAllowed"),
    }
}

/// RFC 7396.
fn merge(into: &mut Value, patch: &Value) {
    let Some(patch) = patch.as_object() else {
        *into = patch.clone();
        return;
    };
    if !into.is_object() {
        *into = json!({});
    }
    for (key, value) in patch {
        if value.is_null() {
            into.as_object_mut().unwrap().remove(key);
        } else {
            merge(&mut into[key], value);
        }
    }
}
