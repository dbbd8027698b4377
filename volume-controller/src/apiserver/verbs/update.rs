//! Replacing objects: PUT, and the second half of every patch.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Map, Value};

use super::Call;
use super::create::validate;
use crate::apiserver::apply::{self, Owners};
use crate::apiserver::kinds::Kind;
use crate::apiserver::route::{Part, Target};
use crate::apiserver::status::ApiError;
use crate::apiserver::writer::{self, is_custom_upstream};
use crate::apiserver::{admission, body, metadata, quota, reply, size};
use crate::lifecycle;
use crate::store::{CommitError, Object, Precondition, Store, Transaction, Write};

/// How often a write that names no version is tried against newer objects.
pub(super) const ATTEMPTS: u32 = 8;

pub(super) async fn update(call: &Call) -> Result<Response, ApiError> {
    let target = &call.target;
    writer::check("UpdateOptions", &call.options, false)?;
    let manager = writer::name(&call.options, &call.headers);
    let is_dry_run = call.options.is_dry_run(target.kind)?;
    let (value, warnings) = size::aside(call.body.len(), || {
        let document = body::decode(&call.headers, &call.body)?;
        body::conform(target.kind, document, call.options.field_validation)
    })?;
    let value = target.to_stored(value);
    let mut attempt = 1;
    loop {
        let old = current(&call.api.store, target)?;
        let before = reply::decode(&old)?;
        let new = size::aside(call.body.len() + old.body.len(), || {
            build(&call.api.store, target, &before, value.clone(), Recorded::By(&manager))
        })?;
        call.check_grants(Some(&before), &new.body)?;
        if is_dry_run {
            return reply::value(call, StatusCode::OK, new.body, &warnings);
        }
        match store(&call.api.store, target, &old, &before, new).await {
            Ok(stored) => return respond(call, stored, &warnings),
            // If the client named a version, building fails in the next round.
            Err(CommitError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(ApiError::from_commit(error, target.kind, &target.name)),
        }
    }
}

/// The object that a request names.
pub(super) fn current(store: &Store, target: &Target) -> Result<Arc<Object>, ApiError> {
    store.get(&target.key()).ok_or_else(|| ApiError::not_found(target.kind, &target.name))
}

/// How the owners of an object's fields are known.
#[derive(Debug, Clone)]
pub(crate) enum Recorded<'a> {
    /// This manager owns what it changes.
    By(&'a str),
    /// An apply has found out.
    Known(Owners),
}

/// The new form of an object.
pub(super) struct Built {
    pub(super) body: Value,
    /// The quotas that are told of it.
    charges: Vec<Write>,
}

/// What became of a write.
pub(super) enum Stored {
    /// The object as it is now.
    Kept(Arc<Object>),
    /// The write took what held a deleted object, so it is gone; its last form.
    Released(Value),
}

/// Stores the new form of `old`, which `before` is the content of. One that is the same is
/// not written, so that controllers and `kubectl apply` that repeat themselves wake nobody.
pub(super) async fn store(
    store: &Store,
    target: &Target,
    old: &Arc<Object>,
    before: &Value,
    new: Built,
) -> Result<Stored, CommitError> {
    let Built { body: new, charges } = new;
    if is_same(before, &new) {
        return Ok(Stored::Kept(old.clone()));
    }
    let write = lifecycle::update(target.key(), Precondition::Revision(old.revision), new.clone());
    let is_released = write.body.is_none();
    let writes = std::iter::once(write).chain(charges).collect();
    let is_patient = target.stored.is_patient();
    let committed = store.commit(Transaction { writes, is_patient, ..Transaction::default() }).await?;
    Ok(match committed.into_iter().next() {
        Some(committed) if !is_released => Stored::Kept(committed.object),
        _ => Stored::Released(new),
    })
}

/// Whether two forms of an object differ in nothing but when somebody came to own what it
/// owned already.
fn is_same(old: &Value, new: &Value) -> bool {
    let (Value::Object(old), Value::Object(new)) = (old, new) else { return old == new };
    let same_but = |old: &Map<String, Value>, new: &Map<String, Value>, but: &str| {
        let others = |map: &Map<String, Value>| map.len() - usize::from(map.contains_key(but));
        others(old) == others(new)
            && old.iter().all(|(name, value)| name == but || new.get(name) == Some(value))
    };
    let (before, after) = (old.get("metadata"), new.get("metadata"));
    same_but(old, new, "metadata")
        && match (before.and_then(Value::as_object), after.and_then(Value::as_object)) {
            (Some(before), Some(after)) => {
                same_but(before, after, "managedFields")
                    && !apply::differ(before.get("managedFields"), after.get("managedFields"))
            }
            _ => before == after,
        }
}

/// Answers with what was stored.
pub(super) fn respond(call: &Call, stored: Stored, warnings: &[String]) -> Result<Response, ApiError> {
    match stored {
        Stored::Kept(object) => reply::stored(call, StatusCode::OK, &object, warnings),
        Stored::Released(value) => reply::value(call, StatusCode::OK, value, warnings),
    }
}

/// The object as it will be stored: what this part of the API may not change is
/// taken from `old`, the rest is defaulted, validated and admitted.
pub(super) fn build(
    store: &Store,
    target: &Target,
    old: &Value,
    mut new: Value,
    recorded: Recorded<'_>,
) -> Result<Built, ApiError> {
    let kind = target.stored;
    metadata::continue_from(target, old, &mut new)?;
    let mut new = restrict(kind, target.part, old, new);
    if target.part == Part::Main {
        (kind.default)(&mut new);
    }
    match recorded {
        Recorded::By(name) => {
            apply::track(kind, writer::writer(target, name), Some(old), &mut new, Timestamp::now());
        }
        Recorded::Known(owners) => apply::record(kind, owners, &mut new),
    }
    if target.part == Part::Main {
        admission::complete(target, &mut new);
    }
    if is_newer(kind, old, &new) {
        lifecycle::count_generation(&mut new);
    }
    let mut causes = metadata::validate_finalizers(old, &new);
    match target.part {
        Part::Main => causes.extend(validate(kind, &new)),
        // Metadata can be written here, too.
        _ => causes.extend(metadata::validate(kind, &new)),
    }
    for cause in (kind.validate_update)(&new, old) {
        if !causes.contains(&cause) {
            causes.push(cause);
        }
    }
    ApiError::invalid(target.kind, &target.name, causes)?;
    size::check(Some(old), &new)?;
    admission::update(store, target, old, &new)?;
    let mut charges = Vec::new();
    if target.part == Part::Main {
        let key = target.key();
        quota::check_range(store, target.kind, &key, Some(old), &new)?;
        charges = quota::charge(store, target.kind, &key, Some(old), &new)?;
    }
    Ok(Built { body: new, charges })
}

/// Whether what is wanted has changed. Of custom resources that is all but metadata and status.
fn is_newer(kind: &Kind, old: &Value, new: &Value) -> bool {
    if !is_custom_upstream(kind) {
        return old["spec"] != new["spec"];
    }
    let wanted = |object: &Value| match object {
        Value::Object(fields) => {
            let others = fields.iter().filter(|(name, _)| !matches!(name.as_str(), "metadata" | "status"));
            others.map(|(name, value)| (name.clone(), value.clone())).collect()
        }
        _ => Map::new(),
    };
    wanted(old) != wanted(new)
}

/// Keeps of `new` what this part of the API may change.
fn restrict(kind: &Kind, part: Part, old: &Value, mut new: Value) -> Value {
    match part {
        Part::Main | Part::Binding | Part::Token => {
            if kind.has_status {
                put(&mut new, "status", old.get("status").cloned());
            }
            // Only `/finalize` changes what keeps a namespace until it is empty: a manifest
            // without it must not let one go whose content is still there.
            if kind.kind == "Namespace" {
                new["spec"]["finalizers"] = old["spec"]["finalizers"].clone();
            }
            new
        }
        Part::Status => {
            let mut kept = old.clone();
            put(&mut kept, "status", new.get_mut("status").map(Value::take));
            if !is_custom_upstream(kind) {
                put(&mut kept, "metadata", new.get_mut("metadata").map(Value::take));
            }
            kept
        }
        Part::Finalize => {
            let mut kept = old.clone();
            kept["spec"]["finalizers"] = new["spec"]["finalizers"].take();
            kept
        }
    }
}

fn put(value: &mut Value, field: &str, content: Option<Value>) {
    let Some(object) = value.as_object_mut() else { return };
    match content.filter(|content| !content.is_null()) {
        Some(content) => object.insert(field.to_owned(), content),
        None => object.remove(field),
    };
}
