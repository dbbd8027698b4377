//! Deleting objects: at once, after a grace period, or when their finalizers are gone.

use std::pin::pin;
use std::sync::Arc;

use axum::response::Response;
use futures::{StreamExt, stream};
use http::StatusCode;
use jiff::Timestamp;
use serde::Deserialize;
use serde_json::{Value, json};

use super::Call;
use super::update::{ATTEMPTS, current};
use crate::apiserver::kinds::Kind;
use crate::apiserver::options::is_dry_run;
use crate::apiserver::route::Target;
use crate::apiserver::selection::Selection;
use crate::apiserver::status::{self, ApiError};
use crate::apiserver::{admission, body, reply};
use crate::lifecycle::{self, Deletion};
use crate::store::{CommitError, Object, Precondition, Store, Write};

/// Of many objects, how many are deleted at the same time.
const AT_ONCE: usize = 64;
const EVENTS: &str = "events";

/// `DeleteOptions`, from the body or else the query.
#[derive(Debug, Default, Deserialize)]
#[serde(rename_all = "camelCase", default)]
struct DeleteOptions {
    grace_period_seconds: Option<i64>,
    preconditions: Option<Preconditions>,
    propagation_policy: Option<String>,
    orphan_dependents: Option<bool>,
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
        Outcome::Gone if call.target.kind.returns_deleted => {
            reply::value(call, StatusCode::OK, reply::decode(&object)?, &[])
        }
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
    let mut meant = Vec::new();
    for object in found.objects {
        if selection.matches(target, &object)? {
            meant.push(object);
        }
    }
    let room = reply::room(call, &meant)?;
    // Several at once share a commit.
    let outcomes = stream::iter(meant).map(|object| async {
        let name = object.key.name.to_string();
        let one = Target { name, namespace: target.namespace.clone(), ..*target };
        (remove(&call.api.store, &one, &options, is_dry).await, object)
    });
    let mut outcomes = pin!(outcomes.buffered(AT_ONCE));
    let mut deleted: Vec<Arc<Object>> = Vec::new();
    while let Some((outcome, object)) = outcomes.next().await {
        match outcome {
            Ok(_) => deleted.push(object),
            // Somebody else was faster.
            Err(ApiError::NotFound { .. }) => {}
            Err(error) => return Err(error),
        }
    }
    let revision = call.api.store.revision().to_string();
    reply::list(call, deleted, json!({"resourceVersion": revision}), room)
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
    options.orphan_dependents = options.orphan_dependents.or(query.orphan_dependents);
    if options.orphan_dependents.is_some() && options.propagation_policy.is_some() {
        return Err(ApiError::Unprocessable(
            "DeleteOptions.meta.k8s.io \"\" is invalid: propagationPolicy: Invalid value: orphanDependents and \
             deletionPropagation cannot be both set"
                .to_owned(),
        ));
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
        let stored = reply::decode(&object)?;
        let old = propagated(target.stored, stored.clone(), options);
        let asked = options.grace_period_seconds;
        let deletion = match lifecycle::deletion(&object.key.resource, &old, asked, Timestamp::now()) {
            // It goes already, and what belongs to it is to be treated otherwise from now on.
            Deletion::Wait if old != stored => Deletion::Mark(old.clone()),
            deletion => deletion,
        };
        let precondition = Precondition::Revision(object.revision);
        let (write, outcome) = match deletion {
            Deletion::Remove => (Write { key: target.key(), precondition, body: None }, Outcome::Gone),
            Deletion::Wait => return Ok((object, Outcome::Waiting(old))),
            Deletion::Mark(value) => {
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

/// The object with the finalizer that says what becomes of those that it owns, as the options say or as
/// it says itself already (upstream's `deletionFinalizersForGarbageCollection`).
fn propagated(kind: &Kind, mut body: Value, options: &DeleteOptions) -> Value {
    // Events own nothing.
    if kind.plural == EVENTS {
        return body;
    }
    let finalizer = match (options.orphan_dependents, options.propagation_policy.as_deref()) {
        (Some(true), _) | (None, Some("Orphan")) => "orphan",
        (None, Some("Foreground")) => "foregroundDeletion",
        (Some(false), _) | (None, Some("Background")) => "",
        (None, _) => return body,
    };
    lifecycle::propagate(&mut body, finalizer);
    body
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
