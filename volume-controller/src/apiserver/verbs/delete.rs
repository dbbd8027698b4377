//! Deleting objects: at once, after a grace period, or when their finalizers are gone.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use super::update::{ATTEMPTS, current};
use crate::apiserver::kinds::Kind;
use crate::apiserver::options::is_dry_run;
use crate::apiserver::route::Target;
use crate::apiserver::selection::Selection;
use crate::apiserver::status::{self, ApiError};
use crate::apiserver::{admission, body, metadata, reply};
use crate::lifecycle;
use crate::store::{CommitError, Object, Precondition, Store, Write};

/// What happens to a pod that names no grace period, in seconds.
const DEFAULT_GRACE: i64 = 30;

/// `DeleteOptions`, from the body or else the query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
    dry_run: Option<Vec<String>>,
}

#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct Preconditions {
    uid: Option<String>,
    resource_version: Option<String>,
}

pub(super) async fn delete(call: &Call) -> Result<Response, ApiError> {
    let (options, is_dry) = read(call)?;
    let (object, outcome) = remove(&call.api.store, &call.target, &options, is_dry).await?;
    match outcome {
        Outcome::Gone => {
            let gone = status::deleted(call.target.kind, &call.target.name, &object.uid);
            reply::other(call, StatusCode::OK, &gone)
        }
        Outcome::Waiting(value) => reply::value(call, StatusCode::OK, value, &[]),
    }
}

pub(super) async fn delete_collection(call: &Call) -> Result<Response, ApiError> {
    let (options, is_dry) = read(call)?;
    let target = &call.target;
    let selection = Selection::parse(target, &call.options)?;
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let found = call.api.store.list(&target.stored.resource(), namespace, None, None);
    let mut deleted: Vec<Arc<Object>> = Vec::new();
    for object in found.objects {
        if !selection.matches(target, &object)? {
            continue;
        }
        let one =
            Target { name: object.key.name.to_string(), namespace: target.namespace.clone(), ..*target };
        match remove(&call.api.store, &one, &options, is_dry).await {
            Ok(_) => deleted.push(object),
            // Somebody else was faster.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    reply::list(call, &deleted, json!({"resourceVersion": call.api.store.revision().to_string()}))
}

fn read(call: &Call) -> Result<(DeleteOptions, bool), ApiError> {
    let query = &call.options;
    let mut options = DeleteOptions::default();
    if !call.body.is_empty() {
        let value = body::decode(&call.headers, &call.body)?.value;
        options = serde_json::from_value(value)
            .map_err(|e| ApiError::BadRequest(format!("the DeleteOptions cannot be read: {e}")))?;
    }
    options.grace_period_seconds = options.grace_period_seconds.or(query.grace_period_seconds);
    options.propagation_policy = options.propagation_policy.or_else(|| query.propagation_policy.clone());
    if let Some(policy) = options.propagation_policy.as_deref()
        && !matches!(policy, "" | "Orphan" | "Background" | "Foreground")
    {
        return Err(ApiError::Unprocessable(format!(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Unsupported value: {policy:?}: \
             supported values: \"Background\", \"Foreground\", \"Orphan\""
        )));
    }
    let dry = options.dry_run.as_deref().unwrap_or(&query.dry_run);
    let is_dry = is_dry_run(dry, call.target.kind)?;
    Ok((options, is_dry))
}

/// What became of the object.
enum Outcome {
    Gone,
    /// It is being deleted and stays until something lets go of it.
    Waiting(Value),
}

async fn remove(
    store: &Store,
    target: &Target,
    options: &DeleteOptions,
    is_dry: bool,
) -> Result<(Arc<Object>, Outcome), ApiError> {
    admission::delete(target.kind, &target.name)?;
    let mut attempt = 1;
    loop {
        let object = current(store, target)?;
        check(target, &object, options)?;
        let old = reply::decode(&object)?;
        let fate = decide(target.stored, &old, options.grace_period_seconds, Timestamp::now());
        let precondition = Precondition::Revision(object.revision);
        let (write, outcome) = match fate {
            Fate::Remove => (Write { key: target.key(), precondition, body: None }, Outcome::Gone),
            Fate::Wait => return Ok((object, Outcome::Waiting(old))),
            Fate::Mark(value) => {
                let write = lifecycle::update(target.key(), precondition, value.clone());
                let outcome = if write.body.is_none() { Outcome::Gone } else { Outcome::Waiting(value) };
                (write, outcome)
            }
        };
        if is_dry {
            return Ok((object, outcome));
        }
        match store.commit(vec![write]).await {
            Ok(committed) => {
                let outcome = match (outcome, committed.first()) {
                    (Outcome::Waiting(_), Some(committed)) => {
                        Outcome::Waiting(reply::decode(&committed.object)?)
                    }
                    (outcome, _) => outcome,
                };
                return Ok((object, outcome));
            }
            // Deletions go on whatever changed, unless a precondition says otherwise.
            Err(CommitError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(ApiError::from_commit(error, target.kind, &target.name)),
        }
    }
}

fn check(target: &Target, object: &Object, options: &DeleteOptions) -> Result<(), ApiError> {
    let Some(preconditions) = &options.preconditions else { return Ok(()) };
    let refuse = |what: &str, asked: &str, found: &str| {
        let why =
            format!("Precondition failed: {what} in precondition: {asked}, {what} in object meta: {found}");
        Err(ApiError::conflict(target.kind, &target.name, why))
    };
    if let Some(uid) = preconditions.uid.as_deref().filter(|uid| **uid != *object.uid) {
        return refuse("UID", uid, &object.uid);
    }
    let found = object.revision.to_string();
    match preconditions.resource_version.as_deref().filter(|version| *version != found) {
        Some(version) => refuse("ResourceVersion", version, &found),
        None => Ok(()),
    }
}

/// What a deletion does to an object.
#[derive(Debug, PartialEq)]
enum Fate {
    /// Nothing holds it.
    Remove,
    /// It is marked as being deleted.
    Mark(Value),
    /// It is being deleted already and this request changes nothing.
    Wait,
}

/// The rules of upstream's `rest.BeforeDelete`: only kinds with a grace period
/// have one, and a second deletion can only shorten it.
fn decide(kind: &Kind, old: &Value, asked: Option<i64>, now: Timestamp) -> Fate {
    let begun = old["metadata"]["deletionTimestamp"].as_str();
    let left = old["metadata"]["deletionGracePeriodSeconds"].as_i64();
    let grace = match (begun, left) {
        (None, _) => grace(kind, old, asked),
        (Some(_), Some(left)) if kind.is_graceful => match asked {
            Some(asked) if asked.max(0) < left => asked.max(0),
            _ if left > 0 => return Fate::Wait,
            _ => 0,
        },
        (Some(_), _) => 0,
    };
    let listed = |list: &Value| list.as_array().is_some_and(|list| !list.is_empty());
    let is_held = listed(&old["metadata"]["finalizers"])
        || kind.kind == "Namespace" && listed(&old["spec"]["finalizers"]);
    if grace == 0 && !is_held {
        return Fate::Remove;
    }
    if begun.is_some() && left.unwrap_or(0) == grace {
        return Fate::Wait;
    }
    let mut value = old.clone();
    value["metadata"]["deletionTimestamp"] = json!(metadata::time(now + SignedDuration::from_secs(grace)));
    value["metadata"]["deletionGracePeriodSeconds"] = json!(grace);
    if begun.is_none() {
        metadata::count_generation(&mut value);
    }
    if kind.kind == "Namespace" {
        value["status"]["phase"] = json!("Terminating");
    }
    Fate::Mark(value)
}

/// The seconds that an object has to end in.
fn grace(kind: &Kind, old: &Value, asked: Option<i64>) -> i64 {
    let is_placed = old["spec"]["nodeName"].as_str().is_some_and(|node| !node.is_empty());
    let is_over = matches!(old["status"]["phase"].as_str(), Some("Succeeded" | "Failed"));
    if !kind.is_graceful || !is_placed || is_over {
        return 0;
    }
    match asked.or_else(|| old["spec"]["terminationGracePeriodSeconds"].as_i64()).unwrap_or(DEFAULT_GRACE) {
        // Upstream reads a negative period as the shortest graceful one.
        negative if negative < 0 => 1,
        grace => grace.min(i64::from(i32::MAX)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::route;

    fn kind(plural: &str) -> &'static Kind {
        route::find("", "v1", plural).unwrap()
    }

    #[test]
    fn pods_end_gracefully() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let pods = kind("pods");
        let placed = json!({"metadata": {}, "spec": {"nodeName": "n"}});
        let Fate::Mark(marked) = decide(pods, &placed, None, now) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionTimestamp"], "2026-01-01T00:00:30Z");
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 30);
        for (object, asked, expected) in [
            (&json!({"metadata": {}, "spec": {}}), None, Fate::Remove),
            (&placed, Some(0), Fate::Remove),
            (
                &json!({"metadata": {}, "spec": {"nodeName": "n"}, "status": {"phase": "Failed"}}),
                None,
                Fate::Remove,
            ),
            (&marked, None, Fate::Wait),
            (&marked, Some(40), Fate::Wait),
            (&marked, Some(0), Fate::Remove),
        ] {
            assert_eq!(decide(pods, object, asked, now), expected, "{object} {asked:?}");
        }
        let Fate::Mark(shorter) = decide(pods, &marked, Some(5), now) else { panic!("not shortened") };
        assert_eq!(shorter["metadata"]["deletionTimestamp"], "2026-01-01T00:00:05Z");
    }

    #[test]
    fn finalizers_hold() {
        let now: Timestamp = "2026-01-01T00:00:00Z".parse().unwrap();
        let claims = kind("persistentvolumeclaims");
        let held = json!({"metadata": {"finalizers": ["a"]}, "spec": {}});
        let Fate::Mark(marked) = decide(claims, &held, Some(9), now) else { panic!("not marked") };
        assert_eq!(marked["metadata"]["deletionGracePeriodSeconds"], 0);
        assert_eq!(decide(claims, &marked, Some(0), now), Fate::Wait);
        assert_eq!(decide(claims, &json!({"metadata": {}}), None, now), Fate::Remove);
        let namespace = json!({"metadata": {}, "spec": {"finalizers": ["kubernetes"]}});
        let Fate::Mark(marked) = decide(kind("namespaces"), &namespace, None, now) else {
            panic!("not marked")
        };
        assert_eq!(marked["status"]["phase"], "Terminating");
    }
}
