//! Changes of what an input says: its form stays that of JSON, or of protobuf with the right lengths, so that
//! they reach what comes after the reading.

use rand::RngExt;
use rand::rngs::StdRng;
use serde_json::{Value, json};

use super::mutate::pick;

/// What begins a protobuf body.
const MAGIC: &[u8] = b"k8s\0";

/// One to four changes; `None` for what is neither JSON nor protobuf.
pub(super) fn change(input: &[u8], words: &[&str], random: &mut StdRng) -> Option<Vec<u8>> {
    let rounds = random.random_range(1..=4);
    if let Some(message) = input.strip_prefix(MAGIC) {
        let mut fields = read(message)?;
        for _ in 0..rounds {
            change_fields(&mut fields, words, random);
        }
        return Some([MAGIC, &written(&fields)].concat());
    }
    let mut value: Value = serde_json::from_slice(input).ok()?;
    for _ in 0..rounds {
        change_value(&mut value, words, random);
    }
    Some(value.to_string().into_bytes())
}

/// A value and all that are in it, in order.
fn count(value: &Value) -> usize {
    1 + match value {
        Value::Array(items) => items.iter().map(count).sum(),
        Value::Object(fields) => fields.values().map(count).sum(),
        _ => 0,
    }
}

fn nth<'a>(value: &'a mut Value, left: &mut usize) -> Option<&'a mut Value> {
    if *left == 0 {
        return Some(value);
    }
    *left -= 1;
    match value {
        Value::Array(items) => items.iter_mut().find_map(|item| nth(item, left)),
        Value::Object(fields) => fields.values_mut().find_map(|field| nth(field, left)),
        _ => None,
    }
}

fn some(value: &mut Value, random: &mut StdRng) -> Value {
    let mut left = random.random_range(0..count(value));
    nth(value, &mut left).cloned().unwrap_or_default()
}

fn change_value(root: &mut Value, words: &[&str], random: &mut StdRng) {
    let constants = [
        json!(null),
        json!(""),
        json!(0),
        json!(-1),
        json!(i64::MAX),
        json!(0.5),
        json!(true),
        json!([]),
        json!({}),
    ];
    let other = match random.random_range(0..3) {
        0 => some(root, random),
        1 => json!(pick(words, random)),
        _ => pick(&constants, random).clone(),
    };
    let mut left = random.random_range(0..count(root));
    let Some(found) = nth(root, &mut left) else { return };
    match found {
        Value::Object(fields) if random.random_ratio(2, 3) => {
            let name = fields.keys().nth(random.random_range(0..=fields.len())).cloned();
            match (name, random.random_range(0..3)) {
                (Some(name), 0) => drop(fields.remove(&name)),
                (Some(name), 1) => {
                    let value = fields.remove(&name).unwrap_or_default();
                    fields.insert((*pick(words, random)).to_owned(), value);
                }
                (Some(name), _) => drop(fields.insert(name, other)),
                (None, _) => drop(fields.insert((*pick(words, random)).to_owned(), other)),
            }
        }
        Value::Array(items) if random.random_ratio(2, 3) => match random.random_range(0..3) {
            0 => items.push(other),
            1 => items.reverse(),
            _ => items.extend(items.clone()),
        },
        found => *found = other,
    }
}

/// A field of a protobuf message.
#[derive(Clone)]
enum Field {
    Number(u64),
    Fixed(Vec<u8>),
    Bytes(Vec<u8>),
    /// Bytes that can be read as a message.
    Message(Vec<(u64, Field)>),
}

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut number = 0u64;
    for shift in (0..64).step_by(7) {
        let (byte, rest) = bytes.split_first()?;
        *bytes = rest;
        number |= u64::from(byte & 0x7f) << shift;
        if byte & 0x80 == 0 {
            return Some(number);
        }
    }
    None
}

fn take<'a>(bytes: &mut &'a [u8], length: u64) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(usize::try_from(length).ok()?)?;
    *bytes = rest;
    Some(taken)
}

fn read(mut bytes: &[u8]) -> Option<Vec<(u64, Field)>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let tag = varint(&mut bytes)?;
        let field = match tag & 7 {
            0 => Field::Number(varint(&mut bytes)?),
            1 => Field::Fixed(take(&mut bytes, 8)?.to_vec()),
            2 => {
                let length = varint(&mut bytes)?;
                let taken = take(&mut bytes, length)?;
                let message = read(taken).filter(|fields| !fields.is_empty());
                message.map_or_else(|| Field::Bytes(taken.to_vec()), Field::Message)
            }
            5 => Field::Fixed(take(&mut bytes, 4)?.to_vec()),
            _ => return None,
        };
        fields.push((tag >> 3, field));
    }
    Some(fields)
}

fn write_varint(mut number: u64, out: &mut Vec<u8>) {
    while number >= 0x80 {
        out.push(u8::try_from(number & 0x7f).unwrap() | 0x80);
        number >>= 7;
    }
    out.push(u8::try_from(number).unwrap());
}

fn written(fields: &[(u64, Field)]) -> Vec<u8> {
    let mut out = Vec::new();
    for (number, field) in fields {
        let message;
        let (wire, bytes) = match field {
            Field::Number(value) => {
                write_varint(number << 3, &mut out);
                write_varint(*value, &mut out);
                continue;
            }
            Field::Fixed(bytes) => {
                write_varint(number << 3 | if bytes.len() == 8 { 1 } else { 5 }, &mut out);
                out.extend_from_slice(bytes);
                continue;
            }
            Field::Bytes(bytes) => (2, bytes),
            Field::Message(fields) => {
                message = written(fields);
                (2, &message)
            }
        };
        write_varint(number << 3 | wire, &mut out);
        write_varint(bytes.len() as u64, &mut out);
        out.extend_from_slice(bytes);
    }
    out
}

/// Changes one field, of the message or of one within.
fn change_fields(fields: &mut Vec<(u64, Field)>, words: &[&str], random: &mut StdRng) {
    if fields.is_empty() {
        return;
    }
    let at = random.random_range(0..fields.len());
    if let (_, Field::Message(inner)) = &mut fields[at]
        && random.random_ratio(7, 8)
    {
        return change_fields(inner, words, random);
    }
    let numbers = [0, 1, 127, 1 << 31, 1 << 32, (1 << 62) + 1, 1 << 63, u64::MAX];
    match random.random_range(0..6) {
        0 => drop(fields.remove(at)),
        1 => fields.push(fields[at].clone()),
        2 => fields[at].0 = random.random_range(1..24),
        3 => fields[at].1 = Field::Bytes(pick(words, random).as_bytes().to_vec()),
        _ => fields[at].1 = Field::Number(*pick(&numbers, random)),
    }
}

#[test]
fn what_is_not_changed_is_written_as_it_was_read() {
    for object in super::objects() {
        let bytes = crate::apiserver::protobuf::encode(&object).unwrap();
        let message = bytes.strip_prefix(MAGIC).unwrap();
        assert_eq!(written(&read(message).unwrap()), message);
    }
}
