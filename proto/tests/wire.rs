//! The wire facts of CSI v1.12, held against a table: services and their calls, every
//! message, field number, type, oneof, enum value and option. One line a definition;
//! `!` is an option, `@` a oneof, `[]` repeated, `~` a stream.

#![allow(clippy::unwrap_used, reason = "a test may stop at the first thing that is wrong")]

use protox::prost_reflect::{
    DescriptorPool, DynamicMessage, EnumDescriptor, FieldDescriptor, Kind, MessageDescriptor,
    ServiceDescriptor,
};

const TABLE: &str = include_str!("csi_v1_12.txt");
const PACKAGE: &str = "csi.v1.";

fn pool() -> DescriptorPool {
    let mut compiler = protox::Compiler::new([concat!(env!("CARGO_MANIFEST_DIR"), "/proto")]).unwrap();
    compiler.include_imports(true).open_file("csi/v1/csi.proto").unwrap();
    DescriptorPool::decode(compiler.encode_file_descriptor_set().as_slice()).unwrap()
}

fn marks(options: &DynamicMessage) -> String {
    let mut names: Vec<String> = options
        .extensions()
        .filter(|(_, value)| value.as_bool() == Some(true))
        .map(|(extension, _)| format!("!{}", extension.name()))
        .collect();
    names.sort_by_key(|name| std::cmp::Reverse(name.clone()));
    names.concat()
}

fn field(field: &FieldDescriptor) -> String {
    let kind = match field.kind() {
        _ if field.is_map() => "map".to_owned(),
        Kind::Message(message) => message.name().to_owned(),
        Kind::Enum(values) => values.name().to_owned(),
        kind => format!("{kind:?}").to_lowercase(),
    };
    let list = if field.is_list() { "[]" } else { "" };
    let oneof = field.containing_oneof().map(|oneof| format!("@{}", oneof.name())).unwrap_or_default();
    format!("{}={}:{kind}{list}{oneof}{}", field.name(), field.number(), marks(&field.options()))
}

fn message(message: &MessageDescriptor) -> String {
    let name = message.full_name().strip_prefix(PACKAGE).unwrap();
    let mut fields: Vec<FieldDescriptor> = message.fields().collect();
    fields.sort_by_key(FieldDescriptor::number);
    let fields: Vec<String> = fields.iter().map(field).collect();
    format!("message {name}{} {}", marks(&message.options()), fields.join(" ")).trim_end().to_owned()
}

fn values(values: &EnumDescriptor) -> String {
    let name = values.full_name().strip_prefix(PACKAGE).unwrap();
    let all: Vec<String> = values
        .values()
        .map(|value| format!("{}={}{}", value.name(), value.number(), marks(&value.options())))
        .collect();
    format!("enum {name} {}", all.join(" "))
}

fn service(service: &ServiceDescriptor) -> String {
    let calls: Vec<String> = service
        .methods()
        .map(|call| {
            assert_eq!(call.input().name(), format!("{}Request", call.name()));
            assert_eq!(call.output().name(), format!("{}Response", call.name()));
            assert!(!call.is_client_streaming());
            let stream = if call.is_server_streaming() { "~" } else { "" };
            format!("{}{stream}{}", call.name(), marks(&call.options()))
        })
        .collect();
    format!("service {}{} {}", service.name(), marks(&service.options()), calls.join(" "))
}

#[test]
fn every_definition_is_that_of_the_specification() {
    let pool = pool();
    let mut lines: Vec<String> = pool
        .all_messages()
        .filter(|message| message.full_name().starts_with(PACKAGE) && !message.is_map_entry())
        .map(|found| message(&found))
        .chain(
            pool.all_enums()
                .filter(|found| found.full_name().starts_with(PACKAGE))
                .map(|found| values(&found)),
        )
        .chain(pool.services().map(|found| service(&found)))
        .collect();
    lines.sort();
    let mut expected: Vec<&str> = TABLE.lines().collect();
    expected.sort_unstable();
    for (found, expected) in lines.iter().zip(&expected) {
        assert_eq!(found, expected);
    }
    assert_eq!(lines.len(), expected.len());
}

#[test]
fn secrets_and_streams_are_where_they_belong() {
    assert_eq!(TABLE.matches("!csi_secret").count(), 19);
    assert_eq!(TABLE.matches('~').count(), 2);
}
