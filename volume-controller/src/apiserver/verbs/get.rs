//! Reading one object.

use axum::response::Response;
use http::StatusCode;

use super::Call;
use crate::apiserver::reply;
use crate::apiserver::status::ApiError;

/// The object as it is now. A `resourceVersion` asks for nothing newer than
/// that, which the present always satisfies, unless it is from another history.
pub(super) fn get(call: &Call) -> Result<Response, ApiError> {
    let current = call.api.store.revision();
    if let Some(asked) = call.options.revision()?.filter(|asked| *asked > current) {
        return Err(ApiError::FutureVersion { asked, current });
    }
    let found = call.api.store.get(&call.target.key());
    let object = found.ok_or_else(|| ApiError::not_found(call.target.kind, &call.target.name))?;
    reply::stored(call, StatusCode::OK, &object, &[])
}
