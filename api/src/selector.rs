//! Label and field selectors: the string form of list requests and the object
//! form of specs.

use std::collections::BTreeMap;

use k8s_openapi::apimachinery::pkg::apis::meta::v1::LabelSelector;
use thiserror::Error;

/// What one term of a selector asks of one key.
#[derive(Debug, Clone, PartialEq, Eq)]
pub enum Requirement {
    /// `key=value`, `key in (a,b)`.
    In(String, Vec<String>),
    /// `key!=value`, `key notin (a,b)`; holds also where the key is missing.
    NotIn(String, Vec<String>),
    /// `key`.
    Exists(String),
    /// `!key`.
    NotExists(String),
}

impl Requirement {
    fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        match self {
            Self::In(key, values) => get(key).is_some_and(|found| values.iter().any(|v| v == found)),
            Self::NotIn(key, values) => !get(key).is_some_and(|found| values.iter().any(|v| v == found)),
            Self::Exists(key) => get(key).is_some(),
            Self::NotExists(key) => get(key).is_none(),
        }
    }
}

/// A selector: all requirements must hold. The empty selector matches everything.
#[derive(Debug, Clone, Default, PartialEq, Eq)]
pub struct Selector {
    /// The terms, all of which must hold.
    pub requirements: Vec<Requirement>,
}

/// A selector that cannot be read.
#[derive(Debug, Clone, PartialEq, Eq, Error)]
pub enum SelectorError {
    /// The string form is malformed.
    #[error("unable to parse selector {0:?}: {1}")]
    Malformed(String, &'static str),
    /// A field selector is malformed.
    #[error("invalid selector: '{0}'; {1}")]
    Field(String, String),
    /// An operator that does not exist.
    #[error("{0:?} is not a valid label selector operator: use In, NotIn, Exists or DoesNotExist")]
    Operator(String),
    /// `In` and `NotIn` need values, the others must have none.
    #[error("values of {0:?} do not fit its operator {1}")]
    Values(String, String),
}

impl Selector {
    /// Reads the string form of `labelSelector`.
    ///
    /// # Errors
    /// [`SelectorError::Malformed`] with the part that was not understood.
    pub fn parse(text: &str) -> Result<Self, SelectorError> {
        let malformed = |why| SelectorError::Malformed(text.to_owned(), why);
        let mut requirements = Vec::new();
        for term in split_terms(text).ok_or_else(|| malformed("parentheses do not match"))? {
            let term = term.trim();
            if term.is_empty() {
                if text.trim().is_empty() {
                    break;
                }
                return Err(malformed("an empty term"));
            }
            requirements.push(parse_term(term).ok_or_else(|| {
                malformed("a term is none of key, !key, key=value, key!=value, key in (a,b), key notin (a,b)")
            })?);
        }
        Ok(Self { requirements })
    }

    /// Reads the string form of `fieldSelector`: terms `field=value`, `field==value` and `field!=value`, in whose values `,`,
    /// `=` and `\\` come after a `\\`. Each becomes a requirement with one value. Spaces belong to what is written, and
    /// there are no sets. Source: `k8s.io/apimachinery/pkg/fields`.
    ///
    /// # Errors
    /// [`SelectorError::Field`] with the term that was not understood, or why.
    pub fn parse_fields(text: &str) -> Result<Self, SelectorError> {
        let terms = split_escaped(text).into_iter().filter(|term| !term.is_empty());
        let requirements = terms.map(|term| {
            let refuse = |why: String| SelectorError::Field(text.to_owned(), why);
            let (field, operator, value) =
                split_field(term).ok_or_else(|| refuse(format!("can't understand '{term}'")))?;
            let (field, values) = (field.to_owned(), vec![unescape(value).map_err(refuse)?]);
            Ok(if operator == "!=" {
                Requirement::NotIn(field, values)
            } else {
                Requirement::In(field, values)
            })
        });
        Ok(Self { requirements: requirements.collect::<Result<_, _>>()? })
    }

    /// Whether the labels (or fields) satisfy every requirement.
    pub fn matches<'a>(&self, get: impl Fn(&str) -> Option<&'a str>) -> bool {
        self.requirements.iter().all(|requirement| requirement.matches(&get))
    }

    /// [`Selector::matches`] on a map of labels.
    #[must_use]
    pub fn matches_map(&self, labels: Option<&BTreeMap<String, String>>) -> bool {
        self.matches(|key| labels.and_then(|l| l.get(key)).map(String::as_str))
    }
}

impl TryFrom<&LabelSelector> for Selector {
    type Error = SelectorError;

    fn try_from(source: &LabelSelector) -> Result<Self, SelectorError> {
        let mut requirements: Vec<Requirement> = source
            .match_labels
            .iter()
            .flatten()
            .map(|(key, value)| Requirement::In(key.clone(), vec![value.clone()]))
            .collect();
        for expression in source.match_expressions.iter().flatten() {
            let key = expression.key.clone();
            let values = expression.values.clone().unwrap_or_default();
            let needs_values = matches!(expression.operator.as_str(), "In" | "NotIn");
            let requirement = match expression.operator.as_str() {
                "In" => Requirement::In(key, values.clone()),
                "NotIn" => Requirement::NotIn(key, values.clone()),
                "Exists" => Requirement::Exists(key),
                "DoesNotExist" => Requirement::NotExists(key),
                other => return Err(SelectorError::Operator(other.to_owned())),
            };
            if values.is_empty() == needs_values {
                return Err(SelectorError::Values(expression.key.clone(), expression.operator.clone()));
            }
            requirements.push(requirement);
        }
        Ok(Self { requirements })
    }
}

/// Splits at commas outside parentheses; `None` when they do not match.
fn split_terms(text: &str) -> Option<Vec<&str>> {
    let (mut terms, mut start, mut depth) = (Vec::new(), 0, 0u32);
    for (at, c) in text.char_indices() {
        match c {
            '(' => depth += 1,
            ')' => depth = depth.checked_sub(1)?,
            ',' if depth == 0 => {
                terms.push(&text[start..at]);
                start = at + 1;
            }
            _ => {}
        }
    }
    terms.push(&text[start..]);
    (depth == 0).then_some(terms)
}

fn parse_term(term: &str) -> Option<Requirement> {
    let key_ok =
        |key: &str| !key.is_empty() && key.bytes().all(|b| b.is_ascii_alphanumeric() || b"-_./".contains(&b));
    let value_ok = |value: &str| !value.contains(['=', '!', '(', ')', ',']);
    let one = |key: &str, value: &str| {
        let (key, value) = (key.trim(), value.trim());
        (key_ok(key) && value_ok(value)).then(|| (key.to_owned(), vec![value.to_owned()]))
    };
    if let Some((key, value)) = term.split_once("!=") {
        return one(key, value).map(|(k, v)| Requirement::NotIn(k, v));
    }
    if let Some((key, value)) = term.split_once("==").or_else(|| term.split_once('=')) {
        return one(key, value).map(|(k, v)| Requirement::In(k, v));
    }
    if let Some(key) = term.strip_prefix('!') {
        let key = key.trim();
        return key_ok(key).then(|| Requirement::NotExists(key.to_owned()));
    }
    if let Some(head) = term.strip_suffix(')') {
        let (head, list) = head.split_once('(')?;
        let mut words = head.split_whitespace();
        let (key, operator) = (words.next()?, words.next()?);
        if words.next().is_some() || !key_ok(key) {
            return None;
        }
        let values: Vec<String> = list.split(',').map(|v| v.trim().to_owned()).collect();
        if !values.iter().all(|v| value_ok(v)) {
            return None;
        }
        return match operator {
            "in" => Some(Requirement::In(key.to_owned(), values)),
            "notin" => Some(Requirement::NotIn(key.to_owned(), values)),
            _ => None,
        };
    }
    key_ok(term).then(|| Requirement::Exists(term.to_owned()))
}

/// Splits at commas that no `\` comes before.
fn split_escaped(text: &str) -> Vec<&str> {
    let (mut terms, mut start, mut is_escaped) = (Vec::new(), 0, false);
    for (at, c) in text.char_indices() {
        if c == ',' && !is_escaped {
            terms.push(&text[start..at]);
            start = at + 1;
        }
        is_escaped = c == '\\' && !is_escaped;
    }
    terms.push(&text[start..]);
    terms
}

/// Splits a term at its first operator.
fn split_field(term: &str) -> Option<(&str, &'static str, &str)> {
    term.char_indices().find_map(|(at, _)| {
        let (field, rest) = term.split_at(at);
        let operator = ["!=", "==", "="].into_iter().find(|operator| rest.starts_with(operator))?;
        Some((field, operator, &rest[operator.len()..]))
    })
}

fn unescape(value: &str) -> Result<String, String> {
    let (mut plain, mut chars) = (String::with_capacity(value.len()), value.chars());
    while let Some(c) = chars.next() {
        plain.push(match (c, if c == '\\' { chars.next() } else { None }) {
            ('\\', Some(c @ ('\\' | ',' | '='))) => c,
            ('\\', other) => {
                let sequence: String = ['\\'].into_iter().chain(other).collect();
                return Err(format!("invalid escape sequence: {sequence}"));
            }
            ('=', _) => return Err("unescaped character in value: =".to_owned()),
            (c, _) => c,
        });
    }
    Ok(plain)
}

#[cfg(test)]
mod tests {
    use super::*;

    fn labels() -> BTreeMap<String, String> {
        [("app", "db"), ("tier", "gold"), ("empty", "")].map(|(k, v)| (k.to_owned(), v.to_owned())).into()
    }

    #[test]
    fn table() {
        for (selector, expected) in [
            ("", true),
            ("app", true),
            ("!app", false),
            ("missing", false),
            ("!missing", true),
            ("app=db", true),
            ("app==db", true),
            ("app = db , tier=gold", true),
            ("app=web", false),
            ("app!=web", true),
            ("missing!=x", true),
            ("app in (web,db)", true),
            ("app in (web, db),tier notin (gold)", false),
            ("missing notin (a)", true),
            ("empty=", true),
            ("app=", false),
            ("metadata.name!=x,example.com/a_b-c", false),
        ] {
            assert_eq!(
                Selector::parse(selector).unwrap().matches_map(Some(&labels())),
                expected,
                "{selector}"
            );
        }
    }

    #[test]
    fn refused() {
        for selector in
            [",", "a,,b", "a in (b", "a)b(", "a in b", "a is (b)", "=x", "a b", "!", "a=b=c", "é=x"]
        {
            assert!(Selector::parse(selector).is_err(), "{selector}");
        }
    }

    #[test]
    fn fields() {
        use Requirement::{In, NotIn};
        let of = |key: &str, value: &str| (key.to_owned(), vec![value.to_owned()]);
        let (is, not) = (
            |key: &str, value: &str| In(of(key, value).0, of(key, value).1),
            |key: &str, value: &str| NotIn(of(key, value).0, of(key, value).1),
        );
        for (text, expected) in [
            ("", vec![]),
            (",", vec![]),
            ("a=b", vec![is("a", "b")]),
            ("a==b,c!=d", vec![is("a", "b"), not("c", "d")]),
            ("metadata.name=", vec![is("metadata.name", "")]),
            (r"a=x\,y\=z\\,b=c", vec![is("a", r"x,y=z\"), is("b", "c")]),
            ("a = b", vec![is("a ", " b")]),
            ("a=!b", vec![is("a", "!b")]),
            ("f=spec.containers{ü}", vec![is("f", "spec.containers{ü}")]),
        ] {
            assert_eq!(Selector::parse_fields(text).unwrap().requirements, expected, "{text}");
        }
        for (text, why) in [
            ("metadata.name in (a)", "can't understand 'metadata.name in (a)'"),
            ("a=b,c", "can't understand 'c'"),
            ("!a", "can't understand '!a'"),
            ("a=b=c", "unescaped character"),
            (r"a=\b", r"invalid escape sequence: \b"),
            (r"a=b\", r"invalid escape sequence: \"),
        ] {
            let error = Selector::parse_fields(text).unwrap_err().to_string();
            assert!(error.contains(why), "{text}: {error}");
        }
    }

    #[test]
    fn object_form() {
        let parse = |v| {
            let selector: LabelSelector = serde_json::from_value(v).unwrap();
            Selector::try_from(&selector)
        };
        let both = parse(serde_json::json!({
            "matchLabels": {"app": "db"},
            "matchExpressions": [{"key": "tier", "operator": "In", "values": ["gold"]}],
        }));
        assert!(both.unwrap().matches_map(Some(&labels())));
        assert!(parse(serde_json::json!({"matchExpressions": [{"key": "a", "operator": "In"}]})).is_err());
        assert!(parse(serde_json::json!({"matchExpressions": [{"key": "a", "operator": "Near"}]})).is_err());
        let exists =
            parse(serde_json::json!({"matchExpressions": [{"key": "app", "operator": "DoesNotExist"}]}));
        assert!(!exists.unwrap().matches_map(Some(&labels())));
    }
}
