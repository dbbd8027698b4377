//! Whether what somebody has includes what they would grant. Pure.
//!
//! Rules are taken apart into the smallest ones, each of which must be in one rule of the
//! owner; so no two rules together count for more than each alone.

use std::collections::BTreeMap;
use std::fmt;

use k8s_openapi::api::rbac::v1::PolicyRule;
use thiserror::Error;

use super::matching::{ALL, is_path_in, names, names_resource, texts};

/// The most that rules may be taken apart into: verbs times paths, or times groups times resources
/// times names. A rule of a few kilobytes could else be many millions.
const MOST: usize = 8192;

/// How much of what is missing is told: lines, and characters of one.
const LINES: usize = 20;
const WIDTH: usize = 1000;

/// Group, resource and name (or all), or a path.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
enum Part<'a> {
    Resource { group: &'a str, resource: &'a str, name: Option<&'a str> },
    Path(&'a str),
}

/// The rules are about so much that it is not looked at.
#[derive(Debug, PartialEq, Eq, Error)]
#[error(
    "the rules are too large to be granted: verbs times groups, resources and names (or paths) are {0}, and may be {MOST} \
     together; split the role"
)]
pub(super) struct TooMany(usize);

/// What is not there, as text for people: one line for each object.
#[derive(Debug, Default, PartialEq, Eq)]
pub(super) struct Missing {
    lines: Vec<String>,
    /// What is missing besides.
    more: usize,
}

impl Missing {
    pub(super) fn is_empty(&self) -> bool {
        self.lines.is_empty()
    }
}

impl fmt::Display for Missing {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.write_str(&self.lines.join("\n"))?;
        if self.more > 0 { write!(f, "\n… and {} more", self.more) } else { Ok(()) }
    }
}

/// What of `wanted` is in no rule of `owned`.
pub(super) fn missing(owned: &[PolicyRule], wanted: &[PolicyRule]) -> Result<Missing, TooMany> {
    let count = wanted.iter().map(count).fold(0, usize::saturating_add);
    if count > MOST {
        return Err(TooMany(count));
    }
    let mut lacking: BTreeMap<Part<'_>, Vec<&str>> = BTreeMap::new();
    for rule in wanted {
        for part in parts(rule) {
            for verb in rule.verbs.iter().filter(|verb| !owned.iter().any(|own| covers(own, part, verb))) {
                let verbs = lacking.entry(part).or_default();
                if !verbs.contains(&verb.as_str()) {
                    verbs.push(verb);
                }
            }
        }
    }
    let more = lacking.len().saturating_sub(LINES);
    Ok(Missing {
        lines: lacking.iter().take(LINES).map(|(part, verbs)| describe(part, verbs)).collect(),
        more,
    })
}

/// How many pairs of a verb and a part a rule has.
fn count(rule: &PolicyRule) -> usize {
    let objects = texts(&rule.api_groups)
        .len()
        .saturating_mul(texts(&rule.resources).len())
        .saturating_mul(texts(&rule.resource_names).len().max(1));
    rule.verbs.len().saturating_mul(objects.saturating_add(texts(&rule.non_resource_urls).len()))
}

fn parts(rule: &PolicyRule) -> Vec<Part<'_>> {
    let mut parts: Vec<Part<'_>> = texts(&rule.non_resource_urls).iter().map(|url| Part::Path(url)).collect();
    // Of no verbs it is nothing, and they are not counted.
    if rule.verbs.is_empty() {
        return parts;
    }
    let all = [None];
    let given: Vec<Option<&str>> =
        texts(&rule.resource_names).iter().map(|name| Some(name.as_str())).collect();
    let objects = if given.is_empty() { &all[..] } else { &given };
    for group in texts(&rule.api_groups) {
        for resource in texts(&rule.resources) {
            parts.extend(objects.iter().map(|&name| Part::Resource { group, resource, name }));
        }
    }
    parts
}

/// Stars in what is wanted are nothing but names here: only a star includes one.
fn covers(own: &PolicyRule, part: Part<'_>, verb: &str) -> bool {
    names(&own.verbs, verb)
        && match part {
            Part::Path(path) => texts(&own.non_resource_urls).iter().any(|url| is_path_in(url, path)),
            Part::Resource { group, resource, name } => {
                let given = texts(&own.resource_names);
                names(texts(&own.api_groups), group)
                    && names_resource(texts(&own.resources), resource)
                    && (given.is_empty() || name.is_some_and(|name| given.iter().any(|own| own == name)))
            }
        }
}

fn describe(part: &Part<'_>, verbs: &[&str]) -> String {
    let verbs = verbs.iter().map(|verb| format!("{verb:?}")).collect::<Vec<_>>().join(" ");
    let mut line = match part {
        Part::Path(path) => format!("{{NonResourceURLs:[{path:?}], Verbs:[{verbs}]}}"),
        Part::Resource { group, resource, name } => {
            let names = name.as_ref().map(|name| format!(", ResourceNames:[{name:?}]")).unwrap_or_default();
            format!("{{APIGroups:[{group:?}], Resources:[{resource:?}]{names}, Verbs:[{verbs}]}}")
        }
    };
    if let Some((end, _)) = line.char_indices().nth(WIDTH) {
        line.truncate(end);
        line.push('…');
    }
    line
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
            let found = missing(&rules(&owned), &rules(&json!([wanted.clone()]))).unwrap();
            assert_eq!(found.to_string(), missed, "{owned} for {wanted}");
            assert_eq!(missing(&everything(), &rules(&json!([wanted]))), Ok(Missing::default()));
        }
    }

    #[test]
    fn large_rules_are_not_taken_apart() {
        let texts = |count: usize| (0..count).map(|n| format!("t{n}")).collect::<Vec<_>>();
        let rule = |groups, resources, names, verbs| {
            rules(
                &json!([{"verbs": texts(verbs), "apiGroups": texts(groups), "resources": texts(resources), "resourceNames": texts(names)}]),
            )
        };
        assert_eq!(missing(&[], &rule(1000, 1000, 0, 1)), Err(TooMany(1_000_000)));
        assert_eq!(missing(&[], &rule(1000, 1000, 1000, 1000)), Err(TooMany(1_000_000_000_000)));
        assert_eq!(missing(&everything(), &rule(MOST + 1, 1, 0, 1)), Err(TooMany(MOST + 1)));
        // Many small rules are as one large one.
        let many: Vec<PolicyRule> = std::iter::repeat_n(rule(100, 10, 0, 1), 9).flatten().collect();
        assert_eq!(missing(&[], &many), Err(TooMany(9000)));
        let urls = rules(&json!([{"verbs": texts(100), "nonResourceURLs": texts(100)}]));
        assert_eq!(missing(&[], &urls), Err(TooMany(10_000)));
        assert!(parts(&rule(1000, 1000, 0, 0)[0]).is_empty());
        let told = missing(&[], &rule(MOST / 2, 1, 0, 2)).unwrap().to_string();
        assert_eq!(told.lines().count(), LINES + 1);
        assert!(told.ends_with(&format!("\n… and {} more", MOST / 2 - LINES)), "{told}");
        let wide =
            rules(&json!([{"verbs": ["get"], "apiGroups": ["é".repeat(100_000)], "resources": texts(30)}]));
        let told = missing(&[], &wide).unwrap().to_string();
        assert!(told.chars().count() < (LINES + 1) * (WIDTH + 2), "{}", told.len());
    }
}
