//! One step of a path to a field, in the form in which `managedFields` write it:
//! `f:name` (a field), `k:{…}` (the element of a list with these keys), `v:…` (the
//! element of a set with this value), `i:0` (an index).
//!
//! Source: KEP-555 "Apply", `FieldsV1`.

use std::fmt;

use serde_json::{Map, Value};

/// A step. Two that mean the same are equal: what comes from outside is parsed and
/// written again, so the order of keys and white space do not matter.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
pub(crate) struct Element(Box<str>);

impl Element {
    pub(crate) fn field(name: &str) -> Self {
        Self(format!("f:{name}").into())
    }

    /// The element of a set.
    pub(super) fn value(value: &Value) -> Self {
        Self(format!("v:{value}").into())
    }

    /// The element of a list that these fields tell apart.
    pub(super) fn keys(keys: Map<String, Value>) -> Self {
        // Sorted: the form in which two spellings of the same key are one.
        let sorted: std::collections::BTreeMap<String, Value> = keys.into_iter().collect();
        let text = serde_json::to_string(&sorted).unwrap_or_default();
        Self(format!("k:{text}").into())
    }

    /// Reads a step; `None` for a sort of step that is not known, which upstream skips.
    ///
    /// # Errors
    /// What is wrong with it.
    pub(super) fn parse(text: &str) -> Result<Option<Self>, String> {
        let wrong = |why: &str| format!("{text:?} is no path element: {why}");
        let json = |rest: &str| serde_json::from_str::<Value>(rest).map_err(|e| wrong(&e.to_string()));
        let Some((sort, rest)) = text.split_once(':').filter(|(sort, _)| sort.len() == 1) else {
            return Err(wrong("it does not begin with a letter and a colon"));
        };
        Ok(match sort {
            "f" => Some(Self::field(rest)),
            "v" => Some(Self::value(&json(rest)?)),
            "k" => match json(rest)? {
                Value::Object(keys) => Some(Self::keys(keys)),
                _ => return Err(wrong("keys are an object")),
            },
            "i" => {
                let index: u64 = rest.parse().map_err(|_| wrong("an index is a number"))?;
                Some(Self(format!("i:{index}").into()))
            }
            _ => None,
        })
    }

    /// As `managedFields` write it.
    pub(super) fn as_str(&self) -> &str {
        &self.0
    }

    /// The name, if it is a field.
    pub(super) fn name(&self) -> Option<&str> {
        self.0.strip_prefix("f:")
    }
}

/// As conflicts name it: `.name`, `[name="a"]`, `[="a"]`, `[0]`.
impl fmt::Display for Element {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let (sort, rest) = self.0.split_once(':').unwrap_or_default();
        match sort {
            "f" => write!(f, ".{rest}"),
            "v" => write!(f, "[={rest}]"),
            "k" => {
                let keys: Map<String, Value> = serde_json::from_str(rest).unwrap_or_default();
                let keys: Vec<String> = keys.iter().map(|(name, value)| format!("{name}={value}")).collect();
                write!(f, "[{}]", keys.join(","))
            }
            _ => write!(f, "[{rest}]"),
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn steps() {
        for (text, canonical, shown) in [
            ("f:spec", "f:spec", ".spec"),
            ("f:a.b/c:d", "f:a.b/c:d", ".a.b/c:d"),
            ("f:", "f:", "."),
            (r#"v:"x:y""#, r#"v:"x:y""#, r#"[="x:y"]"#),
            ("v:1", "v:1", "[=1]"),
            (
                r#"k:{"protocol":"TCP", "containerPort":80}"#,
                r#"k:{"containerPort":80,"protocol":"TCP"}"#,
                r#"[containerPort=80,protocol="TCP"]"#,
            ),
            ("i:3", "i:3", "[3]"),
        ] {
            let element = Element::parse(text).unwrap().unwrap();
            assert_eq!(element.as_str(), canonical);
            assert_eq!(element.to_string(), shown);
        }
        assert_eq!(Element::parse("z:new"), Ok(None));
        for wrong in ["", "f", "name", "k:[]", "k:{", "v:", "i:x", "i:-1"] {
            assert!(Element::parse(wrong).is_err(), "{wrong}");
        }
    }
}
