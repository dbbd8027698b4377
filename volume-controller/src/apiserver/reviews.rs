//! Questions about oneself: objects that are answered, not stored.

use serde_json::{Value, json};

use super::auth::ADMIN;
use super::body;
use super::status::ApiError;

/// A kind of question.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    answer: fn() -> Value,
}

/// The version that every group of questions has.
pub(crate) const VERSION: &str = "v1";

/// Every question that is answered.
pub(crate) static ALL: &[Review] = &[
    Review {
        group: "authentication.k8s.io",
        kind: "SelfSubjectReview",
        plural: "selfsubjectreviews",
        answer: || json!({"userInfo": {"username": ADMIN.name, "groups": ADMIN.groups}}),
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectAccessReview",
        plural: "selfsubjectaccessreviews",
        answer: || json!({"allowed": true, "reason": "the administrator may do everything"}),
    },
    Review {
        group: "authorization.k8s.io",
        kind: "SelfSubjectRulesReview",
        plural: "selfsubjectrulesreviews",
        answer: || {
            json!({
                "resourceRules": [{"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]}],
                "nonResourceRules": [{"verbs": ["*"], "nonResourceURLs": ["*"]}],
                "incomplete": false,
            })
        },
    },
];

/// The question that a path asks.
pub(crate) fn find(path: &str) -> Option<&'static Review> {
    let mut segments = path.strip_prefix("/apis/")?.split('/');
    let (group, version, plural) = (segments.next()?, segments.next()?, segments.next()?);
    let fits = |review: &&Review| review.group == group && review.plural == plural;
    (version == VERSION && segments.next().is_none()).then(|| ALL.iter().find(fits)).flatten()
}

impl Review {
    /// The question with its answer as `status`.
    pub(crate) fn answer(&self, headers: &http::HeaderMap, bytes: &[u8]) -> Result<Value, ApiError> {
        let mut value = body::decode(headers, bytes)?.value;
        value["apiVersion"] = json!(format!("{}/{VERSION}", self.group));
        value["kind"] = json!(self.kind);
        value["status"] = (self.answer)();
        Ok(value)
    }
}
