//! `/livez`, `/readyz` and `/healthz`: named checks, in upstream's form.
//! Source: "Kubernetes API health endpoints" in Kubernetes' documentation.

use std::fmt::Write;
use std::sync::Arc;

use axum::extract::{Path, Query, State};
use axum::response::{IntoResponse, Response};
use http::{StatusCode, Uri, header};

use super::Api;
use super::status::ApiError;

/// One thing that must be in order. Why it is not goes to the log, not to the one who asks.
struct Check {
    name: &'static str,
    /// Whether a restart would help when it is not; where it is not asked, it is not among the checks for life.
    is_alive: Option<fn(&Api) -> bool>,
    /// Whether requests may come.
    is_ready: fn(&Api) -> bool,
}

impl Check {
    /// What is asked at `path`, if anything.
    fn at(&self, path: &str) -> Option<fn(&Api) -> bool> {
        if path.starts_with("livez") { self.is_alive } else { Some(self.is_ready) }
    }
}

/// `etcd` is upstream's name of the store. Without its database a server shows what it knows, so that it is alive, and
/// answers most requests with 503, so that others should get them.
const CHECKS: [Check; 3] = [
    Check { name: "ping", is_alive: Some(|_| true), is_ready: |_| true },
    Check {
        name: "etcd",
        is_alive: Some(|api| api.store.is_open()),
        is_ready: |api| api.store.is_open() && api.store.is_reachable(),
    },
    Check { name: "shutdown", is_alive: None, is_ready: |api| !api.stop.is_cancelled() },
];

/// All checks that belong to a path.
pub(crate) async fn all(
    State(api): State<Arc<Api>>,
    uri: Uri,
    Query(query): Query<Vec<(String, String)>>,
) -> Response {
    let path = uri.path().trim_matches('/');
    let is_verbose = query.iter().any(|(name, _)| name == "verbose");
    let mut excluded: Vec<&str> =
        query.iter().filter(|(name, _)| name == "exclude").map(|(_, value)| value.as_str()).collect();
    let mut text = String::new();
    let mut is_well = true;
    for (check, is_check_well) in CHECKS.iter().filter_map(|check| Some((check, check.at(path)?))) {
        let before = excluded.len();
        excluded.retain(|name| *name != check.name);
        let (mark, outcome) = if excluded.len() < before {
            ('+', "excluded: ok")
        } else if is_ok(check.name, is_check_well, &api) {
            ('+', "ok")
        } else {
            is_well = false;
            ('-', "failed: reason withheld")
        };
        // Writing to a String cannot fail.
        let _ = writeln!(text, "[{mark}]{} {outcome}", check.name);
    }
    if !excluded.is_empty() {
        let names: Vec<String> = excluded.iter().map(|name| format!("{name:?}")).collect();
        let _ = writeln!(
            text,
            "warn: some health checks cannot be excluded: no matches for {}",
            names.join(", ")
        );
    }
    if !is_well {
        return answer(StatusCode::INTERNAL_SERVER_ERROR, format!("{text}{path} check failed\n"));
    }
    answer(StatusCode::OK, if is_verbose { format!("{text}{path} check passed\n") } else { "ok".to_owned() })
}

/// One check by its name.
pub(crate) async fn one(State(api): State<Arc<Api>>, uri: Uri, Path(name): Path<String>) -> Response {
    let path = uri.path().trim_matches('/');
    let found = CHECKS.iter().find(|check| check.name == name);
    let Some((check, is_well)) = found.and_then(|check| Some((check, check.at(path)?))) else {
        return ApiError::NoSuchPath.into_response();
    };
    match is_ok(check.name, is_well, &api) {
        true => answer(StatusCode::OK, "ok".to_owned()),
        false => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n".to_owned())
        }
    }
}

fn is_ok(check: &'static str, is_well: fn(&Api) -> bool, api: &Api) -> bool {
    let is_well = is_well(api);
    if !is_well {
        tracing::warn!(check, "a health check fails");
    }
    is_well
}

fn answer(code: StatusCode, text: String) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
