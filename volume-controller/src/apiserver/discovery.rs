//! What there is: the groups, versions and resources that clients look up before
//! they ask for objects, in the old form (a document each) and the aggregated
//! one (everything at once).

use axum::response::Response;
use bytes::Bytes;
use http::{HeaderMap, HeaderValue, StatusCode, header};
use serde_json::{Value, json};

use super::accept::{self, Syntax};
use super::kinds::{self, Kind, Scope};
use super::reply;
use super::reviews::{self, Review};
use super::status::ApiError;

const VERBS: &[&str] = &["create", "delete", "deletecollection", "get", "list", "patch", "update", "watch"];

fn verbs(kind: &Kind) -> Vec<&'static str> {
    VERBS.iter().copied().filter(|verb| *verb != "deletecollection" || kind.deletes_many()).collect()
}

/// The answer to a discovery path; `None` when the path is not one.
pub(crate) fn answer(path: &str, headers: &HeaderMap) -> Option<Result<Response, ApiError>> {
    let segments: Vec<&str> = path.split('/').filter(|s| !s.is_empty()).collect();
    Some(match segments.as_slice() {
        ["api"] => root(headers, &[""], || {
            json!({
                "kind": "APIVersions",
                "versions": ["v1"],
                "serverAddressByClientCIDRs": [{"clientCIDR": "0.0.0.0/0", "serverAddress": ""}],
            })
        }),
        ["apis"] => root(headers, &named_groups(), || {
            let groups: Vec<Value> = named_groups().into_iter().map(group).collect();
            json!({"kind": "APIGroupList", "apiVersion": "v1", "groups": groups})
        }),
        ["apis", name] => match named_groups().contains(name) {
            true => {
                let mut group = group(name);
                group["kind"] = json!("APIGroup");
                group["apiVersion"] = json!("v1");
                plain(&group)
            }
            false => Err(ApiError::NoSuchPath),
        },
        ["api", version] => resources("", version),
        ["apis", group, version] => resources(group, version),
        _ => return None,
    })
}

fn plain(value: &Value) -> Result<Response, ApiError> {
    reply::finish(StatusCode::OK, Bytes::from(value.to_string()), Syntax::Json, &[])
}

/// `/api` and `/apis`, aggregated if the client prefers that.
fn root(headers: &HeaderMap, groups: &[&str], old: impl Fn() -> Value) -> Result<Response, ApiError> {
    let clauses = accept::clauses(headers);
    for clause in &clauses {
        match (clause.media, clause.get("as"), clause.get("g")) {
            ("application/json", "APIGroupDiscoveryList", "apidiscovery.k8s.io") => {
                let version = match clause.get("v") {
                    "v2" => "v2",
                    "v2beta1" => "v2beta1",
                    _ => continue,
                };
                let mut response = plain(&aggregated(groups, version))?;
                let media =
                    format!("application/json;g=apidiscovery.k8s.io;v={version};as=APIGroupDiscoveryList");
                if let Ok(media) = HeaderValue::from_str(&media) {
                    response.headers_mut().insert(header::CONTENT_TYPE, media);
                }
                return Ok(response);
            }
            ("application/json" | "application/*" | "*/*", "", _) => return plain(&old()),
            _ => {}
        }
    }
    if clauses.is_empty() { plain(&old()) } else { Err(ApiError::NotAcceptable("application/json")) }
}

/// The groups besides the core, in the order of their first kind.
fn named_groups() -> Vec<&'static str> {
    let mut groups = Vec::new();
    for group in kinds::ALL.iter().map(|kind| kind.group).chain(reviews::ALL.iter().map(|r| r.group)) {
        if !group.is_empty() && !groups.contains(&group) {
            groups.push(group);
        }
    }
    groups
}

/// The versions of a group, in the order of their first kind: the preferred one first.
fn versions(group: &str) -> Vec<&'static str> {
    let kinds = kinds::ALL.iter().filter(|kind| kind.group == group).map(|kind| kind.version);
    let reviews = reviews::ALL.iter().filter(|review| review.group == group).map(|_| reviews::VERSION);
    let mut versions = Vec::new();
    for version in kinds.chain(reviews) {
        if !versions.contains(&version) {
            versions.push(version);
        }
    }
    versions
}

fn kinds_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Kind> + 'a {
    kinds::ALL.iter().copied().filter(move |kind| kind.group == group && kind.version == version)
}

fn reviews_of<'a>(group: &'a str, version: &'a str) -> impl Iterator<Item = &'static Review> + 'a {
    reviews::ALL.iter().filter(move |review| review.group == group && version == reviews::VERSION)
}

fn group(name: &str) -> Value {
    let versions: Vec<Value> = versions(name)
        .into_iter()
        .map(|version| json!({"groupVersion": format!("{name}/{version}"), "version": version}))
        .collect();
    json!({"name": name, "versions": versions, "preferredVersion": versions.first()})
}

/// What a kind has below its objects: name, the kind it takes, verbs.
fn subresources(kind: &Kind) -> Vec<(&'static str, &'static str, &'static [&'static str])> {
    let mut parts: Vec<(_, _, &[&str])> = Vec::new();
    if kind.has_status {
        parts.push(("status", kind.kind, &["get", "patch", "update"]));
    }
    match kind.kind {
        "Pod" => parts.push(("binding", "Binding", &["create"])),
        "Namespace" => parts.push(("finalize", "Namespace", &["update"])),
        "ServiceAccount" => parts.push(("token", "TokenRequest", &["create"])),
        _ => {}
    }
    parts
}

/// The document of one group and version.
fn resources(group: &str, version: &str) -> Result<Response, ApiError> {
    let mut resources = Vec::new();
    for kind in kinds_of(group, version) {
        let namespaced = kind.scope == Scope::Namespaced;
        let mut resource = json!({
            "name": kind.plural,
            "singularName": kind.singular,
            "namespaced": namespaced,
            "kind": kind.kind,
            "verbs": verbs(kind),
        });
        if !kind.short_names.is_empty() {
            resource["shortNames"] = json!(kind.short_names);
        }
        if !kind.categories.is_empty() {
            resource["categories"] = json!(kind.categories);
        }
        resources.push(resource);
        for (part, takes, verbs) in subresources(kind) {
            let mut resource = json!({
                "name": format!("{}/{part}", kind.plural),
                "singularName": "",
                "namespaced": namespaced,
                "kind": takes,
                "verbs": verbs,
            });
            if takes == "TokenRequest" {
                resource["group"] = json!("authentication.k8s.io");
                resource["version"] = json!("v1");
            }
            resources.push(resource);
        }
    }
    for review in reviews_of(group, version) {
        resources.push(json!({
            "name": review.plural,
            "singularName": review.kind.to_lowercase(),
            "namespaced": review.is_namespaced,
            "kind": review.kind,
            "verbs": ["create"],
        }));
    }
    if resources.is_empty() {
        return Err(ApiError::NoSuchPath);
    }
    let name = if group.is_empty() { version.to_owned() } else { format!("{group}/{version}") };
    plain(
        &json!({"kind": "APIResourceList", "apiVersion": "v1", "groupVersion": name, "resources": resources}),
    )
}

/// The aggregated form of several groups.
fn aggregated(groups: &[&str], version: &str) -> Value {
    let items: Vec<Value> = groups
        .iter()
        .map(|group| {
            let versions: Vec<Value> = versions(group)
                .into_iter()
                .map(|version| {
                    let mut resources: Vec<Value> =
                        kinds_of(group, version).map(aggregated_resource).collect();
                    resources.extend(reviews_of(group, version).map(|review| {
                        json!({
                            "resource": review.plural,
                            "responseKind": {"group": group, "version": version, "kind": review.kind},
                            "scope": if review.is_namespaced { "Namespaced" } else { "Cluster" },
                            "singularResource": review.kind.to_lowercase(),
                            "verbs": ["create"],
                        })
                    }));
                    json!({"version": version, "resources": resources, "freshness": "Current"})
                })
                .collect();
            json!({"metadata": {"name": group, "creationTimestamp": null}, "versions": versions})
        })
        .collect();
    json!({
        "kind": "APIGroupDiscoveryList",
        "apiVersion": format!("apidiscovery.k8s.io/{version}"),
        "metadata": {},
        "items": items,
    })
}

fn aggregated_resource(kind: &Kind) -> Value {
    let mut resource = json!({
        "resource": kind.plural,
        "responseKind": {"group": kind.group, "version": kind.version, "kind": kind.kind},
        "scope": if kind.scope == Scope::Namespaced { "Namespaced" } else { "Cluster" },
        "singularResource": kind.singular,
        "verbs": verbs(kind),
    });
    if !kind.short_names.is_empty() {
        resource["shortNames"] = json!(kind.short_names);
    }
    if !kind.categories.is_empty() {
        resource["categories"] = json!(kind.categories);
    }
    let parts: Vec<Value> = subresources(kind)
        .into_iter()
        .map(|(part, takes, verbs)| {
            let (group, version) = match takes {
                "TokenRequest" => ("authentication.k8s.io", "v1"),
                _ => (kind.group, kind.version),
            };
            json!({
                "subresource": part,
                "responseKind": {"group": group, "version": version, "kind": takes},
                "verbs": verbs,
            })
        })
        .collect();
    if !parts.is_empty() {
        resource["subresources"] = Value::Array(parts);
    }
    resource
}
