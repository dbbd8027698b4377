//! The v2 document as protobuf, which kubectl before 1.27 asks for: the messages
//! of gnostic's `openapi.v2` package, as far as the document uses them. Numbers
//! are those of `openapiv2/OpenAPIv2.proto` in github.com/google/gnostic.

use prost::{Message, Oneof};
use serde_json::Value;

/// Declares a message whose parts are a name and a value: how maps are encoded.
macro_rules! named {
    ($name:ident, $value:ty) => {
        #[derive(Clone, PartialEq, Message)]
        pub(super) struct $name {
            #[prost(string, tag = "1")]
            pub(super) name: String,
            #[prost(message, optional, tag = "2")]
            pub(super) value: Option<$value>,
        }
    };
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Document {
    #[prost(string, tag = "1")]
    pub(super) swagger: String,
    #[prost(message, optional, tag = "2")]
    pub(super) info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    pub(super) paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    pub(super) definitions: Option<Definitions>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Info {
    #[prost(string, tag = "1")]
    pub(super) title: String,
    #[prost(string, tag = "2")]
    pub(super) version: String,
}

/// A value of an extension, as YAML; JSON is YAML.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Any {
    #[prost(string, tag = "2")]
    pub(super) yaml: String,
}

named!(NamedAny, Any);
named!(NamedSchema, Schema);
named!(NamedPathItem, PathItem);
named!(NamedResponseValue, ResponseValue);

#[derive(Clone, PartialEq, Message)]
pub(super) struct Paths {
    #[prost(message, repeated, tag = "2")]
    pub(super) path: Vec<NamedPathItem>,
}

/// Definitions and properties have the same form.
#[derive(Clone, PartialEq, Message)]
pub(super) struct Definitions {
    #[prost(message, repeated, tag = "1")]
    pub(super) additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathItem {
    #[prost(message, optional, tag = "2")]
    pub(super) get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    pub(super) put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    pub(super) post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    pub(super) delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    pub(super) patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    pub(super) parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Operation {
    #[prost(string, repeated, tag = "1")]
    pub(super) tags: Vec<String>,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    #[prost(string, tag = "5")]
    pub(super) operation_id: String,
    #[prost(string, repeated, tag = "6")]
    pub(super) produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub(super) consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub(super) parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    pub(super) responses: Option<Responses>,
    #[prost(string, repeated, tag = "10")]
    pub(super) schemes: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    pub(super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Responses {
    #[prost(message, repeated, tag = "1")]
    pub(super) response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    pub(super) response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Response {
    #[prost(string, tag = "1")]
    pub(super) description: String,
    #[prost(message, optional, tag = "2")]
    pub(super) schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    pub(super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    pub(super) parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Parameter {
    #[prost(oneof = "ParameterKind", tags = "1, 2")]
    pub(super) kind: Option<ParameterKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum ParameterKind {
    #[prost(message, tag = "1")]
    Body(BodyParameter),
    #[prost(message, tag = "2")]
    NonBody(NonBodyParameter),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct BodyParameter {
    #[prost(string, tag = "2")]
    pub(super) name: String,
    #[prost(string, tag = "3")]
    pub(super) r#in: String,
    #[prost(bool, tag = "4")]
    pub(super) required: bool,
    #[prost(message, optional, tag = "5")]
    pub(super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct NonBodyParameter {
    #[prost(oneof = "NonBodyKind", tags = "3, 4")]
    pub(super) kind: Option<NonBodyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(super) enum NonBodyKind {
    #[prost(message, tag = "3")]
    Query(QueryParameter),
    #[prost(message, tag = "4")]
    Path(PathParameter),
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct QueryParameter {
    #[prost(string, tag = "2")]
    pub(super) r#in: String,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    #[prost(string, tag = "4")]
    pub(super) name: String,
    #[prost(string, tag = "6")]
    pub(super) r#type: String,
    #[prost(bool, tag = "20")]
    pub(super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct PathParameter {
    #[prost(bool, tag = "1")]
    pub(super) required: bool,
    #[prost(string, tag = "2")]
    pub(super) r#in: String,
    #[prost(string, tag = "3")]
    pub(super) description: String,
    #[prost(string, tag = "4")]
    pub(super) name: String,
    #[prost(string, tag = "5")]
    pub(super) r#type: String,
    #[prost(bool, tag = "19")]
    pub(super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct Schema {
    #[prost(string, tag = "1")]
    pub(super) reference: String,
    #[prost(string, tag = "2")]
    pub(super) format: String,
    #[prost(string, tag = "4")]
    pub(super) description: String,
    #[prost(string, repeated, tag = "19")]
    pub(super) required: Vec<String>,
    #[prost(message, optional, boxed, tag = "21")]
    pub(super) additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    pub(super) r#type: Option<TypeItem>,
    #[prost(message, optional, boxed, tag = "23")]
    pub(super) items: Option<Box<ItemsItem>>,
    #[prost(message, optional, tag = "25")]
    pub(super) properties: Option<Definitions>,
    #[prost(message, repeated, tag = "31")]
    pub(super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct AdditionalProperties {
    #[prost(message, optional, tag = "1")]
    pub(super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    pub(super) value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(super) struct ItemsItem {
    #[prost(message, repeated, tag = "1")]
    pub(super) schema: Vec<Schema>,
}

fn text(value: &Value) -> String {
    value.as_str().unwrap_or_default().to_owned()
}

fn texts(value: &Value) -> Vec<String> {
    value.as_array().into_iter().flatten().map(text).collect()
}

/// A map as a list of named values.
fn named<T>(map: &Value, make: impl Fn(String, &Value) -> T) -> Vec<T> {
    map.as_object().into_iter().flatten().map(|(name, value)| make(name.clone(), value)).collect()
}

fn present<T>(value: &Value, make: impl Fn(&Value) -> T) -> Option<T> {
    (!value.is_null()).then(|| make(value))
}

/// The fields that begin with `x-`.
fn extensions(value: &Value) -> Vec<NamedAny> {
    let fields = value.as_object().into_iter().flatten().filter(|(name, _)| name.starts_with("x-"));
    fields
        .map(|(name, value)| NamedAny { name: name.clone(), value: Some(Any { yaml: value.to_string() }) })
        .collect()
}

impl Document {
    /// The message of a document that [`super::v2`] made.
    pub(super) fn from_json(document: &Value) -> Self {
        Self {
            swagger: text(&document["swagger"]),
            info: Some(Info {
                title: text(&document["info"]["title"]),
                version: text(&document["info"]["version"]),
            }),
            paths: Some(Paths {
                path: named(&document["paths"], |name, item| NamedPathItem {
                    name,
                    value: Some(PathItem::from_json(item)),
                }),
            }),
            definitions: Some(Definitions::from_json(&document["definitions"])),
        }
    }
}

impl Definitions {
    fn from_json(map: &Value) -> Self {
        let make = |name, schema: &Value| NamedSchema { name, value: Some(Schema::from_json(schema)) };
        Self { additional_properties: named(map, make) }
    }
}

impl PathItem {
    fn from_json(item: &Value) -> Self {
        let operation = |method: &str| present(&item[method], Operation::from_json);
        Self {
            get: operation("get"),
            put: operation("put"),
            post: operation("post"),
            delete: operation("delete"),
            patch: operation("patch"),
            parameters: parameters(&item["parameters"]),
        }
    }
}

impl Operation {
    fn from_json(operation: &Value) -> Self {
        let response = |code, response: &Value| NamedResponseValue {
            name: code,
            value: Some(ResponseValue {
                response: Some(Response {
                    description: text(&response["description"]),
                    schema: present(&response["schema"], |schema| SchemaItem {
                        schema: Some(Schema::from_json(schema)),
                    }),
                }),
            }),
        };
        Self {
            tags: texts(&operation["tags"]),
            description: text(&operation["description"]),
            operation_id: text(&operation["operationId"]),
            produces: texts(&operation["produces"]),
            consumes: texts(&operation["consumes"]),
            parameters: parameters(&operation["parameters"]),
            responses: Some(Responses { response_code: named(&operation["responses"], response) }),
            schemes: texts(&operation["schemes"]),
            vendor_extension: extensions(operation),
        }
    }
}

fn parameters(list: &Value) -> Vec<ParametersItem> {
    let make = |parameter: &Value| ParametersItem {
        parameter: Some(Parameter { kind: Some(parameter_kind(parameter)) }),
    };
    list.as_array().into_iter().flatten().map(make).collect()
}

fn parameter_kind(parameter: &Value) -> ParameterKind {
    let (name, place) = (text(&parameter["name"]), text(&parameter["in"]));
    let (description, kind) = (text(&parameter["description"]), text(&parameter["type"]));
    let required = parameter["required"] == true;
    match place.as_str() {
        "body" => ParameterKind::Body(BodyParameter {
            name,
            r#in: place,
            required,
            schema: present(&parameter["schema"], Schema::from_json),
        }),
        "path" => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Path(PathParameter {
                required,
                r#in: place,
                description,
                name,
                r#type: kind,
                unique_items: true,
            })),
        }),
        _ => ParameterKind::NonBody(NonBodyParameter {
            kind: Some(NonBodyKind::Query(QueryParameter {
                r#in: place,
                description,
                name,
                r#type: kind,
                unique_items: true,
            })),
        }),
    }
}

impl Schema {
    fn from_json(schema: &Value) -> Self {
        Self {
            reference: text(&schema["$ref"]),
            format: text(&schema["format"]),
            description: text(&schema["description"]),
            required: texts(&schema["required"]),
            additional_properties: present(&schema["additionalProperties"], |nested| {
                Box::new(AdditionalProperties { schema: Some(Self::from_json(nested)) })
            }),
            r#type: present(&schema["type"], |kind| TypeItem { value: vec![text(kind)] }),
            items: present(&schema["items"], |items| {
                Box::new(ItemsItem { schema: vec![Self::from_json(items)] })
            }),
            properties: present(&schema["properties"], Definitions::from_json),
            vendor_extension: extensions(schema),
        }
    }
}
