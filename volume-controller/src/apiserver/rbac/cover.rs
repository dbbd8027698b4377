//! Whether what somebody has includes what they would grant. Pure.
//!
//! Rules are taken apart into the smallest ones, each of which must be in one rule of the
//! owner; so no two rules together count for more than each alone.

use std::collections::BTreeMap;

use k8s_openapi::api::rbac::v1::PolicyRule;

use super::matching::{ALL, is_path_in, names, names_resource, texts};

/// Group, resource and name (or all), or a path.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Part {
    Resource { group: String, resource: String, name: Option<String> },
    Path(String),
}

/// What of `wanted` is in no rule of `owned`, as text for people: one line for each object.
pub(super) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Vec<String> {
    let mut lines: BTreeMap<Part, Vec<&str>> = BTreeMap::new();
    for rule in wanted {
        for part in parts(rule) {
            for verb in rule.verbs.iter().filter(|verb| !owned.iter().any(|own| covers(own, &part, verb))) {
                let verbs = lines.entry(part.clone()).or_default();
                if !verbs.contains(&verb.as_str()) {
                    verbs.push(verb);
                }
            }
        }
    }
    lines.into_iter().map(|(part, verbs)| describe(&part, &verbs)).collect()
}

fn parts(rule: &PolicyRule) -> Vec<Part> {
    let mut parts: Vec<Part> =
        texts(&rule.non_resource_urls).iter().map(|url| Part::Path(url.clone())).collect();
    let all = [None];
    let given: Vec<Option<String>> = texts(&rule.resource_names).iter().cloned().map(Some).collect();
    let objects = if given.is_empty() { &all[..] } else { &given };
    for group in texts(&rule.api_groups) {
        for resource in texts(&rule.resources) {
            parts.extend(objects.iter().map(|name| Part::Resource {
                group: group.clone(),
                resource: resource.clone(),
                name: name.clone(),
            }));
        }
    }
    parts
}

/// Stars in what is wanted are nothing but names here: only a star includes one.
fn covers(own: &PolicyRule, part: &Part, verb: &str) -> bool {
    names(&own.verbs, verb)
        && match part {
            Part::Path(path) => texts(&own.non_resource_urls).iter().any(|url| is_path_in(url, path)),
            Part::Resource { group, resource, name } => {
                let given = texts(&own.resource_names);
                names(texts(&own.api_groups), group)
                    && names_resource(texts(&own.resources), resource)
                    && (given.is_empty() || name.as_ref().is_some_and(|name| given.contains(name)))
            }
        }
}

fn describe(part: &Part, verbs: &[&str]) -> String {
    let verbs = verbs.iter().map(|verb| format!("{verb:?}")).collect::<Vec<_>>().join(" ");
    match part {
        Part::Path(path) => format!("{{NonResourceURLs:[{path:?}], Verbs:[{verbs}]}}"),
        Part::Resource { group, resource, name } => {
            let names = name.as_ref().map(|name| format!(", ResourceNames:[{name:?}]")).unwrap_or_default();
            format!("{{APIGroups:[{group:?}], Resources:[{resource:?}]{names}, Verbs:[{verbs}]}}")
        }
    }
}

/// The rule that allows everything that is about objects, and the one for all paths.
pub(super) fn everything() -> Vec<PolicyRule> {
    let all = || Some(vec![ALL.to_owned()]);
    let verbs = vec![ALL.to_owned()];
    vec![
        PolicyRule { verbs: verbs.clone(), api_groups: all(), resources: all(), ..PolicyRule::default() },
        PolicyRule { verbs, non_resource_urls: all(), ..PolicyRule::default() },
    ]
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::{Value, json};

    fn rules(value: &Value) -> Vec<PolicyRule> {
        serde_json::from_value(value.clone()).unwrap()
    }

    #[test]
    fn table() {
        let pods = |verbs: &[&str], names: &[&str]| json!({"verbs": verbs, "apiGroups": [""], "resources": ["pods"], "resourceNames": names});
        let urls = |urls: &[&str]| json!({"verbs": ["get"], "nonResourceURLs": urls});
        let status =
            |resource: &str| json!({"verbs": ["update"], "apiGroups": [""], "resources": [resource]});
        for (owned, wanted, missed) in [
            (json!([pods(&["get", "list"], &[])]), pods(&["get"], &[]), ""),
            (
                json!([pods(&["get"], &[])]),
                pods(&["get", "list"], &[]),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["list"]}"#,
            ),
            (json!([pods(&["get"], &[]), pods(&["list"], &[])]), pods(&["get", "list"], &[]), ""),
            (json!([pods(&["*"], &[])]), pods(&["get"], &["a"]), ""),
            (json!([pods(&["get"], &["a"])]), pods(&["get"], &["a"]), ""),
            (
                json!([pods(&["get"], &["a"])]),
                pods(&["get"], &[]),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["get"]}"#,
            ),
            (
                json!([pods(&["get"], &["a"])]),
                pods(&["get"], &["a", "b"]),
                r#"{APIGroups:[""], Resources:["pods"], ResourceNames:["b"], Verbs:["get"]}"#,
            ),
            (
                json!([pods(&["get", "list"], &[])]),
                pods(&["*"], &[]),
                r#"{APIGroups:[""], Resources:["pods"], Verbs:["*"]}"#,
            ),
            (json!([status("*/status")]), status("pods/status"), ""),
            (
                json!([status("pods/status")]),
                status("*/status"),
                r#"{APIGroups:[""], Resources:["*/status"], Verbs:["update"]}"#,
            ),
            (
                json!([status("pods")]),
                status("pods/status"),
                r#"{APIGroups:[""], Resources:["pods/status"], Verbs:["update"]}"#,
            ),
            (json!([urls(&["/api/*"])]), urls(&["/api/v1", "/api/*"]), ""),
            (
                json!([urls(&["/api/v1"])]),
                urls(&["/api/*"]),
                r#"{NonResourceURLs:["/api/*"], Verbs:["get"]}"#,
            ),
            (json!([urls(&["/api/*"])]), urls(&["*"]), r#"{NonResourceURLs:["*"], Verbs:["get"]}"#),
            (json!([]), json!({"verbs": ["get"]}), ""),
        ] {
            let found = missing(&rules(&owned), &rules(&json!([wanted.clone()]))).join("\n");
            assert_eq!(found, missed, "{owned} for {wanted}");
            assert_eq!(missing(&everything(), &rules(&json!([wanted]))), Vec::<String>::new());
        }
    }
}
