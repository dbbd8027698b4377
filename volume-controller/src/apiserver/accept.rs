//! Content negotiation: in which shape and syntax a client wants its answer
//! (the `as`, `g` and `v` parameters of Kubernetes' media types).

use http::{HeaderMap, header};

use super::kinds::Kind;
use super::protobuf;
use super::status::ApiError;

/// The shape of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Shape {
    /// The object itself.
    Object,
    /// A `Table` of this version of `meta.k8s.io`.
    Table(&'static str),
    /// `PartialObjectMetadata` of this version of `meta.k8s.io`.
    Metadata(&'static str),
}

/// The syntax of an answer.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
pub(crate) enum Syntax {
    /// `application/json`
    Json,
    /// `application/yaml`
    Yaml,
    /// `application/vnd.kubernetes.protobuf`
    Protobuf,
}

/// What the client wants.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Hash)]
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

/// Kubernetes' protobuf encoding.
pub(crate) const PROTOBUF: &str = "application/vnd.kubernetes.protobuf";

/// Chooses the first clause in which objects of this kind can be served.
pub(crate) fn negotiate(headers: &HeaderMap, kind: &Kind) -> Result<Accepted, ApiError> {
    let clauses = clauses(headers);
    if clauses.is_empty() {
        return Ok(Accepted { shape: Shape::Object, syntax: Syntax::Json });
    }
    let served = "application/json, application/yaml, application/vnd.kubernetes.protobuf";
    clauses.iter().find_map(|clause| choose(clause, kind)).ok_or(ApiError::NotAcceptable(served))
}

/// In which syntax to answer with a `Status`; JSON for those who accept nothing that there is.
pub(crate) fn for_errors(headers: &HeaderMap) -> Syntax {
    clauses(headers).iter().find_map(|clause| syntax(clause.media)).unwrap_or(Syntax::Json)
}

fn syntax(media: &str) -> Option<Syntax> {
    match media {
        "application/json" | "application/*" | "*/*" => Some(Syntax::Json),
        "application/yaml" => Some(Syntax::Yaml),
        PROTOBUF => Some(Syntax::Protobuf),
        _ => None,
    }
}

fn choose(clause: &Clause<'_>, kind: &Kind) -> Option<Accepted> {
    let syntax = syntax(clause.media)?;
    if clause.get("as").is_empty() {
        let is_served = syntax != Syntax::Protobuf || protobuf::knows(kind);
        return is_served.then_some(Accepted { shape: Shape::Object, syntax });
    }
    let version = match (clause.get("g"), clause.get("v")) {
        ("meta.k8s.io", "v1") => "meta.k8s.io/v1",
        ("meta.k8s.io", "v1beta1") => "meta.k8s.io/v1beta1",
        _ => return None,
    };
    let shape = match clause.get("as") {
        // Cells may be anything, which only JSON can say.
        "Table" if syntax != Syntax::Protobuf => Shape::Table(version),
        "PartialObjectMetadata" | "PartialObjectMetadataList" => Shape::Metadata(version),
        _ => return None,
    };
    Some(Accepted { shape, syntax })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::apiserver::kinds::config_map;

    #[test]
    fn table() {
        let json = |shape| Some(Accepted { shape, syntax: Syntax::Json });
        let protobuf = |shape| Some(Accepted { shape, syntax: Syntax::Protobuf });
        for (accept, expected) in [
            ("", json(Shape::Object)),
            ("*/*", json(Shape::Object)),
            ("application/vnd.kubernetes.protobuf,application/json", protobuf(Shape::Object)),
            ("application/vnd.kubernetes.protobuf;stream=watch", protobuf(Shape::Object)),
            ("application/json,application/vnd.kubernetes.protobuf", json(Shape::Object)),
            ("application/json;q=0.5,application/vnd.kubernetes.protobuf;q=0.9", protobuf(Shape::Object)),
            ("application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io", None),
            (
                "application/vnd.kubernetes.protobuf;as=Table;v=v1;g=meta.k8s.io,application/json;as=Table;v=v1;g=meta.k8s.io",
                json(Shape::Table("meta.k8s.io/v1")),
            ),
            (
                "application/vnd.kubernetes.protobuf;as=PartialObjectMetadata;g=meta.k8s.io;v=v1,application/json",
                protobuf(Shape::Metadata("meta.k8s.io/v1")),
            ),
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
            assert_eq!(negotiate(&headers, &config_map::KIND).ok(), expected, "{accept}");
        }
    }
}
