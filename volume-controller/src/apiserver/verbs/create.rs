//! Creating objects.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::Value;
use uuid::Uuid;

use super::Call;
use super::update::Recorded;
use crate::apiserver::kinds::policy_rules::GROUP;
use crate::apiserver::kinds::{Cause, CauseReason, Kind};
use crate::apiserver::quota::{self, QUOTAS};
use crate::apiserver::route::Target;
use crate::apiserver::status::ApiError;
use crate::apiserver::{admission, apply, body, metadata, reply, size, writer};
use crate::store::{CommitError, Guard, Object, Precondition, Store, Transaction, Write};

/// How often a made-up name that is taken is made up again, as upstream does, and a
/// namespace that changed is looked at again.
const ATTEMPTS: u32 = 8;

/// How often a quota is looked at again that others use more of at the same time. In every
/// round one of them at least is done.
const CHARGES: u32 = 1024;

/// An object that can be stored.
pub(super) struct Built {
    name: String,
    pub(super) body: Value,
    /// What it was admitted on.
    guard: Option<Guard>,
    /// The quotas that are told of it.
    charges: Vec<Write>,
}

pub(super) async fn create(call: &Call) -> Result<Response, ApiError> {
    let target = &call.target;
    writer::check("CreateOptions", &call.options, false)?;
    let manager = writer::name(&call.options, &call.headers);
    let recorded = Recorded::By(&manager);
    let is_dry_run = call.options.is_dry_run(target.kind)?;
    let (value, warnings) = size::aside(call.body.len(), || {
        let document = body::decode(&call.headers, &call.body)?;
        body::conform(target.kind, document, call.options.field_validation)
    })?;
    let value = target.to_stored(value);
    check_grants(call, &value)?;
    if is_dry_run {
        let Built { name, body: value, .. } =
            build(&call.api.store, target, value, recorded, Timestamp::now())?;
        if call.api.store.get(&target.key_of(&name)).is_some() {
            return Err(ApiError::AlreadyExists { resource: target.kind.into(), name });
        }
        return reply::value(call, StatusCode::CREATED, value, &warnings);
    }
    let object = insert(&call.api.store, target, value, recorded).await?;
    reply::stored(call, StatusCode::CREATED, &object, &warnings)
}

/// Refuses a new object that would give somebody more than its writer has.
pub(super) fn check_grants(call: &Call, value: &Value) -> Result<(), ApiError> {
    if call.target.kind.group != GROUP {
        return Ok(());
    }
    // As it will be stored: what is defaulted grants, too.
    let mut granted = value.clone();
    (call.target.stored.default)(&mut granted);
    call.check_grants(None, &granted)
}

/// Builds and stores a new object. A made-up name that is taken is made up again.
pub(crate) async fn insert(
    store: &Store,
    target: &Target,
    value: Value,
    recorded: Recorded<'_>,
) -> Result<Arc<Object>, ApiError> {
    let is_named = value["metadata"]["name"].as_str().is_some_and(|name| !name.is_empty());
    let (mut attempt, mut charged) = (1, 1);
    loop {
        let Built { name, body, guard, charges } =
            build(store, target, value.clone(), recorded.clone(), Timestamp::now())?;
        let key = target.key_of(&name);
        let written = key.clone();
        let write = Write { key, precondition: Precondition::Absent, body: Some(body) };
        let guarded = guard.as_ref().map(|guard| guard.key.clone());
        let writes = std::iter::once(write).chain(charges).collect();
        let is_patient = target.stored.is_patient();
        let transaction = Transaction { guards: guard.into_iter().collect(), writes, is_patient };
        match store.commit(transaction).await {
            Ok(committed) => {
                let first = committed.into_iter().next();
                return first
                    .map(|c| c.object)
                    .ok_or_else(|| ApiError::Internal("the store did not say what it wrote".to_owned()));
            }
            Err(CommitError::Exists { .. }) if !is_named && attempt < ATTEMPTS => attempt += 1,
            // The namespace changed meanwhile: look at it again, which says what is wrong if it is.
            Err(CommitError::Conflict { key, .. } | CommitError::Missing { key })
                if Some(&key) == guarded.as_ref() && attempt < ATTEMPTS =>
            {
                attempt += 1;
            }
            // Somebody else came to use more of a quota, or it was changed: see what is left.
            Err(CommitError::Conflict { key, .. } | CommitError::Missing { key })
                if &*key.resource == QUOTAS && key != written && charged < CHARGES =>
            {
                charged += 1;
            }
            Err(error) => return Err(ApiError::from_commit(error, target.kind, &name)),
        }
    }
}

/// The object as it will be stored, and its name: completed, defaulted, admitted
/// and validated, in the order in which upstream does it.
pub(super) fn build(
    store: &Store,
    target: &Target,
    mut value: Value,
    recorded: Recorded<'_>,
    now: Timestamp,
) -> Result<Built, ApiError> {
    let kind = target.stored;
    let name = metadata::choose_name(&value["metadata"], &metadata::suffix()).unwrap_or_default();
    let guard = admission::namespace(store, target, &name)?;
    metadata::begin(target, &mut value, &name, &Uuid::new_v4().to_string(), now)?;
    (kind.default)(&mut value);
    // Before the server adds its own: that is nobody's.
    match recorded {
        Recorded::By(name) => apply::track(kind, writer::writer(target, name), None, &mut value, now),
        Recorded::Known(owners) => apply::record(kind, owners, &mut value),
    }
    (kind.prepare_create)(&mut value);
    admission::create(store, target, &mut value)?;
    admission::complete(target, &mut value);
    ApiError::invalid(target.kind, &name, wrong(kind, &name, &value))?;
    size::check(None, &value)?;
    let key = target.key_of(&name);
    quota::check_range(store, target.kind, &key, None, &value)?;
    let charges = quota::charge(store, target.kind, &key, None, &value)?;
    Ok(Built { name, body: value, guard, charges })
}

fn wrong(kind: &Kind, name: &str, value: &Value) -> Vec<Cause> {
    if name.is_empty() {
        return vec![Cause {
            field: "metadata.name".to_owned(),
            reason: CauseReason::Required,
            message: "name or generateName is required".to_owned(),
        }];
    }
    validate(kind, value)
}

/// What is wrong with an object, whatever it was before: what its kind says, and
/// the rules on metadata where the kind says nothing of the same field.
pub(super) fn validate(kind: &Kind, value: &Value) -> Vec<Cause> {
    let own = (kind.validate)(value);
    let mut causes: Vec<Cause> = metadata::validate(kind, value)
        .into_iter()
        .filter(|c| own.iter().all(|o| o.field != c.field))
        .collect();
    causes.extend(own);
    causes
}
