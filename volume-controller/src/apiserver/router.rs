//! From an HTTP request to the verb that does it.

use std::sync::Arc;

use axum::Router;
use axum::body::Body;
use axum::extract::{Request, State};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use bytes::Bytes;
use http::{Method, StatusCode, header, request::Parts};
use tokio::time::Instant;

use super::accept::{self, Syntax};
use super::listen::Known;
use super::metrics::RequestLabels;
use super::options::Options;
use super::status::ApiError;
use super::verbs::{self, Call, Verb};
use super::{Api, body, discovery, fixed, reply, reviews, route};

/// Every path of the server.
pub(crate) fn router(api: Arc<Api>) -> Router {
    Router::new()
        .route("/version", get(fixed::version))
        // The official Python client asks so.
        .route("/version/", get(fixed::version))
        .route("/healthz", get(fixed::live))
        .route("/livez", get(fixed::live))
        .route("/readyz", get(fixed::ready))
        .route("/metrics", get(fixed::metrics))
        .route("/openapi/v2", get(fixed::openapi_v2))
        .route("/openapi/v3", get(fixed::openapi_v3))
        .route("/openapi/v3/{*name}", get(fixed::openapi_v3_document))
        .route(
            "/apis/apiextensions.k8s.io/v1/customresourcedefinitions",
            get(fixed::custom_resource_definitions),
        )
        .fallback(objects)
        .method_not_allowed_fallback(|| async { ApiError::MethodNotAllowed.into_response() })
        .layer(middleware::from_fn_with_state(api.clone(), authenticate))
        .with_state(api)
}

async fn authenticate(State(api): State<Arc<Api>>, request: Request, next: Next) -> Response {
    match api.authenticator.check(request.uri().path(), request.headers()) {
        Ok(()) => {
            let has_proof = request.headers().contains_key(header::AUTHORIZATION);
            if let Some(known) = request.extensions().get::<Known>().filter(|_| has_proof) {
                known.set();
            }
            next.run(request).await
        }
        Err(error) => error.into_response(),
    }
}

/// `/api…` and `/apis…`
async fn objects(State(api): State<Arc<Api>>, request: Request) -> Response {
    let started = Instant::now();
    let (parts, body) = request.into_parts();
    let (labels, result) = handle(&api, &parts, body).await;
    let response = result.unwrap_or_else(IntoResponse::into_response);
    if let Some(labels) = labels {
        api.metrics.answered(&labels, response.status().as_u16(), started.elapsed());
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
    body: Body,
) -> (Option<RequestLabels>, Result<Response, ApiError>) {
    let path = parts.uri.path();
    if matches!(parts.method, Method::GET | Method::HEAD)
        && let Some(answer) = discovery::answer(path, &parts.headers)
    {
        return (None, answer);
    }
    if let Some(review) = reviews::find(path) {
        return (None, self::review(review, parts, body).await);
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
        let accepted = accept::negotiate(&parts.headers)?;
        let body = match verb {
            Verb::Get | Verb::List | Verb::Watch => Bytes::new(),
            _ => body::read(body).await?,
        };
        let headers = parts.headers.clone();
        let call =
            Call { api: api.clone(), target, options, accepted, headers, body, labels: labels.clone() };
        verbs::run(verb, call).await
    };
    let result = call.await;
    (Some(labels), result)
}

async fn review(review: &reviews::Review, parts: &Parts, body: Body) -> Result<Response, ApiError> {
    if parts.method != Method::POST {
        return Err(ApiError::MethodNotAllowed);
    }
    let bytes = body::read(body).await?;
    let answer = review.answer(&parts.headers, &bytes)?;
    reply::finish(StatusCode::CREATED, Bytes::from(answer.to_string()), Syntax::Json, &[])
}
