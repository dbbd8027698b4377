//! Questions about users and what they may do: objects that are answered, not stored.

use std::collections::BTreeMap;

use jiff::Timestamp;
use k8s_openapi::api::authentication::v1::{SelfSubjectReview, TokenReview};
use k8s_openapi::api::authorization::v1::{
    LocalSubjectAccessReview, SelfSubjectAccessReview, SelfSubjectRulesReview, SubjectAccessReview,
};
use k8s_openapi::api::rbac::v1::PolicyRule;
use schemars::{Schema, SchemaGenerator};
use serde::Deserialize;
use serde_json::{Value, json};

use super::Api;
use super::body;
use super::kinds::{Cause, CauseReason};
use super::rbac::Decision;
use super::rbac::attributes::{Attributes, Resource};
use super::route;
use super::status::{self, ApiError};
use super::tokens::ISSUER;
use super::user::User;

/// A kind of question.
pub(crate) struct Review {
    pub(crate) group: &'static str,
    pub(crate) kind: &'static str,
    pub(crate) plural: &'static str,
    pub(crate) is_namespaced: bool,
    /// The JSON schema of its type, for `kubectl explain`.
    pub(crate) schema: fn(&mut SchemaGenerator) -> Schema,
    answer: fn(&Question<'_>) -> Result<Value, ApiError>,
}

/// One question.
struct Question<'a> {
    api: &'a Api,
    /// Who asks.
    user: &'a User,
    /// Of the path; empty where the kind has none.
    namespace: &'a str,
    review: &'a Review,
    spec: &'a Value,
}

/// The version that every group of questions has.
pub(crate) const VERSION: &str = "v1";

const AUTHENTICATION: &str = "authentication.k8s.io";
const AUTHORIZATION: &str = "authorization.k8s.io";

/// Every question that is answered.
pub(crate) static ALL: &[Review] = &[
    Review {
        group: AUTHENTICATION,
        kind: "SelfSubjectReview",
        schema: |generator| generator.subschema_for::<SelfSubjectReview>(),
        plural: "selfsubjectreviews",
        is_namespaced: false,
        answer: |question| Ok(json!({"userInfo": question.user.info()})),
    },
    Review {
        group: AUTHENTICATION,
        kind: "TokenReview",
        schema: |generator| generator.subschema_for::<TokenReview>(),
        plural: "tokenreviews",
        is_namespaced: false,
        answer: whose_token,
    },
    Review {
        group: AUTHORIZATION,
        kind: "LocalSubjectAccessReview",
        schema: |generator| generator.subschema_for::<LocalSubjectAccessReview>(),
        plural: "localsubjectaccessreviews",
        is_namespaced: true,
        answer: may_they,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SelfSubjectAccessReview",
        schema: |generator| generator.subschema_for::<SelfSubjectAccessReview>(),
        plural: "selfsubjectaccessreviews",
        is_namespaced: false,
        answer: |question| may(question, question.user),
    },
    Review {
        group: AUTHORIZATION,
        kind: "SelfSubjectRulesReview",
        schema: |generator| generator.subschema_for::<SelfSubjectRulesReview>(),
        plural: "selfsubjectrulesreviews",
        is_namespaced: false,
        answer: what_may_i,
    },
    Review {
        group: AUTHORIZATION,
        kind: "SubjectAccessReview",
        schema: |generator| generator.subschema_for::<SubjectAccessReview>(),
        plural: "subjectaccessreviews",
        is_namespaced: false,
        answer: may_they,
    },
];

/// The question that a path asks, and the namespace that it names.
pub(crate) fn find(path: &str) -> Option<(&'static Review, String)> {
    let segments = route::segments(path)?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, namespace, plural) = match segments.as_slice() {
        ["apis", group, VERSION, "namespaces", namespace, plural] => (*group, *namespace, *plural),
        ["apis", group, VERSION, plural] => (*group, "", *plural),
        _ => return None,
    };
    let found = ALL.iter().find(|review| review.group == group && review.plural == plural)?;
    (found.is_namespaced != namespace.is_empty()).then(|| (found, namespace.to_owned()))
}

impl Review {
    pub(crate) fn resource(&self) -> status::Resource {
        status::Resource { group: self.group, plural: self.plural, kind: self.kind }
    }

    /// The question with its answer as `status`.
    pub(crate) fn answer(
        &self,
        api: &Api,
        user: &User,
        namespace: &str,
        headers: &http::HeaderMap,
        bytes: &[u8],
    ) -> Result<Value, ApiError> {
        let mut value = body::decode(headers, bytes)?.value;
        value["apiVersion"] = json!(format!("{}/{VERSION}", self.group));
        value["kind"] = json!(self.kind);
        let question = Question { api, user, namespace, review: self, spec: &value["spec"] };
        let status = (self.answer)(&question)?;
        value["status"] = status;
        Ok(value)
    }
}

impl Question<'_> {
    fn invalid(&self, field: &str, reason: CauseReason, message: &str) -> ApiError {
        ApiError::Invalid {
            resource: self.review.resource(),
            name: String::new(),
            causes: vec![Cause { field: field.to_owned(), reason, message: message.to_owned() }],
        }
    }

    fn read<T: for<'de> Deserialize<'de>>(&self, value: &Value) -> Result<T, ApiError> {
        T::deserialize(value).map_err(|error| {
            ApiError::BadRequest(format!("the {} cannot be read: {error}", self.review.kind))
        })
    }
}

/// What somebody would do.
#[derive(Deserialize, Default)]
#[serde(rename_all = "camelCase", default)]
struct Spec {
    resource_attributes: Option<ResourceAttributes>,
    non_resource_attributes: Option<PathAttributes>,
    user: Option<String>,
    groups: Option<Vec<String>>,
    uid: Option<String>,
    extra: Option<BTreeMap<String, Vec<String>>>,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct ResourceAttributes {
    namespace: String,
    verb: String,
    group: String,
    resource: String,
    subresource: String,
    name: String,
}

#[derive(Deserialize, Default)]
#[serde(default)]
struct PathAttributes {
    path: String,
    verb: String,
}

/// Whether a user may do what the question says.
fn may(question: &Question<'_>, user: &User) -> Result<Value, ApiError> {
    let spec: Spec = question.read::<Option<Spec>>(question.spec)?.unwrap_or_default();
    let wrong = |field, message| Err(question.invalid(field, CauseReason::Invalid, message));
    let asked = match (spec.resource_attributes, spec.non_resource_attributes) {
        (Some(ResourceAttributes { namespace, verb, group, resource, subresource, name }), None) => {
            if question.review.is_namespaced && namespace != question.namespace {
                return wrong(
                    "spec.resourceAttributes.namespace",
                    "must match the namespace of the path, and the question be about one",
                );
            }
            Attributes::resource(&verb, Resource { namespace, group, resource, subresource, name })
        }
        (None, Some(_)) if question.review.is_namespaced => {
            return wrong("spec.nonResourceAttributes", "disallowed on this kind of request");
        }
        (None, Some(PathAttributes { path, verb })) => Attributes::path(&verb, &path),
        (Some(_), Some(_)) => {
            return wrong(
                "spec.nonResourceAttributes",
                "cannot be specified in combination with resourceAttributes",
            );
        }
        (None, None) => {
            return wrong(
                "spec.resourceAttributes",
                "exactly one of nonResourceAttributes or resourceAttributes must be specified",
            );
        }
    };
    let Decision { allowed, reason } = question.api.access.decide(user, &asked);
    let mut answer = json!({"allowed": allowed});
    if !reason.is_empty() {
        answer["reason"] = json!(reason);
    }
    Ok(answer)
}

fn may_they(question: &Question<'_>) -> Result<Value, ApiError> {
    let spec: Spec = question.read::<Option<Spec>>(question.spec)?.unwrap_or_default();
    let user = User {
        name: spec.user.unwrap_or_default(),
        uid: spec.uid.unwrap_or_default(),
        groups: spec.groups.unwrap_or_default(),
        extra: spec.extra.unwrap_or_default(),
    };
    if user.name.is_empty() && user.groups.is_empty() {
        let why = "at least one of user or group must be specified";
        return Err(question.invalid("spec.user", CauseReason::Invalid, why));
    }
    may(question, &user)
}

fn what_may_i(question: &Question<'_>) -> Result<Value, ApiError> {
    let Some(namespace) = question.spec["namespace"].as_str().filter(|namespace| !namespace.is_empty())
    else {
        return Err(ApiError::BadRequest("no namespace on request".to_owned()));
    };
    let (rules, missing) = question.api.access.rules_of(question.user, namespace);
    let about_paths = |rule: &&PolicyRule| rule.non_resource_urls.iter().flatten().next().is_some();
    let (paths, objects): (Vec<&PolicyRule>, Vec<&PolicyRule>) = rules.iter().partition(about_paths);
    let mut answer = json!({"resourceRules": objects, "nonResourceRules": paths, "incomplete": false});
    if !missing.is_empty() {
        answer["incomplete"] = json!(true);
        answer["evaluationError"] = json!(missing.join(", "));
    }
    Ok(answer)
}

fn whose_token(question: &Question<'_>) -> Result<Value, ApiError> {
    let token = question.spec["token"].as_str().unwrap_or_default();
    if token.is_empty() {
        return Err(question.invalid("spec.token", CauseReason::Required, ""));
    }
    // What went wrong in general would quote what is there, and that may be the token.
    let asked = Option::<Vec<String>>::deserialize(&question.spec["audiences"]).map_err(|_| {
        ApiError::BadRequest("the TokenReview cannot be read: audiences must be a list of texts".to_owned())
    })?;
    let asked = asked.filter(|asked| !asked.is_empty());
    let audiences: Vec<&str> = match &asked {
        Some(asked) => asked.iter().map(String::as_str).collect(),
        None => vec![ISSUER],
    };
    match question.api.authenticator.user_of(token, &audiences, Timestamp::now()) {
        Ok((user, meant)) => Ok(json!({"authenticated": true, "user": user.info(), "audiences": meant})),
        Err(why) => Ok(json!({"authenticated": false, "user": {}, "error": why})),
    }
}
