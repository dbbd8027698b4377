//! What the administrator asks of the server itself. Roles allow it by path (`nonResourceURLs`), to nobody but
//! administrators at first: a backup has everything in it. Both take as long as the store is large, so they do not count
//! among the requests under way, as watches do not.

use std::sync::Arc;

use axum::Json;
use axum::body::Body;
use axum::extract::State;
use axum::response::{IntoResponse, Response};
use http::{HeaderValue, header};

use super::Api;
use super::status::ApiError;

/// Where `GET` answers with a backup of the store, as [`crate::store::Backup`] reads it.
pub const BACKUP_PATH: &str = "/holdfast/backup";
/// Where `GET` checks the store and answers with a [`crate::store::Report`].
pub const CHECK_PATH: &str = "/holdfast/check";

/// Whether a request of this path may take long without being stuck.
pub(crate) fn is_long_running(path: &str) -> bool {
    matches!(path, BACKUP_PATH | CHECK_PATH)
}

/// The store as it is now, as fast as the client takes it. A client that does not read holds nobody up.
pub(crate) async fn backup(State(api): State<Arc<Api>>) -> Response {
    let snapshot = api.store.snapshot();
    tracing::info!(revision = snapshot.header().revision, "sending a backup of the store");
    let mut response = Response::new(Body::from_stream(futures::stream::iter(snapshot.into_text())));
    let media = HeaderValue::from_static("application/x-ndjson");
    response.headers_mut().insert(header::CONTENT_TYPE, media);
    response
}

/// Whether the store is in order.
pub(crate) async fn check(State(api): State<Arc<Api>>) -> Result<Response, ApiError> {
    let report = api.store.check().await.map_err(|error| ApiError::Unavailable(error.to_string()))?;
    for finding in &report.findings {
        tracing::error!(%finding, "something is wrong with the store");
    }
    Ok(Json(report).into_response())
}
