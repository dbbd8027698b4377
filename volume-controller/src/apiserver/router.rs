//! From an HTTP request to the verb that does it.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::extract::{Request, State};
use axum::middleware;
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{Method, StatusCode, request::Parts};
use tokio::time::Instant;

use super::accept::{self, Syntax};
use super::metrics::RequestLabels;
use super::options::Options;
use super::status::ApiError;
use super::tokens::issuer;
use super::user::User;
use super::verbs::{self, Call, Verb};
use super::{Api, admin, admit, body, discovery, fixed, gzip, health, reply, reviews, route};

/// Every path of the server.
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/version", get(fixed::version))
        // The official Python client asks so.
        .route("/version/", get(fixed::version))
        .route("/healthz", get(health::all))
        .route("/healthz/{name}", get(health::one))
        .route("/livez", get(health::all))
        .route("/livez/{name}", get(health::one))
        .route("/readyz", get(health::all))
        .route("/readyz/{name}", get(health::one))
        .route("/metrics", get(fixed::metrics))
        .route(admin::BACKUP_PATH, get(admin::backup))
        .route(admin::CHECK_PATH, get(admin::check))
        .route(issuer::DOCUMENT, get(issuer::document))
        .route(issuer::KEYS, get(issuer::keys))
        .route("/openapi/v2", get(fixed::openapi_v2))
        .route("/openapi/v3", get(fixed::openapi_v3))
        .route("/openapi/v3/{*name}", get(fixed::openapi_v3_document))
        .route(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            get(fixed::custom_resource_definitions),
        )
        .fallback(objects)
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed.into_response() })
        .layer(middleware::from_fn_with_state(api.clone(), admit::admit))
        .layer(middleware::from_fn(gzip::compress))
        .with_state(api)
}

/// `/api…` and `/apis…`
async fn objects(State(api): State<Arc<Api>>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let mut body = Some(body);
    let (labels, result) = handle(&api, &parts, &mut body).await;
    let is_refused = result.is_err();
    if let Some(unread) = body.filter(|_| is_refused) {
        body::pass_over(&parts.headers, unread).await;
    }
    let response = result.unwrap_or_else(|error| error.answer(accept::for_errors(&parts.headers)));
    if let Some(labels) = labels {
        api.metrics.answered(
            &labels,
            response.status().as_u16(),
            response.body().size_hint().exact(),
            started.elapsed(),
        );
    }
    tracing::debug!(
        method = %parts.method,
        uri = %parts.uri,
        code = response.status().as_u16(),
        took_ms = started.elapsed().as_millis(),
        "request"
    );
    response
}

async fn handle(
    api: &Arc<Api>,
    parts: &Parts,
    body: &mut Option<Body>,
) -> (Option<RequestLabels>, Result<Response, ApiError>) {
    let path = parts.uri.path();
    if matches!(parts.method, Method::GET | Method::HEAD)
        && let Some(answer) = discovery::answer(path, &parts.headers)
    {
        return (None, answer);
    }
    // Without one, nobody has looked at the request: it has no rights at all.
    let Some(user) = parts.extensions.get::<Arc<User>>() else {
        return (None, Err(ApiError::Unauthorized));
    };
    if let Some((review, namespace)) = reviews::find(path) {
        return (None, self::review(api, user, review, &namespace, parts, body).await);
    }
    let read = route::parse(path).and_then(|target| Ok((target, Options::parse(&parts.uri)?)));
    let (target, options) = match read {
        Ok(read) => read,
        Err(error) => return (None, Err(error)),
    };
    let Some(verb) = Verb::of(&parts.method, &target, &options) else {
        return (None, Err(ApiError::MethodNotAllowed));
    };
    let scope = match (target.name.is_empty(), target.namespace.is_empty()) {
        (false, _) => "resource",
        (true, false) => "namespace",
        (true, true) => "cluster",
    };
    let labels = RequestLabels {
        verb: verb.name(),
        group: target.kind.group,
        version: target.kind.version,
        resource: target.kind.plural,
        subresource: target.part.name(),
        scope,
        dry_run: if options.dry_run.is_empty() { "" } else { "All" },
    };
    let call = async {
        let accepted = accept::negotiate(&parts.headers, target.kind)?;
        let body = match verb {
            Verb::Get | Verb::List | Verb::Watch => Bytes::new(),
            _ => body::read(body.take().unwrap_or_default()).await?,
        };
        let headers = parts.headers.clone();
        let call = Call {
            api: api.clone(),
            user: user.clone(),
            target,
            options,
            accepted,
            headers,
            body,
            labels: labels.clone(),
        };
        // Last, as a body may have taken its time. Who says "0" takes what this server knows.
        if call.options.resource_version != "0" {
            let known = api.store.catch_up().await;
            known.map_err(|error| ApiError::Unavailable(error.to_string()))?;
        }
        let there = match verb {
            Verb::Get | Verb::List | Verb::Watch => 0,
            _ => api.store.get(&call.target.key()).map_or(0, |object| object.body.len()),
        };
        let _turn = api.turns.wait(call.body.len().max(there)).await?;
        verbs::run(verb, call).await
    };
    let result = call.await;
    (Some(labels), result)
}

/// The largest review, in bytes of its body: a token is the longest that one holds.
const MAX_REVIEW: usize = 64 * 1024;

async fn review(
    api: &Api,
    user: &User,
    review: &reviews::Review,
    namespace: &str,
    parts: &Parts,
    body: &mut Option<Body>,
) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::MethodNotAllowed);
    }
    // Nothing is ever stored, but what a client says must make sense.
    Options::parse(&parts.uri)?.is_dry_run(review.resource())?;
    // Everybody may ask, also who may do nothing else.
    let bytes = body::read_at_most(MAX_REVIEW, body.take().unwrap_or_default()).await?;
    let answer = review.answer(api, user, namespace, &parts.headers, &bytes)?;
    reply::finish(StatusCode::CREATED, Bytes::from(answer.to_string()), Syntax::Json, &[])
}
