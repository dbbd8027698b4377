//! `serviceaccounts/token`: a new token, for whoever may have it.

use axum::response::Response;
use http::StatusCode;
use jiff::{SignedDuration, Timestamp};
use serde::Deserialize;
use serde_json::{Value, json};
use uuid::Uuid;

use super::claims::{Claims, Named, Private};
use super::{ISSUER, jwt};
use crate::apiserver::kinds::{Cause, CauseReason};
use crate::apiserver::status::{ApiError, Resource};
use crate::apiserver::verbs::Call;
use crate::apiserver::{body, reply};
use crate::lifecycle;
use crate::store::{Key, Store};

/// Seconds that a token is good when nothing is asked.
const DEFAULT: i64 = 3600;
/// The fewest seconds that may be asked for.
const SHORTEST: i64 = 600;
/// The most that may be asked for; upstream's limit.
const LONGEST: i64 = 1 << 32;

const KIND: &str = "TokenRequest";
const REQUEST: Resource = Resource { group: "authentication.k8s.io", plural: "tokenrequests", kind: KIND };

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    audiences: Option<Vec<String>>,
    expiration_seconds: Option<i64>,
    bound_object_ref: Option<Reference>,
}

#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Reference {
    api_version: String,
    kind: String,
    name: String,
    uid: String,
}

/// Answers with the request and, as its status, the token.
pub(crate) fn issue(call: &Call) -> Result<Response, ApiError> {
    let (target, now) = (&call.target, Timestamp::now());
    let (namespace, name) = (target.namespace.as_str(), target.name.as_str());
    let is_dry_run = call.options.is_dry_run(REQUEST)?;
    let mut request = body::decode(&call.headers, &call.body)?.value;
    let account = call.api.store.get(&target.key());
    let account = account.ok_or_else(|| ApiError::not_found(target.kind, name))?;
    for (field, expected) in [("name", name), ("namespace", namespace)] {
        let asked = request["metadata"][field].as_str().unwrap_or_default();
        if !asked.is_empty() && asked != expected {
            let why =
                format!("the {field} of the TokenRequest ({asked}) is not that of the URL ({expected})");
            return Err(ApiError::BadRequest(why));
        }
    }
    let spec = Option::<Spec>::deserialize(&request["spec"]);
    let spec = spec.map_err(|e| ApiError::BadRequest(format!("the TokenRequest cannot be read: {e}")))?;
    let Spec { audiences, expiration_seconds, bound_object_ref } = spec.unwrap_or_default();
    let seconds = expiration_seconds.unwrap_or(DEFAULT);
    check_seconds(seconds)?;
    let audiences = audiences.filter(|list| !list.is_empty()).unwrap_or_else(|| vec![ISSUER.to_owned()]);
    let account = Named { name: name.to_owned(), uid: account.uid.to_string() };
    let mut private = Private {
        namespace: namespace.to_owned(),
        serviceaccount: account,
        pod: None,
        secret: None,
        node: None,
    };
    if let Some(reference) = &bound_object_ref {
        bind(&call.api.store, reference, &mut private)?;
    }
    let expiry = now
        .checked_add(SignedDuration::from_secs(seconds))
        .map_err(|error| ApiError::BadRequest(error.to_string()))?;
    let (issued, id) = (now.as_second(), Uuid::new_v4().to_string());
    let claims = Claims { audiences: audiences.clone(), id, issued, expiry: expiry.as_second(), private };
    // A dry run leaves nothing behind, and a token is good for as long as it says.
    let token = match is_dry_run {
        true => String::new(),
        false => {
            let token = jwt::sign(&call.api.authenticator.tokens.keys, &claims.to_json());
            token.map_err(ApiError::Internal)?
        }
    };
    request["apiVersion"] = json!("authentication.k8s.io/v1");
    request["kind"] = json!(KIND);
    request["metadata"]["name"] = json!(name);
    request["metadata"]["namespace"] = json!(namespace);
    request["metadata"]["creationTimestamp"] = json!(lifecycle::time(now));
    request["spec"]["audiences"] = json!(audiences);
    request["spec"]["expirationSeconds"] = json!(seconds);
    request["status"] = json!({"token": token, "expirationTimestamp": lifecycle::time(expiry)});
    reply::other(call, StatusCode::CREATED, &request)
}

fn check_seconds(seconds: i64) -> Result<(), ApiError> {
    let why = match seconds {
        ..SHORTEST => "may not specify a duration less than 10 minutes",
        SHORTEST..=LONGEST => return Ok(()),
        _ => "may not specify a duration larger than 2^32 seconds",
    };
    Err(invalid("spec.expirationSeconds", CauseReason::Invalid, &format!("{seconds}: {why}")))
}

/// As upstream, which does not name a request that has no name of its own.
fn invalid(field: &str, reason: CauseReason, message: &str) -> ApiError {
    let causes = vec![Cause { field: field.to_owned(), reason, message: message.to_owned() }];
    ApiError::Invalid { resource: REQUEST, name: String::new(), causes }
}

/// Takes the object that the token is to be bound to into its claims.
fn bind(store: &Store, reference: &Reference, private: &mut Private) -> Result<(), ApiError> {
    let Reference { api_version, kind, name, uid } = reference;
    let account = private.serviceaccount.name.clone();
    let (plural, namespace, place) = match (api_version.as_str(), kind.as_str()) {
        ("" | "v1", "Pod") => ("pods", private.namespace.as_str(), &mut private.pod),
        ("" | "v1", "Secret") => ("secrets", private.namespace.as_str(), &mut private.secret),
        ("" | "v1", "Node") => ("nodes", "", &mut private.node),
        _ => {
            let why = format!(
                "cannot bind token to {api_version}, Kind={kind}: only objects of v1 and the kinds Pod, Secret and Node"
            );
            return Err(invalid("spec.boundObjectRef", CauseReason::Invalid, &why));
        }
    };
    if name.is_empty() {
        return Err(invalid("spec.boundObjectRef.name", CauseReason::Required, ""));
    }
    let resource = Resource { group: "", plural, kind: kind_of(plural) };
    let found = store.get(&Key::new(plural, namespace, name));
    let found = found.ok_or_else(|| ApiError::NotFound { resource, name: name.clone() })?;
    if !uid.is_empty() && *found.uid != **uid {
        let why = format!(
            "the UID in the bound object reference ({uid}) does not match the UID in record. The object might have been deleted and then recreated"
        );
        return Err(ApiError::Conflict { resource, name: name.clone(), why });
    }
    *place = Some(Named { name: name.clone(), uid: found.uid.to_string() });
    if plural != "pods" {
        return Ok(());
    }
    let pod: Value = reply::decode(&found)?;
    let owner = pod["spec"]["serviceAccountName"].as_str().filter(|name| !name.is_empty());
    if owner.unwrap_or("default") != account {
        return Err(ApiError::BadRequest(format!(
            "cannot bind token for serviceaccount {account:?} to pod running with different serviceaccount name."
        )));
    }
    // Told besides, where it is known.
    let node = pod["spec"]["nodeName"].as_str().and_then(|node| store.get(&Key::new("nodes", "", node)));
    private.node = node.map(|node| Named { name: node.key.name.to_string(), uid: node.uid.to_string() });
    Ok(())
}

fn kind_of(plural: &str) -> &'static str {
    match plural {
        "pods" => "Pod",
        "secrets" => "Secret",
        _ => "Node",
    }
}
