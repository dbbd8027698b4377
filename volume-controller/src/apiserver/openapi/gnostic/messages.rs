//! The v2 document as protobuf, which kubectl before 1.27 asks for: the messages
//! of gnostic's `openapi.v2` package, as far as the document uses them. Numbers
//! are those of `openapiv2/OpenAPIv2.proto` in github.com/google/gnostic.

use prost::{Message, Oneof};

/// Declares a message whose parts are a name and a value: how maps are encoded.
macro_rules! named {
    ($name:ident, $value:ty) => {
        #[derive(Clone, PartialEq, Message)]
        pub(in super::super) struct $name {
            #[prost(string, tag = "1")]
            pub(in super::super) name: String,
            #[prost(message, optional, tag = "2")]
            pub(in super::super) value: Option<$value>,
        }
    };
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Document {
    #[prost(string, tag = "1")]
    pub(in super::super) swagger: String,
    #[prost(message, optional, tag = "2")]
    pub(in super::super) info: Option<Info>,
    #[prost(message, optional, tag = "8")]
    pub(in super::super) paths: Option<Paths>,
    #[prost(message, optional, tag = "9")]
    pub(in super::super) definitions: Option<Definitions>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Info {
    #[prost(string, tag = "1")]
    pub(in super::super) title: String,
    #[prost(string, tag = "2")]
    pub(in super::super) version: String,
}

/// A value of an extension, as YAML; JSON is YAML.
#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Any {
    #[prost(string, tag = "2")]
    pub(in super::super) yaml: String,
}

named!(NamedAny, Any);
named!(NamedSchema, Schema);
named!(NamedPathItem, PathItem);
named!(NamedResponseValue, ResponseValue);

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Paths {
    #[prost(message, repeated, tag = "2")]
    pub(in super::super) path: Vec<NamedPathItem>,
}

/// Definitions and properties have the same form.
#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Definitions {
    #[prost(message, repeated, tag = "1")]
    pub(in super::super) additional_properties: Vec<NamedSchema>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct PathItem {
    #[prost(message, optional, tag = "2")]
    pub(in super::super) get: Option<Operation>,
    #[prost(message, optional, tag = "3")]
    pub(in super::super) put: Option<Operation>,
    #[prost(message, optional, tag = "4")]
    pub(in super::super) post: Option<Operation>,
    #[prost(message, optional, tag = "5")]
    pub(in super::super) delete: Option<Operation>,
    #[prost(message, optional, tag = "8")]
    pub(in super::super) patch: Option<Operation>,
    #[prost(message, repeated, tag = "9")]
    pub(in super::super) parameters: Vec<ParametersItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Operation {
    #[prost(string, repeated, tag = "1")]
    pub(in super::super) tags: Vec<String>,
    #[prost(string, tag = "3")]
    pub(in super::super) description: String,
    #[prost(string, tag = "5")]
    pub(in super::super) operation_id: String,
    #[prost(string, repeated, tag = "6")]
    pub(in super::super) produces: Vec<String>,
    #[prost(string, repeated, tag = "7")]
    pub(in super::super) consumes: Vec<String>,
    #[prost(message, repeated, tag = "8")]
    pub(in super::super) parameters: Vec<ParametersItem>,
    #[prost(message, optional, tag = "9")]
    pub(in super::super) responses: Option<Responses>,
    #[prost(string, repeated, tag = "10")]
    pub(in super::super) schemes: Vec<String>,
    #[prost(message, repeated, tag = "13")]
    pub(in super::super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Responses {
    #[prost(message, repeated, tag = "1")]
    pub(in super::super) response_code: Vec<NamedResponseValue>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ResponseValue {
    #[prost(message, optional, tag = "1")]
    pub(in super::super) response: Option<Response>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Response {
    #[prost(string, tag = "1")]
    pub(in super::super) description: String,
    #[prost(message, optional, tag = "2")]
    pub(in super::super) schema: Option<SchemaItem>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct SchemaItem {
    #[prost(message, optional, tag = "1")]
    pub(in super::super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ParametersItem {
    #[prost(message, optional, tag = "1")]
    pub(in super::super) parameter: Option<Parameter>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Parameter {
    #[prost(oneof = "ParameterKind", tags = "1, 2")]
    pub(in super::super) kind: Option<ParameterKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(in super::super) enum ParameterKind {
    #[prost(message, tag = "1")]
    Body(BodyParameter),
    #[prost(message, tag = "2")]
    NonBody(NonBodyParameter),
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct BodyParameter {
    #[prost(string, tag = "2")]
    pub(in super::super) name: String,
    #[prost(string, tag = "3")]
    pub(in super::super) r#in: String,
    #[prost(bool, tag = "4")]
    pub(in super::super) required: bool,
    #[prost(message, optional, tag = "5")]
    pub(in super::super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct NonBodyParameter {
    #[prost(oneof = "NonBodyKind", tags = "3, 4")]
    pub(in super::super) kind: Option<NonBodyKind>,
}

#[derive(Clone, PartialEq, Oneof)]
pub(in super::super) enum NonBodyKind {
    #[prost(message, tag = "3")]
    Query(QueryParameter),
    #[prost(message, tag = "4")]
    Path(PathParameter),
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct QueryParameter {
    #[prost(string, tag = "2")]
    pub(in super::super) r#in: String,
    #[prost(string, tag = "3")]
    pub(in super::super) description: String,
    #[prost(string, tag = "4")]
    pub(in super::super) name: String,
    #[prost(string, tag = "6")]
    pub(in super::super) r#type: String,
    #[prost(bool, tag = "20")]
    pub(in super::super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct PathParameter {
    #[prost(bool, tag = "1")]
    pub(in super::super) required: bool,
    #[prost(string, tag = "2")]
    pub(in super::super) r#in: String,
    #[prost(string, tag = "3")]
    pub(in super::super) description: String,
    #[prost(string, tag = "4")]
    pub(in super::super) name: String,
    #[prost(string, tag = "5")]
    pub(in super::super) r#type: String,
    #[prost(bool, tag = "19")]
    pub(in super::super) unique_items: bool,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct Schema {
    #[prost(string, tag = "1")]
    pub(in super::super) reference: String,
    #[prost(string, tag = "2")]
    pub(in super::super) format: String,
    #[prost(string, tag = "4")]
    pub(in super::super) description: String,
    #[prost(string, repeated, tag = "19")]
    pub(in super::super) required: Vec<String>,
    #[prost(message, optional, boxed, tag = "21")]
    pub(in super::super) additional_properties: Option<Box<AdditionalProperties>>,
    #[prost(message, optional, tag = "22")]
    pub(in super::super) r#type: Option<TypeItem>,
    #[prost(message, optional, boxed, tag = "23")]
    pub(in super::super) items: Option<Box<ItemsItem>>,
    #[prost(message, optional, tag = "25")]
    pub(in super::super) properties: Option<Definitions>,
    #[prost(message, repeated, tag = "31")]
    pub(in super::super) vendor_extension: Vec<NamedAny>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct AdditionalProperties {
    #[prost(message, optional, tag = "1")]
    pub(in super::super) schema: Option<Schema>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct TypeItem {
    #[prost(string, repeated, tag = "1")]
    pub(in super::super) value: Vec<String>,
}

#[derive(Clone, PartialEq, Message)]
pub(in super::super) struct ItemsItem {
    #[prost(message, repeated, tag = "1")]
    pub(in super::super) schema: Vec<Schema>,
}
