//! The v2 document as protobuf, made of the one in JSON.

mod messages;

use serde_json::Value;

pub(super) use messages::Document;
use messages::{
    AdditionalProperties, Any, BodyParameter, Definitions, Info, ItemsItem, NamedAny, NamedPathItem,
    NamedResponseValue, NamedSchema, NonBodyKind, NonBodyParameter, Operation, Parameter, ParameterKind,
    ParametersItem, PathItem, PathParameter, Paths, QueryParameter, Response, ResponseValue, Responses,
    Schema, SchemaItem, TypeItem,
};

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
