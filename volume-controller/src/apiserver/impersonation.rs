//! Acting as somebody else (`kubectl --as`): each part of the other user must be allowed with
//! the verb `impersonate`. What the sender may do besides does not count any more.
//!
//! Source: "User impersonation" in Kubernetes' documentation.

use std::collections::BTreeMap;

use http::HeaderMap;

use super::rbac::Access;
use super::rbac::attributes::{Attributes, Resource};
use super::route;
use super::status::ApiError;
use super::user::{self, ANONYMOUS, AUTHENTICATED, UNAUTHENTICATED, User};

const PREFIX: &str = "impersonate-";
const EXTRA: &str = "impersonate-extra-";
const AUTHENTICATION: &str = "authentication.k8s.io";

/// The user that a request is to be done as; the sender where it names nobody.
pub(crate) fn user(access: &Access, sender: User, headers: &HeaderMap) -> Result<User, ApiError> {
    // Whatever begins so is about impersonation: one that is not understood is refused rather than ignored.
    if !headers.keys().any(|name| name.as_str().starts_with(PREFIX)) {
        return Ok(sender);
    }
    let mut wanted = read(headers)?;
    for asked in requests(&wanted) {
        access.check(&sender, &asked)?;
    }
    if let Some((namespace, _)) = user::account_of(&wanted.name)
        && wanted.groups.is_empty()
    {
        wanted.groups.extend(user::account_groups(namespace));
    }
    let kind = if wanted.name == ANONYMOUS { UNAUTHENTICATED } else { AUTHENTICATED };
    if !wanted.is_in(AUTHENTICATED) && !wanted.is_in(UNAUTHENTICATED) {
        wanted.groups.push(kind.to_owned());
    }
    Ok(wanted)
}

fn read(headers: &HeaderMap) -> Result<User, ApiError> {
    let mut user = User::default();
    let mut extra: BTreeMap<String, Vec<String>> = BTreeMap::new();
    for (name, value) in headers {
        let name = name.as_str();
        if !name.starts_with(PREFIX) {
            continue;
        }
        let unreadable = |_| ApiError::BadRequest(format!("the header {name} is not text"));
        let value = std::str::from_utf8(value.as_bytes()).map_err(|_| unreadable(()))?.to_owned();
        match name {
            "impersonate-user" if user.name.is_empty() => user.name = value,
            "impersonate-uid" if user.uid.is_empty() => user.uid = value,
            "impersonate-group" => user.groups.push(value),
            _ => match name.strip_prefix(EXTRA).and_then(route::decode) {
                Some(key) if !key.is_empty() => extra.entry(key.to_lowercase()).or_default().push(value),
                _ => {
                    return Err(ApiError::BadRequest(format!(
                        "the header {name} is not understood or there twice"
                    )));
                }
            },
        }
    }
    user.extra = extra;
    if user.name.is_empty() {
        return Err(ApiError::BadRequest("requested impersonation without impersonating a user".to_owned()));
    }
    Ok(user)
}

/// What the sender must be allowed.
fn requests(wanted: &User) -> Vec<Attributes> {
    let ask = |group: &str, resource: &str, subresource: &str, namespace: &str, name: &str| {
        let (namespace, group) = (namespace.to_owned(), group.to_owned());
        let (resource, subresource) = (resource.to_owned(), subresource.to_owned());
        let resource = Resource { namespace, group, resource, subresource, name: name.to_owned() };
        Attributes::resource("impersonate", resource)
    };
    let mut all = vec![match user::account_of(&wanted.name) {
        Some((namespace, name)) => ask("", "serviceaccounts", "", namespace, name),
        None => ask("", "users", "", "", &wanted.name),
    }];
    all.extend(wanted.groups.iter().map(|group| ask("", "groups", "", "", group)));
    if !wanted.uid.is_empty() {
        all.push(ask(AUTHENTICATION, "uids", "", "", &wanted.uid));
    }
    for (key, values) in &wanted.extra {
        all.extend(values.iter().map(|value| ask(AUTHENTICATION, "userextras", key, "", value)));
    }
    all
}
