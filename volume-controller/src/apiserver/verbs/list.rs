//! Reading many objects, whole or in pages.

use std::sync::Arc;

use axum::response::Response;
use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use serde::{Deserialize, Serialize};
use serde_json::json;

use super::Call;
use crate::apiserver::options::Options;
use crate::apiserver::reply;
use crate::apiserver::selection::Selection;
use crate::apiserver::status::ApiError;
use crate::store::Object;

/// Where the next page begins. All pages show the state of one revision, the first page's,
/// whatever is written while they are read.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Continue {
    /// 0: the state at the time of the request, for those who go on after the revision
    /// of their first page is forgotten.
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn decode(token: &str) -> Result<Self, ApiError> {
        let bytes = URL_SAFE_NO_PAD.decode(token).ok();
        bytes.and_then(|bytes| serde_json::from_slice(&bytes).ok()).ok_or_else(|| {
            ApiError::BadRequest("continue key is not valid: list again from the start".to_owned())
        })
    }
}

/// Whether a continue token can be read: what its fuzz target asks.
#[cfg(test)]
pub(crate) fn is_token(token: &str) -> bool {
    Continue::decode(token).is_ok()
}

pub(super) fn list(call: &Call) -> Result<Response, ApiError> {
    let (target, options, store) = (&call.target, &call.options, &call.api.store);
    let at = state_asked_for(options, store.revision())?;
    let selection = Selection::parse(target, options)?;
    let from = match options.continue_token.as_str() {
        "" => None,
        token => Some(Continue::decode(token)?),
    };
    let resource = target.stored.resource();
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let after = from.as_ref().map(|from| (from.namespace.as_str(), from.name.as_str()));
    let at = from.as_ref().map(|from| from.revision).filter(|revision| *revision > 0).or(at);
    let found = match at {
        None => store.list(&resource, namespace, after, None),
        Some(at) => store.list_at(&resource, namespace, after, at).map_err(|expired| match from {
            Some(from) => ApiError::ContinueExpired(Continue { revision: 0, ..from }.encode()),
            None => ApiError::Expired(format!(
                "The resourceVersion for the provided list is too old: {at} ({})",
                expired.oldest
            )),
        })?,
    };
    // Of another history, such as from before a restored backup.
    if let Some(asked) = at.filter(|asked| *asked > found.revision) {
        return Err(ApiError::FutureVersion { asked, current: found.revision });
    }
    let page = page(found.objects, options.limit, |object| {
        if selection.is_everything() { Ok(true) } else { selection.matches(target, object) }
    })?;
    let mut metadata = json!({"resourceVersion": found.revision.to_string()});
    if page.rest > 0
        && let Some(last) = page.objects.last()
    {
        let next = Continue {
            revision: found.revision,
            namespace: last.key.namespace.to_string(),
            name: last.key.name.to_string(),
        };
        metadata["continue"] = json!(next.encode());
        // With selectors, upstream does not know how many of the rest match; neither do we.
        if selection.is_everything() {
            metadata["remainingItemCount"] = json!(page.rest);
        }
    }
    let room = reply::room(call, &page.objects)?;
    reply::list(call, page.objects, metadata, room)
}

struct Page {
    objects: Vec<Arc<Object>>,
    /// How many objects come after, matching or not.
    rest: usize,
}

/// The first objects that match; a limit of 0 means all.
fn page(
    objects: Vec<Arc<Object>>,
    limit: usize,
    matches: impl Fn(&Object) -> Result<bool, ApiError>,
) -> Result<Page, ApiError> {
    let mut page = Page { objects: Vec::new(), rest: 0 };
    let mut objects = objects.into_iter();
    while limit == 0 || page.objects.len() < limit {
        let Some(object) = objects.next() else { break };
        if matches(&object)? {
            page.objects.push(object);
        }
    }
    page.rest = objects.len();
    Ok(page)
}

/// The revision whose state the options ask for; `None` for the present. Follows the table
/// "Semantics for list" of the API concepts in Kubernetes' documentation.
fn state_asked_for(options: &Options, current: u64) -> Result<Option<u64>, ApiError> {
    let asked = options.revision()?;
    let invalid = |field: &str, why: &str| {
        ApiError::Unprocessable(format!("ListOptions.meta.k8s.io \"\" is invalid: {field}: {why}"))
    };
    let forbidden = |why: &str| invalid("resourceVersionMatch", &format!("Forbidden: {why}"));
    if options.send_initial_events.is_some() {
        return Err(invalid("sendInitialEvents", "Forbidden: sendInitialEvents is forbidden for list"));
    }
    let is_exact = match (options.resource_version_match.as_str(), asked) {
        // So it was before there was resourceVersionMatch.
        ("", asked) => options.limit > 0 && asked.is_some_and(|asked| asked > 0),
        (_, None) => {
            return Err(forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided"));
        }
        _ if !options.continue_token.is_empty() => {
            return Err(forbidden("resourceVersionMatch is forbidden when continue is provided"));
        }
        ("NotOlderThan", _) => false,
        ("Exact", Some(0)) => {
            return Err(forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\""));
        }
        ("Exact", _) => true,
        (other, _) => {
            let why = format!("Unsupported value: {other:?}: supported values: \"Exact\", \"NotOlderThan\"");
            return Err(invalid("resourceVersionMatch", &why));
        }
    };
    match asked {
        Some(asked) if asked > 0 && !options.continue_token.is_empty() => Err(ApiError::BadRequest(
            "specifying resource version is not allowed when using continue".to_owned(),
        )),
        Some(asked) if asked > current => Err(ApiError::FutureVersion { asked, current }),
        asked => Ok(asked.filter(|_| is_exact)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Continue { revision: 7, namespace: "dev".into(), name: "a".into() };
        assert_eq!(Continue::decode(&token.encode()).ok(), Some(token));
        assert!(Continue::decode("rubbish").is_err());
    }

    #[test]
    fn versions() {
        for (version, matching, limit, token, expected) in [
            ("", "", 0, "", Some(None)),
            ("0", "", 0, "", Some(None)),
            ("5", "", 0, "", Some(None)),
            ("0", "", 3, "", Some(None)),
            ("5", "", 3, "", Some(Some(5))),
            ("5", "NotOlderThan", 3, "", Some(None)),
            ("10", "NotOlderThan", 0, "", Some(None)),
            ("11", "", 0, "", None),
            ("11", "Exact", 0, "", None),
            ("10", "Exact", 0, "", Some(Some(10))),
            ("5", "Exact", 3, "", Some(Some(5))),
            ("0", "Exact", 0, "", None),
            ("", "Exact", 0, "", None),
            ("5", "Near", 0, "", None),
            ("x", "", 0, "", None),
            ("", "", 3, "token", Some(None)),
            ("0", "", 3, "token", Some(None)),
            ("5", "", 3, "token", None),
            ("5", "Exact", 3, "token", None),
        ] {
            let options = Options {
                resource_version: version.into(),
                resource_version_match: matching.into(),
                limit,
                continue_token: token.into(),
                ..Options::default()
            };
            assert_eq!(state_asked_for(&options, 10).ok(), expected, "{version} {matching} {limit} {token}");
        }
        let initial = Options { send_initial_events: Some(true), ..Options::default() };
        assert!(state_asked_for(&initial, 10).is_err());
    }
}
