//! What the names may look like that one object has for others: classes, drivers,
//! volumes, keys of topology.
//!
//! Source: "Object Names and IDs" and "Labels and Selectors" of Kubernetes'
//! documentation; RFC 1123.

/// The rule for the names of a kind.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum NameRule {
    /// At most 63 characters, no dots.
    Label,
    /// At most 253 characters; labels joined by dots.
    Subdomain,
    /// A subdomain of at most 63 characters: names of CSI drivers.
    Driver,
}

impl NameRule {
    /// What is wrong with a name, or nothing.
    pub(crate) fn problem(self, name: &str) -> Option<String> {
        let limit = if self == Self::Subdomain { 253 } else { 63 };
        if name.len() > limit {
            return Some(format!("must be no more than {limit} characters"));
        }
        match self {
            Self::Label if !is_label(name) => Some(
                "a lowercase RFC 1123 label has only lower case letters, digits and '-', and starts and ends \
                 with a letter or digit (for example 'my-name')"
                    .to_owned(),
            ),
            Self::Subdomain | Self::Driver if !name.split('.').all(is_label) => Some(
                "a lowercase RFC 1123 subdomain has only lower case letters, digits, '-' and '.', and starts \
                 and ends with a letter or digit (for example 'example.com')"
                    .to_owned(),
            ),
            _ => None,
        }
    }
}

fn is_label(text: &str) -> bool {
    let ok = |b: u8| b.is_ascii_lowercase() || b.is_ascii_digit();
    let bytes = text.as_bytes();
    bytes.first().is_some_and(|&b| ok(b))
        && bytes.last().is_some_and(|&b| ok(b))
        && bytes.iter().all(|&b| ok(b) || b == b'-')
}

/// `[prefix/]name`: what keys of labels and annotations, topology keys and
/// finalizers look like. Says what is wrong, or nothing.
pub(crate) fn qualified_problem(key: &str) -> Option<String> {
    let (prefix, name) = match key.split_once('/') {
        Some((prefix, name)) => (Some(prefix), name),
        None => (None, key),
    };
    if let Some(prefix) = prefix
        && let Some(problem) = NameRule::Subdomain.problem(prefix)
    {
        return Some(format!("prefix part {problem}"));
    }
    if name.is_empty() {
        return Some("name part must be non-empty".to_owned());
    }
    if name.len() > 63 {
        return Some("name part must be no more than 63 characters".to_owned());
    }
    (!is_word(name)).then(|| {
        "name part has only letters, digits, '-', '_' and '.', and starts and ends with a letter or digit \
         (for example 'my.name' or 'example.com/MyName')"
            .to_owned()
    })
}

fn is_word(text: &str) -> bool {
    let bytes = text.as_bytes();
    bytes.first().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.last().is_some_and(u8::is_ascii_alphanumeric)
        && bytes.iter().all(|b| b.is_ascii_alphanumeric() || b"-_.".contains(b))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names() {
        let long = "a".repeat(64);
        for (rule, name, ok) in [
            (NameRule::Label, "dev", true),
            (NameRule::Label, "0-9", true),
            (NameRule::Label, "a.b", false),
            (NameRule::Label, "Dev", false),
            (NameRule::Label, "-a", false),
            (NameRule::Label, "", false),
            (NameRule::Label, long.as_str(), false),
            (NameRule::Subdomain, long.as_str(), true),
            (NameRule::Subdomain, "a.b-c.9", true),
            (NameRule::Subdomain, "a..b", false),
            (NameRule::Subdomain, "a_b", false),
            (NameRule::Subdomain, "é", false),
            (NameRule::Driver, "csi.holdfast.dev", true),
            (NameRule::Driver, long.as_str(), false),
        ] {
            assert_eq!(rule.problem(name).is_none(), ok, "{rule:?} {name:?}");
        }
    }

    #[test]
    fn qualified() {
        for (key, ok) in [
            ("app", true),
            ("example.com/My_Name.1", true),
            ("a/b/c", false),
            ("/a", false),
            ("a/", false),
            ("UPPER.com/a", false),
            ("-a", false),
            ("", false),
        ] {
            assert_eq!(qualified_problem(key).is_none(), ok, "{key:?}");
        }
    }
}
