//! Server-side apply: a patch that says what its sender wants, and owns.

use std::sync::Arc;

use axum::response::Response;
use http::StatusCode;
use jiff::Timestamp;
use serde_json::{Value, json};

use super::Call;
use super::create::{self, insert};
use super::update::{ATTEMPTS, Recorded, build, respond, store};
use crate::apiserver::apply::{self, Applied, Applier, Owners};
use crate::apiserver::body::{self, Document};
use crate::apiserver::rbac::attributes::Attributes;
use crate::apiserver::route::Part;
use crate::apiserver::status::{ApiError, MODIFIED};
use crate::apiserver::{reply, size, unknown, writer};
use crate::store::{CommitError, Object};

/// What a client wants an object to be.
struct Configuration {
    /// In the stored form.
    value: Value,
    /// Fields that are in the document twice.
    duplicates: Vec<String>,
}

pub(super) async fn apply(call: &Call) -> Result<Response, ApiError> {
    writer::check("PatchOptions", &call.options, true)?;
    let is_dry_run = call.options.is_dry_run(call.target.kind)?;
    let config = size::aside(call.body.len(), || read(call))?;
    let mut attempt = 1;
    loop {
        let done = match call.api.store.get(&call.target.key()) {
            Some(old) => change(call, &old, &config, is_dry_run).await?,
            None => make(call, &config, is_dry_run).await?,
        };
        match done {
            Some(response) => return Ok(response),
            // What it was applied to has changed: the next round sees what is there now. A
            // configuration that names a version fails there.
            None if attempt < ATTEMPTS => attempt += 1,
            None => return Err(ApiError::conflict(call.target.kind, &call.target.name, MODIFIED)),
        }
    }
}

/// Applies to an object that is there; `None` when it was changed meanwhile.
async fn change(
    call: &Call,
    old: &Arc<Object>,
    config: &Configuration,
    is_dry_run: bool,
) -> Result<Option<Response>, ApiError> {
    let target = &call.target;
    let before = reply::decode(old)?;
    let mut live = before.clone();
    let owners = owners(call, apply::take(&mut live))?;
    let (new, warnings) = size::aside(call.body.len() + old.body.len(), || {
        let Applied { object, owners } = merge(call, Some(&live), owners, &config.value)?;
        let (value, warnings) = conform(call, object, config)?;
        let new = build(&call.api.store, target, &before, value, Recorded::Known(owners))?;
        Ok::<_, ApiError>((new, warnings))
    })?;
    call.check_grants(Some(&before), &new.body)?;
    if is_dry_run {
        return reply::value(call, StatusCode::OK, new.body, &warnings).map(Some);
    }
    match store(&call.api.store, target, old, &before, new).await {
        Ok(stored) => respond(call, stored, &warnings).map(Some),
        Err(CommitError::Conflict { .. } | CommitError::Missing { .. }) => Ok(None),
        Err(error) => Err(ApiError::from_commit(error, target.kind, &target.name)),
    }
}

/// Creates the object; `None` when somebody else did so meanwhile.
async fn make(call: &Call, config: &Configuration, is_dry_run: bool) -> Result<Option<Response>, ApiError> {
    let target = &call.target;
    if target.part != Part::Main {
        return Err(ApiError::not_found(target.kind, &target.name));
    }
    // Who may change what is there may not therefore make it.
    call.api.access.check(&call.user, &Attributes::create(target))?;
    let metadata = &config.value["metadata"];
    if let Some(uid) = metadata["uid"].as_str().filter(|uid| !uid.is_empty()) {
        let why = format!(
            "uid mismatch: the provided object specified uid {uid}, and no existing object was found"
        );
        return Err(ApiError::conflict(target.kind, &target.name, why));
    }
    // Who names a version means an object that is there.
    if metadata["resourceVersion"].as_str().is_some_and(|version| !version.is_empty()) {
        return Err(ApiError::conflict(target.kind, &target.name, MODIFIED));
    }
    let (value, owners, warnings) = size::aside(call.body.len(), || {
        let Applied { mut object, owners } = merge(call, None, Owners::default(), &config.value)?;
        object["metadata"]["name"] = json!(target.name);
        let (value, warnings) = conform(call, object, config)?;
        Ok::<_, ApiError>((value, owners, warnings))
    })?;
    create::check_grants(call, &value)?;
    let recorded = Recorded::Known(owners);
    if is_dry_run {
        let value = create::build(&call.api.store, target, value, recorded, Timestamp::now())?.body;
        return reply::value(call, StatusCode::CREATED, value, &warnings).map(Some);
    }
    match insert(&call.api.store, target, value, recorded).await {
        Ok(object) => reply::stored(call, StatusCode::CREATED, &object, &warnings).map(Some),
        Err(ApiError::AlreadyExists { .. }) => Ok(None),
        Err(error) => Err(error),
    }
}

fn merge(call: &Call, live: Option<&Value>, owners: Owners, config: &Value) -> Result<Applied, ApiError> {
    let target = &call.target;
    let applier = Applier {
        kind: target.stored,
        reach: writer::reach(target),
        subresource: target.part.name(),
        name: &call.options.field_manager,
        force: call.options.force.unwrap_or(false),
        now: Timestamp::now(),
    };
    applier.apply(live, owners, config).map_err(|conflicts| {
        let version = target.stored.api_version();
        let causes = conflicts.iter().map(|c| (c.path.to_string(), c.cause(&version))).collect();
        ApiError::ApplyConflict { message: apply::message(&conflicts, &version), causes }
    })
}

fn owners(call: &Call, fields: Option<Value>) -> Result<Owners, ApiError> {
    let fields = fields.unwrap_or_default();
    Owners::decode(&fields, &call.target.stored.api_version()).map_err(|why| {
        ApiError::Internal(format!(
            "failed to decode managed fields: {why}; a merge patch of {{\"metadata\":{{\"managedFields\":[{{}}]}}}} \
             forgets them"
        ))
    })
}

/// The merged object as the kind has it.
fn conform(call: &Call, merged: Value, config: &Configuration) -> Result<(Value, Vec<String>), ApiError> {
    let target = &call.target;
    let document = Document { value: target.to_served(merged), duplicates: config.duplicates.clone() };
    let (value, warnings) = body::conform(target.kind, document, call.options.field_validation)?;
    Ok((target.to_stored(value), warnings))
}

fn read(call: &Call) -> Result<Configuration, ApiError> {
    let target = &call.target;
    // JSON is YAML, but read as JSON it says which fields are there twice.
    let is_json = call.body.trim_ascii_start().starts_with(b"{");
    let document = if is_json { body::json_document(&call.body) } else { body::yaml_document(&call.body) };
    let Document { value, duplicates } =
        document.map_err(|error| ApiError::BadRequest(format!("error decoding patch: {error}")))?;
    if !value.is_object() {
        return Err(ApiError::BadRequest("error decoding patch: it must be one object".to_owned()));
    }
    let text = |field: &str| value[field].as_str().unwrap_or_default();
    if (text("apiVersion"), text("kind")) != (target.kind.api_version().as_str(), target.kind.kind) {
        let found = describe(text("apiVersion"), text("kind"));
        return Err(ApiError::BadRequest(format!("invalid object type: {found}")));
    }
    let name = value["metadata"]["name"].as_str().unwrap_or_default();
    if !name.is_empty() && name != target.name {
        return Err(ApiError::BadRequest(format!(
            "the name of the object ({name}) does not match the name on the URL ({})",
            target.name
        )));
    }
    if !value["metadata"]["managedFields"].is_null() {
        return Err(ApiError::BadRequest("metadata.managedFields must be nil".to_owned()));
    }
    let refuse = |faults: &[String]| {
        let faults = match faults {
            [one] => one.clone(),
            many => format!("errors:\n  {}", many.join("\n  ")),
        };
        let kind = describe(&target.kind.api_version(), target.kind.kind);
        let name = format!("{}/{}", target.namespace, target.name);
        ApiError::BadRequest(format!("failed to create typed patch object ({name}; {kind}): {faults}"))
    };
    // Fields inside values that are merged as a whole are known to the model only.
    let known = (target.kind.model.check)(&value)
        .map_err(|error| refuse(&[body::misfit(target.kind, &value, &error)]))?;
    let undeclared = unknown::fields(&value, &known);
    let undeclared = undeclared.iter().map(|path| format!(".{path}: field not declared in schema"));
    let value = target.to_stored(value);
    let mut faults = apply::faults(target.stored, &value);
    for fault in undeclared {
        if !faults.contains(&fault) {
            faults.push(fault);
        }
    }
    if faults.is_empty() { Ok(Configuration { value, duplicates }) } else { Err(refuse(&faults)) }
}

/// As upstream prints a group, version and kind: `storage.k8s.io/v1, Kind=StorageClass`.
fn describe(api_version: &str, kind: &str) -> String {
    let slash = if api_version.contains('/') { "" } else { "/" };
    format!("{slash}{api_version}, Kind={kind}")
}
