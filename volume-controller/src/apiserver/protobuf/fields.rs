//! The messages of the encoding: which number is which field.

use std::collections::HashMap;
use std::sync::OnceLock;

/// What a field holds.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Content {
    String,
    Bytes,
    Int,
    Bool,
    /// RFC 3339, with this many digits after the second.
    Time(usize),
    Quantity,
    IntOrString,
    /// A message whose one field is JSON as text, and that is that JSON in JSON.
    Json,
    Message(&'static str),
}

/// How often a field occurs.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(super) enum Shape {
    One,
    /// One, whose fields are the parent's in JSON.
    Inline,
    List,
    Map,
}

#[derive(Debug, Clone, Copy)]
pub(super) struct Field {
    pub(super) number: u64,
    pub(super) name: &'static str,
    pub(super) shape: Shape,
    pub(super) content: Content,
    /// Whether zero means something else than absence.
    pub(super) keeps_zero: bool,
}

/// The fields of a message; `None` when the message is not known.
pub(super) fn message(name: &str) -> Option<&'static [Field]> {
    static MESSAGES: OnceLock<HashMap<&'static str, Vec<Field>>> = OnceLock::new();
    MESSAGES.get_or_init(|| read(include_str!("fields.txt"))).get(name).map(Vec::as_slice)
}

fn read(text: &'static str) -> HashMap<&'static str, Vec<Field>> {
    let mut messages: HashMap<&'static str, Vec<Field>> = HashMap::new();
    let mut current = "";
    for line in text.lines().filter(|line| !line.starts_with('#') && !line.is_empty()) {
        if !line.starts_with(' ') {
            current = line;
            messages.entry(current).or_default();
        } else if let Some(field) = field(line) {
            messages.entry(current).or_default().push(field);
        }
    }
    messages
}

fn field(line: &'static str) -> Option<Field> {
    let mut words = line.split_whitespace();
    let (number, name, kind) = (words.next()?.parse().ok()?, words.next()?, words.next()?);
    let (shape, kind) = match (kind.strip_prefix("[]"), kind.strip_prefix("map:")) {
        (Some(item), _) => (Shape::List, item),
        (_, Some(value)) => (Shape::Map, value),
        _ if name == "-" => (Shape::Inline, kind),
        _ => (Shape::One, kind),
    };
    let keeps_zero = kind.ends_with('?');
    let content = match kind.trim_end_matches('?') {
        "string" => Content::String,
        "bytes" => Content::Bytes,
        "int" => Content::Int,
        "bool" => Content::Bool,
        "Time" => Content::Time(0),
        "MicroTime" => Content::Time(6),
        "Quantity" => Content::Quantity,
        "IntOrString" => Content::IntOrString,
        "Json" => Content::Json,
        message => Content::Message(message),
    };
    Some(Field { number, name, shape, content, keeps_zero })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_message_that_is_named_is_there() {
        let text = include_str!("fields.txt");
        let messages = read(text);
        let rows = text.lines().filter(|line| line.starts_with(' ')).count();
        assert_eq!(messages.values().map(Vec::len).sum::<usize>(), rows);
        for (name, fields) in &messages {
            for field in fields {
                if let Content::Message(inner) = field.content {
                    assert!(messages.contains_key(inner), "{name}.{} is a {inner}", field.name);
                }
            }
        }
    }
}
