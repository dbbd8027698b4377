//! Content negotiation: in which shape and syntax a client wants its answer
//! (the `as`, `g` and `v` parameters of Kubernetes' media types).

use http::{HeaderMap, header};

use super::status::ApiError;

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// A `Table` of this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata` of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// The syntax of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Syntax {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
}

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct Accepted {
    pub(crate) shape: Shape,
    pub(crate) syntax: Syntax,
}

/// One clause of an Accept header.
pub(crate) struct Clause<'a> {
    /// `application/json`
    pub(crate) media: &'a str,
    parameters: Vec<(&'a str, &'a str)>,
    quality: f32,
}

impl Clause<'_> {
    /// The value of a parameter; empty when it is missing.
    pub(crate) fn get(&self, name: &str) -> &str {
        self.parameters.iter().find(|(key, _)| *key == name).map_or("", |(_, value)| value)
    }
}

/// The clauses of the Accept header, the most wanted first (RFC 9110, section 12.5.1).
pub(crate) fn clauses(headers: &HeaderMap) -> Vec<Clause<'_>> {
    let mut clauses: Vec<Clause<'_>> = headers
        .get_all(header::ACCEPT)
        .iter()
        .filter_map(|value| value.to_str().ok())
        .flat_map(|value| value.split(','))
        .map(|clause| {
            let mut parts = clause.split(';').map(str::trim);
            let media = parts.next().unwrap_or_default();
            let parameters: Vec<(&str, &str)> = parts.filter_map(|part| part.split_once('=')).collect();
            let quality = parameters.iter().find(|(k, _)| *k == "q").and_then(|(_, v)| v.parse().ok());
            Clause { media, parameters, quality: quality.unwrap_or(1.0) }
        })
        .filter(|clause| !clause.media.is_empty() && clause.quality > 0.0)
        .collect();
    clauses.sort_by(|a, b| b.quality.total_cmp(&a.quality));
    clauses
}

/// Chooses the first clause that this server can serve.
pub(crate) fn negotiate(headers: &HeaderMap) -> Result<Accepted, ApiError> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accepted { shape: Shape::Object, syntax: Syntax::Json });
    }
    clauses.iter().find_map(choose).ok_or(ApiError::NotAcceptable("application/json, application/yaml"))
}

fn choose(clause: &Clause<'_>) -> Option<Accepted> {
    let syntax = match clause.media {
        "application/json" | "application/*" | "*/*" => Syntax::Json,
        "application/yaml" => Syntax::Yaml,
        _ => return None,
    };
    if clause.get("as").is_empty() {
        return Some(Accepted { shape: Shape::Object, syntax });
    }
    let version = match (clause.get("g"), clause.get("v")) {
        ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
        ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    let shape = match clause.get("as") {
        "Table" => Shape::Table(version),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata(version),
        _ => return None,
    };
    Some(Accepted { shape, syntax })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn table() {
        let json = |shape| Some(Accepted { shape, syntax: Syntax::Json });
        for (accept, expected) in [
            ("", json(Shape::Object)),
            ("*/*", json(Shape::Object)),
            ("application/vnd.kubernetes.protobuf,application/json", json(Shape::Object)),
            (
                "application/json;as=Table;v=v1;g=meta.k8s.io,application/json",
                json(Shape::Table("meta.k8s.io/v1")),
            ),
            ("application/json;as=Table;v=v9;g=meta.k8s.io, application/json", json(Shape::Object)),
            (
                "application/json;as=PartialObjectMetadataList;g=meta.k8s.io;v=v1",
                json(Shape::Metadata("meta.k8s.io/v1")),
            ),
            (
                "application/json;q=0.1,application/yaml",
                Some(Accepted { shape: Shape::Object, syntax: Syntax::Yaml }),
            ),
            ("text/html", None),
        ] {
            let mut headers = HeaderMap::new();
            headers.insert(header::ACCEPT, accept.parse().unwrap());
            assert_eq!(negotiate(&headers).ok(), expected, "{accept}");
        }
    }
}
