//! Changing objects by patches.

use axum::response::Response;
use http::StatusCode;
use serde_json::Value;

use super::Call;
use super::update::{ATTEMPTS, Recorded, build, current, respond, store};
use crate::apiserver::body::{self, Document};
use crate::apiserver::patch::{self, PatchError};
use crate::apiserver::status::ApiError;
use crate::apiserver::{reply, size, writer};
use crate::store::CommitError;

const ACCEPTED: &str =
    "application/json-patch+json, application/merge-patch+json, application/apply-patch+yaml";
const STRATEGIC: &str = "application/strategic-merge-patch+json";
/// Server-side apply.
const APPLY: &str = "application/apply-patch+yaml";

enum Patch {
    Json(Value),
    Merge(Value),
    Strategic(Value),
}

pub(super) async fn patch(call: &Call) -> Result<Response, ApiError> {
    if body::content_type(&call.headers) == APPLY {
        return super::apply::apply(call).await;
    }
    writer::check("PatchOptions", &call.options, false)?;
    let manager = writer::name(&call.options, &call.headers);
    let target = &call.target;
    let is_dry_run = call.options.is_dry_run(target.kind)?;
    let patch = size::aside(call.body.len(), || read(call))?;
    let mut attempt = 1;
    loop {
        let old = current(&call.api.store, target)?;
        let before = reply::decode(&old)?;
        let (new, warnings) = size::aside(call.body.len() + old.body.len(), || {
            let patched = apply(call, &patch, &target.to_served(before.clone()))?;
            let document = Document { value: patched, duplicates: Vec::new() };
            let (value, warnings) = body::conform(target.kind, document, call.options.field_validation)?;
            let value = target.to_stored(value);
            let new = build(&call.api.store, target, &before, value, Recorded::By(&manager))?;
            Ok::<_, ApiError>((new, warnings))
        })?;
        call.check_grants(Some(&before), &new.body)?;
        if is_dry_run {
            return reply::value(call, StatusCode::OK, new.body, &warnings);
        }
        match store(&call.api.store, target, &old, &before, new).await {
            Ok(stored) => return respond(call, stored, &warnings),
            // The patch is applied to the newer object, as upstream does. A patch that
            // names a version fails there.
            Err(CommitError::Conflict { .. }) if attempt < ATTEMPTS => attempt += 1,
            Err(error) => return Err(ApiError::from_commit(error, target.kind, &target.name)),
        }
    }
}

fn read(call: &Call) -> Result<Patch, ApiError> {
    let is_custom = writer::is_custom_upstream(call.target.kind);
    let json = |make: fn(Value) -> Patch| Ok(make(body::json_document(&call.body)?.value));
    match body::content_type(&call.headers) {
        "application/json-patch+json" => json(Patch::Json),
        "application/merge-patch+json" => json(Patch::Merge),
        STRATEGIC if !is_custom => json(Patch::Strategic),
        other => {
            let accepted = if is_custom { ACCEPTED } else { &format!("{ACCEPTED}, {STRATEGIC}") };
            Err(ApiError::UnsupportedMediaType(format!(
                "the body of the request was in an unknown format ({other}) - accepted media types include: {accepted}"
            )))
        }
    }
}

fn apply(call: &Call, patch: &Patch, object: &Value) -> Result<Value, ApiError> {
    let patched = match patch {
        Patch::Json(patch) => patch::json(object, patch),
        Patch::Merge(patch) => Ok(patch::merge(object, patch)),
        Patch::Strategic(patch) => patch::strategic(call.target.kind, object, patch),
    };
    let is_secret = call.target.kind.kind == "Secret";
    let patched = patched.map_err(|error| match error {
        // The text may quote the patch.
        PatchError::Malformed(_) if is_secret => {
            ApiError::BadRequest("the patch is not one that fits a Secret".to_owned())
        }
        PatchError::Malformed(why) => ApiError::BadRequest(why),
        PatchError::TooLarge(why) => ApiError::TooLarge(why),
        PatchError::Unprocessable(why) => ApiError::Unprocessable(why),
    })?;
    if patched.is_object() {
        return Ok(patched);
    }
    Err(ApiError::BadRequest("the patch would leave no object".to_owned()))
}
