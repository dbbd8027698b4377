//! The schemas of every type served, in the form of OpenAPI v2: what both
//! documents, strategic merge patches and applies are made from. Built once, on first use.

use std::collections::BTreeMap;
use std::sync::LazyLock;

use k8s_openapi::apimachinery::pkg::apis::meta::v1 as meta;
use schemars::{SchemaGenerator, generate::SchemaSettings};
use serde_json::{Map, Value, json};

use super::super::kinds::{self, Kind};
use super::super::reviews::{self, Review};
use super::merge_keys;

/// Where references point to in a v2 document.
pub(crate) const DEFINITIONS: &str = "#/definitions/";

/// All types.
pub(crate) struct Schemas {
    /// By full name, `io.k8s.api.core.v1.Pod`.
    pub(crate) definitions: BTreeMap<String, Value>,
    /// The full name of each kind's type, in the order of [`kinds::ALL`].
    names: Vec<String>,
    /// The same of questions, in the order of [`reviews::ALL`].
    reviews: Vec<String>,
}

/// The schemas.
pub(crate) fn all() -> &'static Schemas {
    static SCHEMAS: LazyLock<Schemas> = LazyLock::new(Schemas::build);
    &SCHEMAS
}

impl Schemas {
    /// The full name of a kind's type; empty for one that is not served.
    pub(crate) fn name_of(&self, kind: &Kind) -> &str {
        let found = kinds::ALL.iter().position(|other| std::ptr::eq(*other, kind));
        found.and_then(|at| self.names.get(at)).map_or("", String::as_str)
    }

    /// The full name of the type of a kind of questions.
    pub(crate) fn name_of_review(&self, review: &Review) -> &str {
        let found = reviews::ALL.iter().position(|other| std::ptr::eq(other, review));
        found.and_then(|at| self.reviews.get(at)).map_or("", String::as_str)
    }

    /// The schema at the end of a reference, or the schema itself.
    pub(crate) fn resolve<'a>(&'a self, schema: &'a Value) -> (&'a str, &'a Value) {
        let name = schema["$ref"].as_str().and_then(|path| path.strip_prefix(DEFINITIONS)).unwrap_or("");
        (name, self.definitions.get(name).unwrap_or(schema))
    }

    fn build() -> Self {
        let settings = SchemaSettings::draft07().with(|s| s.definitions_path = "/definitions".into());
        let mut generator = SchemaGenerator::new(settings);
        let names: Vec<String> = kinds::ALL
            .iter()
            .map(|kind| reference((kind.model.schema)(&mut generator).as_value()).to_owned())
            .collect();
        let reviews: Vec<String> = reviews::ALL
            .iter()
            .map(|review| reference((review.schema)(&mut generator).as_value()).to_owned())
            .collect();
        generator.subschema_for::<meta::Status>();
        generator.subschema_for::<meta::DeleteOptions>();
        generator.subschema_for::<meta::ListMeta>();
        generator.subschema_for::<meta::APIResourceList>();
        let mut definitions: BTreeMap<String, Value> =
            generator.take_definitions(false).into_iter().collect();
        for (name, schema) in &mut definitions {
            normalize(schema);
            merge_keys::note(name, schema);
        }
        definitions.insert(PATCH.to_owned(), json!({
            "description": "A patch, in the format that the request's content type names.", "type": "object",
        }));
        let kinds: Vec<(&Kind, String)> = kinds::ALL.iter().copied().zip(names.iter().cloned()).collect();
        for (kind, name) in &kinds {
            definitions.insert(format!("{name}List"), list_schema(kind, name));
            if let Some(schema) = definitions.get_mut(name) {
                schema[GVK] = json!([gvk(kind.group, kind.version, kind.kind)]);
            }
        }
        for (review, name) in reviews::ALL.iter().zip(&reviews) {
            mark(&mut definitions, name, vec![gvk(review.group, reviews::VERSION, review.kind)]);
        }
        let groups: Vec<Value> =
            kinds.iter().map(|(kind, _)| gvk(kind.group, kind.version, "DeleteOptions")).collect();
        mark(&mut definitions, DELETE_OPTIONS, unique(groups));
        mark(&mut definitions, STATUS, vec![json!({"group": "", "version": "v1", "kind": "Status"})]);
        Self { definitions, names, reviews }
    }
}

/// The extension that ties schemas and operations to kinds.
pub(crate) const GVK: &str = "x-kubernetes-group-version-kind";
/// The type of patches.
pub(crate) const PATCH: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Patch";
/// The type of a deletion's body.
pub(crate) const DELETE_OPTIONS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.DeleteOptions";
/// The type of errors and of a deletion's reply.
pub(crate) const STATUS: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.Status";
const LIST_META: &str = "io.k8s.apimachinery.pkg.apis.meta.v1.ListMeta";

/// Group, version and kind.
pub(crate) fn gvk(group: &str, version: &str, kind: &str) -> Value {
    json!({"group": group, "version": version, "kind": kind})
}

fn mark(definitions: &mut BTreeMap<String, Value>, name: &str, kinds: Vec<Value>) {
    if let Some(schema) = definitions.get_mut(name) {
        schema[GVK] = Value::Array(kinds);
    }
}

fn unique(values: Vec<Value>) -> Vec<Value> {
    values.into_iter().fold(Vec::new(), |mut seen, value| {
        if !seen.contains(&value) {
            seen.push(value);
        }
        seen
    })
}

fn reference(schema: &Value) -> &str {
    schema["$ref"].as_str().and_then(|path| path.strip_prefix(DEFINITIONS)).unwrap_or_default()
}

fn list_schema(kind: &Kind, name: &str) -> Value {
    json!({
        "description": format!("A list of objects of kind {}.", kind.kind),
        "type": "object",
        "required": ["items"],
        "properties": {
            "apiVersion": {"type": "string", "description": "The version of this representation."},
            "items": {
                "type": "array", "description": "The objects.",
                "items": {"$ref": format!("{DEFINITIONS}{name}")},
            },
            "kind": {"type": "string", "description": "The kind of the list."},
            "metadata": {"$ref": format!("{DEFINITIONS}{LIST_META}"), "description": "Where a watch or the next part of the list goes on."},
        },
        GVK: [gvk(kind.group, kind.version, &format!("{}List", kind.kind))],
    })
}

/// From what schemars makes to what OpenAPI v2 can say.
fn normalize(schema: &mut Value) {
    let Value::Object(fields) = schema else {
        // `true`: anything.
        if schema.is_boolean() {
            *schema = json!({});
        }
        return;
    };
    optional(fields);
    for meta in ["$schema", "title", "definitions", "default"] {
        fields.remove(meta);
    }
    if fields.remove("x-kubernetes-int-or-string").is_some() {
        fields.insert("type".to_owned(), "string".into());
        // Quantities are text of their own format; ports and the like may be numbers.
        if fields.get("description").and_then(Value::as_str).is_some_and(|d| d.starts_with("IntOrString")) {
            fields.insert("format".to_owned(), "int-or-string".into());
        }
    }
    // The server accepts objects without metadata where the model has a default.
    if let Some(Value::Array(required)) = fields.get_mut("required") {
        required.retain(|name| name != "metadata");
        if required.is_empty() {
            fields.remove("required");
        }
    }
    for (_, property) in fields.get_mut("properties").and_then(Value::as_object_mut).into_iter().flatten() {
        normalize(property);
    }
    for nested in ["items", "additionalProperties"] {
        if let Some(nested) = fields.get_mut(nested).filter(|n| n.is_object()) {
            normalize(nested);
        }
    }
}

/// What schemars says of a field that may be missing: its type, or null. Of the API's
/// fields every one may be null, and that is not said.
fn optional(fields: &mut Map<String, Value>) {
    let is_null = |kind: &Value| kind == "null";
    if let Some(Value::Array(types)) = fields.get_mut("type") {
        types.retain(|kind| !is_null(kind));
        if let [one] = types.as_mut_slice() {
            let one = one.take();
            fields.insert("type".to_owned(), one);
        }
    }
    if let Some(Value::Array(forms)) = fields.get_mut("anyOf") {
        forms.retain(|form| !is_null(&form["type"]));
        if let [Value::Object(one)] = forms.as_mut_slice() {
            let one = std::mem::take(one);
            fields.remove("anyOf");
            fields.extend(one);
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn formats() {
        let definitions = &all().definitions;
        let of = |name: &str| &definitions[name];
        let quantity = of("io.k8s.apimachinery.pkg.api.resource.Quantity");
        assert_eq!((&quantity["type"], &quantity["format"]), (&json!("string"), &Value::Null));
        let port = of("io.k8s.apimachinery.pkg.util.intstr.IntOrString");
        assert_eq!((&port["type"], &port["format"]), (&json!("string"), &json!("int-or-string")));
        for time in ["Time", "MicroTime"] {
            let time = of(&format!("io.k8s.apimachinery.pkg.apis.meta.v1.{time}"));
            assert_eq!((&time["type"], &time["format"]), (&json!("string"), &json!("date-time")));
        }
    }

    #[test]
    fn kinds_are_there() {
        for kind in kinds::ALL {
            let name = all().name_of(kind);
            assert_eq!(
                all().definitions[name][GVK],
                json!([gvk(kind.group, kind.version, kind.kind)]),
                "{}",
                kind.resource()
            );
            assert!(all().definitions.contains_key(&format!("{name}List")));
        }
    }
}
