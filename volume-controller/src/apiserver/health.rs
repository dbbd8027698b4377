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
    is_for_life: bool,
    is_well: fn(&Api) -> bool,
}

/// `etcd` is upstream's name of the store.
const CHECKS: [Check; 3] = [
    Check { name: "ping", is_for_life: true, is_well: |_| true },
    Check { name: "etcd", is_for_life: true, is_well: |api| api.store.is_open() },
    Check { name: "shutdown", is_for_life: false, is_well: |api| !api.stop.is_cancelled() },
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
    for check in CHECKS.iter().filter(|check| check.is_for_life || path != "livez") {
        let before = excluded.len();
        excluded.retain(|name| *name != check.name);
        let (mark, outcome) = if excluded.len() < before {
            ('+', "excluded: ok")
        } else if is_ok(check, &api) {
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
    let is_life = uri.path().starts_with("/livez");
    let Some(check) = CHECKS.iter().find(|check| check.name == name && (check.is_for_life || !is_life))
    else {
        return ApiError::NoSuchPath.into_response();
    };
    match is_ok(check, &api) {
        true => answer(StatusCode::OK, "ok".to_owned()),
        false => {
            answer(StatusCode::INTERNAL_SERVER_ERROR, "internal server error: reason withheld\n".to_owned())
        }
    }
}

fn is_ok(check: &Check, api: &Api) -> bool {
    let is_well = (check.is_well)(api);
    if !is_well {
        tracing::warn!(check = check.name, "a health check fails");
    }
    is_well
}

fn answer(code: StatusCode, text: String) -> Response {
    (code, [(header::CONTENT_TYPE, "text/plain; charset=utf-8")], text).into_response()
}
