//! From a URL's path to what it names.

use serde_json::Value;

use super::kinds::{self, Kind, Scope};
use super::status::ApiError;
use crate::store::Key;

/// The part of an object that a request reads or writes.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Part {
    /// All but `status`, for kinds that have the subresource.
    Main,
    /// `/status`
    Status,
    /// `pods/binding`
    Binding,
    /// `namespaces/finalize`
    Finalize,
    /// `serviceaccounts/token`
    Token,
}

impl Part {
    /// The subresource's name in URLs and metrics.
    pub(crate) fn name(self) -> &'static str {
        match self {
            Self::Main => "",
            Self::Status => "status",
            Self::Binding => "binding",
            Self::Finalize => "finalize",
            Self::Token => "token",
        }
    }
}

/// What a request is about.
pub(crate) struct Target {
    /// The kind that was asked for.
    pub(crate) kind: &'static Kind,
    /// The kind in whose form it is stored; see [`kinds::stored`].
    pub(crate) stored: &'static Kind,
    /// Empty for kinds without namespaces and for a list over all of them.
    pub(crate) namespace: String,
    /// Empty for a collection.
    pub(crate) name: String,
    /// The subresource.
    pub(crate) part: Part,
}

impl Target {
    /// The place of the named object in the store.
    pub(crate) fn key(&self) -> Key {
        self.key_of(&self.name)
    }

    /// The place of an object of this kind and namespace in the store.
    pub(crate) fn key_of(&self, name: &str) -> Key {
        Key::new(&self.stored.resource(), &self.namespace, name)
    }

    /// Whether stored bytes must be converted before they are served.
    pub(crate) fn is_converted(&self) -> bool {
        !std::ptr::eq(self.kind, self.stored)
    }

    /// From the form that the client speaks to the stored one.
    pub(crate) fn to_stored(&self, value: Value) -> Value {
        self.converted(value, self.stored, kinds::events::to_core)
    }

    /// From the stored form to the one that the client speaks.
    pub(crate) fn to_served(&self, value: Value) -> Value {
        self.converted(value, self.kind, kinds::events::to_events_v1)
    }

    /// Versions of one resource have the same form; Events of the two groups have not.
    fn converted(&self, mut value: Value, to: &Kind, events: fn(Value) -> Value) -> Value {
        if !self.is_converted() {
            return value;
        }
        if self.kind.group != self.stored.group {
            return events(value);
        }
        value["apiVersion"] = to.api_version().into();
        value
    }
}

/// The kind of a resource, by the parts of its URL.
pub(crate) fn find(group: &str, version: &str, plural: &str) -> Option<&'static Kind> {
    kinds::ALL.iter().copied().find(|k| k.plural == plural && k.group == group && k.version == version)
}

/// The segments of a path, decoded; `None` where that cannot be done.
pub(crate) fn segments(path: &str) -> Option<Vec<String>> {
    path.split('/').filter(|segment| !segment.is_empty()).map(decode).collect()
}

/// Reads `/api/v1/…` and `/apis/<group>/<version>/…`.
pub(crate) fn parse(path: &str) -> Result<Target, ApiError> {
    let segments = segments(path).ok_or_else(|| {
        ApiError::BadRequest(format!("the path {path:?} is not properly percent-encoded UTF-8"))
    })?;
    let segments: Vec<&str> = segments.iter().map(String::as_str).collect();
    let (group, version, rest) = match segments.as_slice() {
        ["api", version, rest @ ..] => ("", *version, rest),
        ["apis", group, version, rest @ ..] if !group.is_empty() => (*group, *version, rest),
        _ => return Err(ApiError::NoSuchPath),
    };
    let (namespace, rest) = match rest {
        ["namespaces", _] | ["namespaces", _, "status" | "finalize"] if group.is_empty() => ("", rest),
        ["namespaces", namespace, rest @ ..] if !rest.is_empty() => (*namespace, rest),
        rest => ("", rest),
    };
    let (plural, name, part) = match rest {
        [plural] => (*plural, "", ""),
        [plural, name] => (*plural, *name, ""),
        [plural, name, part] => (*plural, *name, *part),
        _ => return Err(ApiError::NoSuchPath),
    };
    let kind = find(group, version, plural).ok_or(ApiError::NoSuchPath)?;
    match kind.scope {
        Scope::Cluster if !namespace.is_empty() => return Err(ApiError::NoSuchPath),
        Scope::Namespaced if namespace.is_empty() && !name.is_empty() => return Err(ApiError::NoSuchPath),
        _ => {}
    }
    let part = match (part, kind.kind) {
        ("", _) => Part::Main,
        ("status", _) if kind.has_status => Part::Status,
        ("binding", "Pod") => Part::Binding,
        ("finalize", "Namespace") => Part::Finalize,
        ("token", "ServiceAccount") => Part::Token,
        _ => return Err(ApiError::NoSuchPath),
    };
    Ok(Target {
        kind,
        stored: kinds::stored(kind),
        namespace: namespace.to_owned(),
        name: name.to_owned(),
        part,
    })
}

/// Percent-decoding of one path segment (RFC 3986, section 2.1).
pub(crate) fn decode(segment: &str) -> Option<String> {
    if !segment.contains('%') {
        return Some(segment.to_owned());
    }
    let mut bytes = Vec::with_capacity(segment.len());
    let mut rest = segment.as_bytes();
    while let Some((&first, tail)) = rest.split_first() {
        if first != b'%' {
            bytes.push(first);
            rest = tail;
            continue;
        }
        let digits = std::str::from_utf8(tail.get(..2)?).ok()?;
        bytes.push(u8::from_str_radix(digits, 16).ok()?);
        rest = tail.get(2..)?;
    }
    String::from_utf8(bytes).ok()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths() {
        for (path, expected) in [
            ("/api/v1/namespaces", Some(("Namespace", "", "", Part::Main))),
            ("/api/v1/namespaces/dev", Some(("Namespace", "", "dev", Part::Main))),
            ("/api/v1/namespaces/dev/status", Some(("Namespace", "", "dev", Part::Status))),
            ("/api/v1/namespaces/dev/finalize", Some(("Namespace", "", "dev", Part::Finalize))),
            ("/api/v1/namespaces/dev/pods", Some(("Pod", "dev", "", Part::Main))),
            ("/api/v1/namespaces/dev/pods/a/binding", Some(("Pod", "dev", "a", Part::Binding))),
            (
                "/api/v1/namespaces/dev/serviceaccounts/a/token",
                Some(("ServiceAccount", "dev", "a", Part::Token)),
            ),
            ("/api/v1/namespaces/dev/pods/a/token", None),
            ("/api/v1/pods", Some(("Pod", "", "", Part::Main))),
            ("/api/v1/pods/a", None),
            ("/api/v1/persistentvolumes/a%2Eb", Some(("PersistentVolume", "", "a.b", Part::Main))),
            ("/api/v1/namespaces/dev/persistentvolumes", None),
            ("/apis/storage.k8s.io/v1/storageclasses/a", Some(("StorageClass", "", "a", Part::Main))),
            ("/apis/storage.k8s.io/v1/storageclasses/a/status", None),
            ("/apis/storage.k8s.io/v9/storageclasses", None),
            ("/api/v1/widgets", None),
            ("/nothing", None),
        ] {
            let target = parse(path).ok();
            let found = target.as_ref().map(|t| (t.kind.kind, t.namespace.as_str(), t.name.as_str(), t.part));
            assert_eq!(found, expected, "{path}");
        }
    }

    #[test]
    fn percent() {
        assert_eq!(decode("a%3Ab").as_deref(), Some("a:b"));
        assert_eq!(decode("a%3"), None);
        assert_eq!(decode("%ff"), None);
    }
}
