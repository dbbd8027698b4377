//! What of which request is written down: the first rule that fits says.
//!
//! Source: `Policy` of `audit.k8s.io/v1`. Stages cannot be chosen: each request is one event.

use serde::Deserialize;

use crate::apiserver::rbac::attributes::{Attributes, Object};
use crate::apiserver::user::User;

/// How much is written, in the order of more.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord, Deserialize)]
pub(crate) enum Level {
    None,
    Metadata,
    Request,
    RequestResponse,
}

impl Level {
    pub(super) fn name(self) -> &'static str {
        match self {
            Self::None => "None",
            Self::Metadata => "Metadata",
            Self::Request => "Request",
            Self::RequestResponse => "RequestResponse",
        }
    }
}

/// A list of rules.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
pub(crate) struct Policy {
    #[serde(rename = "apiVersion")]
    _api_version: Option<String>,
    #[serde(rename = "kind")]
    _kind: Option<String>,
    #[serde(default, rename = "metadata")]
    _metadata: serde_json::Value,
    #[serde(default, rename = "omitStages")]
    _omit_stages: Vec<String>,
    rules: Vec<Rule>,
}

/// A list that is empty says nothing.
#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Rule {
    level: Level,
    #[serde(default)]
    users: Vec<String>,
    #[serde(default)]
    user_groups: Vec<String>,
    #[serde(default)]
    verbs: Vec<String>,
    #[serde(default)]
    resources: Vec<Resources>,
    #[serde(default)]
    namespaces: Vec<String>,
    #[serde(default, rename = "nonResourceURLs")]
    paths: Vec<String>,
    #[serde(default, rename = "omitStages")]
    _omit_stages: Vec<String>,
}

#[derive(Debug, Clone, Deserialize)]
#[serde(rename_all = "camelCase", deny_unknown_fields)]
struct Resources {
    #[serde(default)]
    group: String,
    #[serde(default)]
    resources: Vec<String>,
    #[serde(default)]
    resource_names: Vec<String>,
}

/// Without a policy of one's own: who did what, without bodies, and without what only asks whether
/// the server is well.
const DEFAULT: &str = "
rules:
- level: None
  nonResourceURLs: [/healthz*, /livez*, /readyz*, /version*]
- level: Metadata
";

impl Policy {
    /// Reads YAML or JSON.
    pub(crate) fn read(text: &str) -> Result<Self, String> {
        serde_saphyr::from_str(text).map_err(|error| error.to_string())
    }

    pub(crate) fn standard() -> Result<Self, String> {
        Self::read(DEFAULT)
    }

    /// What is written of a request. Bodies that hold secrets never are, whatever the rules say.
    pub(crate) fn level(&self, user: &User, asked: &Attributes) -> Level {
        let found = self.rules.iter().find(|rule| rule.fits(user, asked));
        let level = found.map_or(Level::None, |rule| rule.level);
        if is_secret(asked) { level.min(Level::Metadata) } else { level }
    }
}

/// Whether bodies are secret.
pub(super) fn is_secret(asked: &Attributes) -> bool {
    let Object::Resource(resource) = &asked.object else { return false };
    match (resource.group.as_str(), resource.resource.as_str(), resource.subresource.as_str()) {
        ("", "secrets", _) | ("", "serviceaccounts", "token") => true,
        (group, resource, _) => group == "authentication.k8s.io" && resource == "tokenreviews",
    }
}

impl Rule {
    fn fits(&self, user: &User, asked: &Attributes) -> bool {
        let among = |list: &[String], one: &str| list.is_empty() || list.iter().any(|item| item == one);
        if !among(&self.users, &user.name) || !among(&self.verbs, &asked.verb) {
            return false;
        }
        if !self.user_groups.is_empty() && !self.user_groups.iter().any(|group| user.is_in(group)) {
            return false;
        }
        match &asked.object {
            Object::Path(path) => {
                let about_objects = !self.resources.is_empty() || !self.namespaces.is_empty();
                match self.paths.is_empty() {
                    true => !about_objects,
                    false => self.paths.iter().any(|pattern| matches(pattern, path)),
                }
            }
            Object::Resource(resource) => {
                if !self.paths.is_empty() && self.resources.is_empty() && self.namespaces.is_empty() {
                    return false;
                }
                if !among(&self.namespaces, &resource.namespace) {
                    return false;
                }
                let combined = resource.combined();
                self.resources.is_empty()
                    || self.resources.iter().any(|one| {
                        let known = |name: &String| {
                            *name == combined
                                || name == "*"
                                || is_wild(name, &resource.resource, &resource.subresource)
                        };
                        one.group == resource.group
                            && (one.resources.is_empty() || one.resources.iter().any(known))
                            && among(&one.resource_names, &resource.name)
                    })
            }
        }
    }
}

/// `pods/*` and `*/status`.
fn is_wild(pattern: &str, resource: &str, subresource: &str) -> bool {
    match pattern.split_once('/') {
        Some((left, "*")) => left == resource && !subresource.is_empty(),
        Some(("*", right)) => right == subresource,
        _ => false,
    }
}

fn matches(pattern: &str, path: &str) -> bool {
    match pattern.strip_suffix('*') {
        Some(start) => path.starts_with(start),
        None => pattern == path,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn level(policy: &str, user: &User, request: &str) -> Level {
        let (method, uri) = request.split_once(' ').unwrap();
        let asked = Attributes::of(&method.parse().unwrap(), &uri.parse().unwrap());
        Policy::read(policy).unwrap().level(user, &asked)
    }

    #[test]
    fn the_first_rule_that_fits() {
        let policy = "
apiVersion: audit.k8s.io/v1
kind: Policy
omitStages: [RequestReceived]
rules:
- {level: None, users: [robot], verbs: [get, list, watch]}
- {level: Metadata, userGroups: [ops]}
- {level: Request, resources: [{group: '', resources: [pods, pods/*]}], namespaces: [dev]}
- {level: RequestResponse, resources: [{group: '', resources: [secrets, serviceaccounts/token, configmaps]}]}
- {level: None, nonResourceURLs: ['/healthz*']}
- {level: Metadata}
";
        let (ann, robot, ops) = (User::new("ann", &[]), User::new("robot", &[]), User::new("o", &["ops"]));
        for (user, request, expected) in [
            (&robot, "GET /api/v1/pods", Level::None),
            (&robot, "POST /api/v1/namespaces/dev/pods", Level::Request),
            (&ops, "POST /api/v1/namespaces/dev/pods", Level::Metadata),
            (&ann, "POST /api/v1/namespaces/dev/pods/a/binding", Level::Request),
            (&ann, "POST /api/v1/namespaces/other/pods", Level::Metadata),
            (&ann, "PUT /api/v1/namespaces/dev/configmaps/a", Level::RequestResponse),
            (&ann, "PUT /api/v1/namespaces/dev/secrets/a", Level::Metadata),
            (&ann, "POST /api/v1/namespaces/dev/serviceaccounts/a/token", Level::Metadata),
            (&ann, "GET /healthz/ping", Level::None),
            (&ann, "GET /metrics", Level::Metadata),
        ] {
            assert_eq!(level(policy, user, request), expected, "{} {request}", user.name);
        }
        let standard = Policy::standard().unwrap();
        let asked = Attributes::path("get", "/livez");
        assert_eq!(standard.level(&ann, &asked), Level::None);
        assert_eq!(standard.level(&ann, &Attributes::path("get", "/metrics")), Level::Metadata);
        for bad in ["", "rules: [{level: Much}]", "rules: [{level: None, user: [a]}]"] {
            assert!(Policy::read(bad).is_err(), "{bad}");
        }
    }
}
