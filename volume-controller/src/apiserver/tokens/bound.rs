//! Whether what a token speaks of is still there: the account, and the pod, secret or node that
//! it is bound to, each the very same and not made again under its name.

use jiff::Timestamp;
use serde_json::Value;

use super::claims::{Claims, Named};
use crate::store::{Key, Store};

/// How long a token is still good after the end of what it is bound to was due, in seconds: a
/// pod may need it to end.
const LEEWAY: i64 = 60;

pub(super) fn check(store: &Store, claims: &Claims, now: Timestamp) -> Result<(), String> {
    let private = &claims.private;
    let namespace = private.namespace.as_str();
    exists(store, "serviceaccounts", namespace, &private.serviceaccount, now)?;
    for (resource, namespace, named) in
        [("pods", namespace, &private.pod), ("secrets", namespace, &private.secret)]
    {
        if let Some(named) = named {
            exists(store, resource, namespace, named, now)?;
        }
    }
    match (&private.node, &private.pod) {
        // That of a pod is only told: upstream leaves it to the pod.
        (Some(node), None) => exists(store, "nodes", "", node, now),
        _ => Ok(()),
    }
}

fn exists(
    store: &Store,
    resource: &str,
    namespace: &str,
    named: &Named,
    now: Timestamp,
) -> Result<(), String> {
    let object = store.get(&Key::new(resource, namespace, &named.name));
    let object = object.filter(|object| *object.uid == *named.uid).ok_or_else(|| {
        format!("the token has been invalidated: {resource} {:?} is not there any more", named.name)
    })?;
    let body: Value = object.decode().map_err(|error| format!("{} cannot be read: {error}", object.key))?;
    let end = body["metadata"]["deletionTimestamp"].as_str().and_then(|end| end.parse::<Timestamp>().ok());
    if end.is_some_and(|end| end.as_second() + LEEWAY < now.as_second()) {
        return Err(format!("the token has been invalidated: {resource} {:?} is being deleted", named.name));
    }
    Ok(())
}
