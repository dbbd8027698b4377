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

/// Where the next page begins. Pages are read from the present, not from a
/// snapshot; all of them carry the revision of the first, so that a watch from
/// there tells everything that changed while they were read.
#[derive(Debug, Serialize, Deserialize, PartialEq)]
struct Continue {
    revision: u64,
    namespace: String,
    name: String,
}

impl Continue {
    fn encode(&self) -> String {
        URL_SAFE_NO_PAD.encode(json!(self).to_string())
    }

    fn decode(token: &str) -> Option<Self> {
        serde_json::from_slice(&URL_SAFE_NO_PAD.decode(token).ok()?).ok()
    }
}

pub(super) fn list(call: &Call) -> Result<Response, ApiError> {
    let (target, options, store) = (&call.target, &call.options, &call.api.store);
    check_version(options, store.revision())?;
    let selection = Selection::parse(target, options)?;
    let from = match options.continue_token.as_str() {
        "" => None,
        token => Some(Continue::decode(token).ok_or_else(|| {
            ApiError::BadRequest("continue key is not valid: list again from the start".to_owned())
        })?),
    };
    if from.as_ref().is_some_and(|from| from.revision < store.compacted()) {
        return Err(ApiError::Expired(
            "The provided continue parameter is too old to list on from: the changes since its first page are \
             no longer known. Start a new list without the continue parameter"
                .to_owned(),
        ));
    }
    let namespace = (!target.namespace.is_empty()).then_some(target.namespace.as_str());
    let after = from.as_ref().map(|from| (from.namespace.as_str(), from.name.as_str()));
    let found = store.list(&target.stored.resource(), namespace, after, None);
    let revision = from.as_ref().map_or(found.revision, |from| from.revision);
    let page = page(found.objects, options.limit, |object| {
        if selection.is_everything() { Ok(true) } else { selection.matches(target, object) }
    })?;
    let mut metadata = json!({"resourceVersion": revision.to_string()});
    if page.rest > 0
        && let Some(last) = page.objects.last()
    {
        let next =
            Continue { revision, namespace: last.key.namespace.to_string(), name: last.key.name.to_string() };
        metadata["continue"] = json!(next.encode());
        // With selectors, upstream does not know how many of the rest match; neither do we.
        if selection.is_everything() {
            metadata["remainingItemCount"] = json!(page.rest);
        }
    }
    reply::list(call, &page.objects, metadata)
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

/// Whether the present can answer for the revision that was asked for.
fn check_version(options: &Options, current: u64) -> Result<(), ApiError> {
    let asked = options.revision()?;
    let forbidden = |why: &str| {
        Err(ApiError::Unprocessable(format!(
            "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Forbidden: {why}"
        )))
    };
    match (options.resource_version_match.as_str(), asked) {
        ("", _) => {}
        (_, None) => {
            return forbidden("resourceVersionMatch is forbidden unless resourceVersion is provided");
        }
        _ if !options.continue_token.is_empty() => {
            return forbidden("resourceVersionMatch is forbidden when continue is provided");
        }
        ("NotOlderThan", _) => {}
        ("Exact", Some(0)) => {
            return forbidden("resourceVersionMatch \"exact\" is forbidden for resourceVersion \"0\"");
        }
        // No past states are kept, only changes.
        ("Exact", Some(asked)) if asked < current => {
            return Err(ApiError::Expired(format!(
                "The resourceVersion for the provided list is too old: {asked} ({current})"
            )));
        }
        ("Exact", _) => {}
        (other, _) => {
            return Err(ApiError::Unprocessable(format!(
                "ListOptions.meta.k8s.io \"\" is invalid: resourceVersionMatch: Unsupported value: {other:?}: \
                 supported values: \"Exact\", \"NotOlderThan\", \"\""
            )));
        }
    }
    match asked {
        Some(asked) if asked > current => Err(ApiError::FutureVersion { asked, current }),
        _ => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let token = Continue { revision: 7, namespace: "dev".into(), name: "a".into() };
        assert_eq!(Continue::decode(&token.encode()), Some(token));
        assert_eq!(Continue::decode("rubbish"), None);
    }

    #[test]
    fn versions() {
        let options = |version: &str, matching: &str| Options {
            resource_version: version.into(),
            resource_version_match: matching.into(),
            ..Options::default()
        };
        for (version, matching, fits) in [
            ("", "", true),
            ("0", "", true),
            ("5", "", true),
            ("10", "NotOlderThan", true),
            ("11", "", false),
            ("10", "Exact", true),
            ("5", "Exact", false),
            ("0", "Exact", false),
            ("", "Exact", false),
            ("5", "Near", false),
            ("x", "", false),
        ] {
            assert_eq!(check_version(&options(version, matching), 10).is_ok(), fits, "{version} {matching}");
        }
    }
}
