//! Whether a rule of a role is about what somebody wants to do. Pure.

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::attributes::{Attributes, Object};

/// Stands for everything in a rule's verbs, groups, resources and paths.
pub(super) const ALL: &str = "*";

/// The texts of a list that may be missing.
pub(super) fn texts(list: &Option<Vec<String>>) -> &[String] {
    list.as_deref().unwrap_or_default()
}

/// Whether a list names the text, or everything.
pub(super) fn names(list: &[String], text: &str) -> bool {
    list.iter().any(|named| named == ALL || named == text)
}

/// Whether the rule allows it.
pub(crate) fn allows(rule: &PolicyRule, asked: &Attributes) -> bool {
    if !names(&rule.verbs, &asked.verb) {
        return false;
    }
    match &asked.object {
        Object::Path(path) => texts(&rule.non_resource_urls).iter().any(|url| is_path_in(url, path)),
        Object::Resource(resource) => {
            let name = &resource.name;
            names(texts(&rule.api_groups), &resource.group)
                && names_resource(texts(&rule.resources), &resource.combined())
                && (texts(&rule.resource_names).is_empty() || texts(&rule.resource_names).contains(name))
        }
    }
}

/// Whether a list names the resource (`pods`, `pods/status`), one of its kind (`*/status`) or all.
pub(super) fn names_resource(list: &[String], combined: &str) -> bool {
    names(list, combined)
        || combined
            .split_once('/')
            .is_some_and(|(_, part)| list.iter().any(|named| named.strip_prefix("*/") == Some(part)))
}

/// Whether a rule's path covers one: `/metrics`, `/api/*`, `*`.
pub(super) fn is_path_in(url: &str, path: &str) -> bool {
    url == ALL || url == path || url.ends_with('*') && path.starts_with(url.trim_end_matches('*'))
}

#[cfg(test)]
mod tests {
    use super::super::attributes::Resource;
    use super::*;
    use serde_json::{Value, json};

    fn read(rule: Value) -> PolicyRule {
        serde_json::from_value(rule).unwrap()
    }

    #[test]
    fn resources() {
        let asked = |verb: &str, group: &str, combined: &str, name: &str| {
            let (resource, part) = combined.split_once('/').unwrap_or((combined, ""));
            let (group, resource) = (group.to_owned(), resource.to_owned());
            let (subresource, name) = (part.to_owned(), name.to_owned());
            let resource = Resource { namespace: String::new(), group, resource, subresource, name };
            Attributes::resource(verb, resource)
        };
        let reader = json!({"verbs": ["get", "list"], "apiGroups": [""], "resources": ["pods"]});
        let named =
            json!({"verbs": ["*"], "apiGroups": [""], "resources": ["pods"], "resourceNames": ["a", "b"]});
        let parts =
            json!({"verbs": ["update"], "apiGroups": ["*"], "resources": ["*/status", "pods/binding"]});
        let all = json!({"verbs": ["*"], "apiGroups": ["*"], "resources": ["*"]});
        let urls = json!({"verbs": ["*"], "nonResourceURLs": ["*"]});
        for (rule, verb, group, resource, name, allowed) in [
            (&reader, "get", "", "pods", "a", true),
            (&reader, "list", "", "pods", "", true),
            (&reader, "delete", "", "pods", "a", false),
            (&reader, "get", "storage.k8s.io", "pods", "a", false),
            (&reader, "get", "", "pods/status", "a", false),
            (&reader, "get", "", "secrets", "a", false),
            (&reader, "GET", "", "pods", "a", false),
            (&named, "delete", "", "pods", "b", true),
            (&named, "get", "", "pods", "c", false),
            (&named, "list", "", "pods", "", false),
            (&named, "create", "", "pods", "", false),
            (&parts, "update", "x", "widgets/status", "a", true),
            (&parts, "update", "", "pods/binding", "a", true),
            (&parts, "update", "", "pods/scale", "a", false),
            (&parts, "update", "", "status", "a", false),
            (&parts, "update", "", "pods", "a", false),
            (&all, "get", "any", "thing/part", "a", true),
            (&urls, "get", "", "pods", "a", false),
        ] {
            let asked = asked(verb, group, resource, name);
            assert_eq!(allows(&read(rule.clone()), &asked), allowed, "{rule} {asked:?}");
        }
        assert!(!allows(&read(all), &Attributes::path("get", "/metrics")), "resources are no paths");
    }

    #[test]
    fn paths() {
        for (url, path, allowed) in [
            ("/metrics", "/metrics", true),
            ("/metrics", "/metrics/", false),
            ("/metrics", "/metrics/a", false),
            ("/api/*", "/api/v1", true),
            ("/api/*", "/api", false),
            ("/apis*", "/apis/x", true),
            ("*", "/anything", true),
            ("/a*b", "/axb", false),
        ] {
            let rule = read(json!({"verbs": ["get"], "nonResourceURLs": [url]}));
            assert_eq!(allows(&rule, &Attributes::path("get", path)), allowed, "{url} {path}");
            assert!(!allows(&rule, &Attributes::path("post", path)));
        }
    }
}
