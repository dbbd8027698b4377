//! Secrets that a class's parameters name by templates: the rules of Kubernetes' CSI
//! documentation ("Secrets & Credentials").
//!
//! Who may choose a token's value decides where it may stand: a namespace may depend only on
//! what a user cannot choose, or a user could point a driver at a secret of another namespace.

use std::collections::BTreeMap;

use k8s_openapi::api::core::v1::SecretReference;

/// Where a secret is; never its content.
#[derive(Debug, Clone, PartialEq, Eq)]
pub struct SecretKey {
    /// Its namespace.
    pub namespace: String,
    /// Its name.
    pub name: String,
}

impl From<&SecretReference> for SecretKey {
    fn from(reference: &SecretReference) -> Self {
        Self {
            namespace: reference.namespace.clone().unwrap_or_default(),
            name: reference.name.clone().unwrap_or_default(),
        }
    }
}

/// A template that cannot be used. `purpose` is what the secret is for.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum SecretError {
    /// One of the two is missing or empty.
    #[error("parameters for the {purpose} secret need both a name and a namespace, neither empty")]
    Half {
        /// Of the secret.
        purpose: &'static str,
    },
    /// A token that has no value here.
    #[error("{template:?} for the {purpose} secret has a token that is not known here: {token:?}")]
    Token {
        /// Of the secret.
        purpose: &'static str,
        /// As the class has it.
        template: String,
        /// The part of it.
        token: String,
    },
    /// What the template gives is no name.
    #[error("{template:?} for the {purpose} secret gives {value:?}, which is not a valid name")]
    BadName {
        /// Of the secret.
        purpose: &'static str,
        /// As the class has it.
        template: String,
        /// What it gives.
        value: String,
    },
}

/// What a token, such as `pvc.name`, stands for; `None` where it is not known.
pub type Token<'a> = &'a dyn Fn(&str) -> Option<String>;

/// The secret that the parameters `<stem>-secret-name` and `<stem>-secret-namespace` name; `None` where there is neither.
///
/// # Errors
/// See [`SecretError`].
pub fn of_class(
    purpose: &'static str,
    stem: &str,
    parameters: &BTreeMap<String, String>,
    name_token: Token<'_>,
    namespace_token: Token<'_>,
) -> Result<Option<SecretKey>, SecretError> {
    let name = parameters.get(&format!("{stem}-secret-name"));
    let namespace = parameters.get(&format!("{stem}-secret-namespace"));
    resolve(purpose, name, namespace, name_token, namespace_token)
}

/// The secret that a template of a name and one of a namespace give; `None` where there is neither.
///
/// # Errors
/// See [`SecretError`].
pub fn resolve(
    purpose: &'static str,
    name: Option<&String>,
    namespace: Option<&String>,
    name_token: Token<'_>,
    namespace_token: Token<'_>,
) -> Result<Option<SecretKey>, SecretError> {
    let (name, namespace) = match (name, namespace) {
        (None, None) => return Ok(None),
        (Some(name), Some(namespace)) if !name.is_empty() && !namespace.is_empty() => (name, namespace),
        _ => return Err(SecretError::Half { purpose }),
    };
    let bad = |template: &String, value| SecretError::BadName { purpose, template: template.clone(), value };
    let namespace_value = expand(purpose, namespace, namespace_token)?;
    if !is_label(&namespace_value) {
        return Err(bad(namespace, namespace_value));
    }
    let name_value = expand(purpose, name, name_token)?;
    if !crate::names::is_subdomain(&name_value) {
        return Err(bad(name, name_value));
    }
    Ok(Some(SecretKey { namespace: namespace_value, name: name_value }))
}

/// Puts values in the place of `${token}`s.
fn expand(purpose: &'static str, template: &str, value: Token<'_>) -> Result<String, SecretError> {
    let wrong =
        |token: &str| SecretError::Token { purpose, template: template.to_owned(), token: token.to_owned() };
    let mut done = String::new();
    let mut rest = template;
    while let Some(at) = rest.find('$') {
        done.push_str(&rest[..at]);
        let inner = rest[at + 1..].strip_prefix('{').ok_or_else(|| wrong(&rest[at..]))?;
        let end = inner.find('}').ok_or_else(|| wrong(inner))?;
        done.push_str(&value(&inner[..end]).ok_or_else(|| wrong(&inner[..end]))?);
        rest = &inner[end + 1..];
    }
    done.push_str(rest);
    Ok(done)
}

/// A DNS label (RFC 1123), which a namespace's name must be.
fn is_label(text: &str) -> bool {
    text.len() <= 63 && !text.contains('.') && crate::names::is_subdomain(text)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn templates() {
        let token = |token: &str| (token == "a").then(|| "value".to_owned());
        let none = |_: &str| None;
        for (number, name, namespace, expected) in [
            (1, "plain", "sys", Some(("sys", "plain"))),
            (2, "x-${a}", "sys", Some(("sys", "x-value"))),
            (3, "x", "${a}", None),
            (4, "${b}", "sys", None),
            (5, "", "sys", None),
            (6, "x", "", None),
            (7, "${a", "sys", None),
            (8, "$a", "sys", None),
            (9, "UPPER", "sys", None),
            (10, "x", "a.b", None),
        ] {
            let parameters = [
                ("p/s-secret-name".to_owned(), name.to_owned()),
                ("p/s-secret-namespace".to_owned(), namespace.to_owned()),
            ];
            let found = of_class("s", "p/s", &parameters.into(), &token, &none);
            let expected = expected.map(|(namespace, name)| SecretKey {
                namespace: namespace.to_owned(),
                name: name.to_owned(),
            });
            assert_eq!(found.ok().flatten(), expected, "row {number}");
        }
        assert_eq!(of_class("s", "p/s", &BTreeMap::new(), &token, &none), Ok(None));
        let half = [("p/s-secret-name".to_owned(), "x".to_owned())];
        let half = of_class("s", "p/s", &half.into(), &token, &none);
        assert_eq!(half, Err(SecretError::Half { purpose: "s" }));
    }
}
