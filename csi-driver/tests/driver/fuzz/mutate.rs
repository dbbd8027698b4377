//! Changes an encoded message field by field: what comes out is still a message, of strange
//! content, or now and then none at all.

use rand::{Rng, RngExt as _, rngs::StdRng, seq::IndexedRandom as _};

/// A field as the wire has it.
#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
enum Value {
    Varint(u64),
    Fixed64([u8; 8]),
    Bytes(Vec<u8>),
    Fixed32([u8; 4]),
}

#[derive(Debug, Clone, PartialEq, Eq, PartialOrd, Ord)]
struct Field {
    number: u64,
    value: Value,
}

/// Numbers at which code goes wrong.
const NUMBERS: [u64; 14] = [
    0,
    1,
    2,
    7,
    8,
    99,
    4096,
    1 << 20,
    1 << 40,
    i32::MAX as u64,
    i64::MAX as u64,
    i64::MIN as u64,
    u64::MAX,
    1 << 62,
];

/// What goes into strings.
const PIECES: [&str; 16] =
    ["", "/", "..", "/../", ".", "\0", "\n", "\u{1b}[2J", "\u{202e}", "ü", "~", "%s", "*", " ", "=", ","];

fn varint(bytes: &mut &[u8]) -> Option<u64> {
    let mut value = 0_u64;
    for shift in (0..64).step_by(7) {
        let (first, rest) = bytes.split_first()?;
        *bytes = rest;
        value |= u64::from(first & 0x7f) << shift;
        if first & 0x80 == 0 {
            return Some(value);
        }
    }
    None
}

fn put_varint(mut value: u64, out: &mut Vec<u8>) {
    while value >= 0x80 {
        out.push(value as u8 | 0x80);
        value >>= 7;
    }
    out.push(value as u8);
}

/// The fields, if the bytes are a message to their end.
fn parse(mut bytes: &[u8]) -> Option<Vec<Field>> {
    let mut fields = Vec::new();
    while !bytes.is_empty() {
        let key = varint(&mut bytes)?;
        let value = match key & 7 {
            0 => Value::Varint(varint(&mut bytes)?),
            1 => Value::Fixed64(take(&mut bytes, 8)?.try_into().ok()?),
            2 => {
                let length = usize::try_from(varint(&mut bytes)?).ok()?;
                Value::Bytes(take(&mut bytes, length)?.to_vec())
            }
            5 => Value::Fixed32(take(&mut bytes, 4)?.try_into().ok()?),
            _ => return None,
        };
        (key >> 3 > 0).then_some(())?;
        fields.push(Field { number: key >> 3, value });
    }
    Some(fields)
}

fn take<'a>(bytes: &mut &'a [u8], length: usize) -> Option<&'a [u8]> {
    let (taken, rest) = bytes.split_at_checked(length)?;
    *bytes = rest;
    Some(taken)
}

fn write(fields: &[Field]) -> Vec<u8> {
    let mut out = Vec::new();
    for field in fields {
        let (kind, content): (u64, &[u8]) = match &field.value {
            Value::Varint(_) => (0, &[]),
            Value::Fixed64(bytes) => (1, bytes),
            Value::Bytes(bytes) => (2, bytes),
            Value::Fixed32(bytes) => (5, bytes),
        };
        put_varint(field.number << 3 | kind, &mut out);
        match &field.value {
            Value::Varint(value) => put_varint(*value, &mut out),
            Value::Bytes(bytes) => put_varint(bytes.len() as u64, &mut out),
            _ => {}
        }
        out.extend(content);
    }
    out
}

/// The same message with its fields in an order that depends on nothing but the content:
/// maps are encoded in any order.
pub(super) fn in_order(message: &[u8]) -> Vec<u8> {
    let mut fields = parse(message).unwrap();
    fields.sort();
    write(&fields)
}

/// Makes messages of one another, with `words` as other strings to try. No absolute path
/// leaves `home`.
pub(super) struct Mutator<'a> {
    pub(super) words: &'a [String],
    pub(super) home: &'a str,
}

impl Mutator<'_> {
    pub(super) fn message(&self, rng: &mut StdRng, message: &[u8]) -> Vec<u8> {
        let mut fields = parse(message).unwrap();
        for _ in 0..[1, 1, 1, 2, 4][rng.random_range(0..5)] {
            self.fields(rng, &mut fields, 0);
        }
        write(&fields)
    }

    fn fields(&self, rng: &mut StdRng, fields: &mut Vec<Field>, depth: usize) {
        if fields.is_empty() || rng.random_ratio(1, 20) {
            let number = [1, 2, 3, 5, 9, 15, 1000, (1 << 29) - 1][rng.random_range(0..8)];
            let value = match rng.random_range(0..3) {
                0 => Value::Varint(*NUMBERS.choose(rng).unwrap()),
                1 => Value::Fixed64(rng.random()),
                _ => Value::Bytes(self.text(rng, b"")),
            };
            fields.push(Field { number, value });
            return;
        }
        let at = rng.random_range(0..fields.len());
        match rng.random_range(0..10) {
            0 => drop(fields.remove(at)),
            1 => fields.push(fields[at].clone()),
            _ => {
                let changed = match &fields[at].value {
                    Value::Varint(value) if rng.random() => {
                        Value::Varint(value.wrapping_add(rng.random_range(0..3)).wrapping_sub(1))
                    }
                    Value::Varint(_) => Value::Varint(*NUMBERS.choose(rng).unwrap()),
                    Value::Fixed64(_) => Value::Fixed64(rng.random()),
                    Value::Fixed32(_) => Value::Fixed32(rng.random()),
                    Value::Bytes(bytes) => Value::Bytes(match parse(bytes) {
                        Some(mut inner) if depth < 8 && !rng.random_ratio(1, 8) => {
                            self.fields(rng, &mut inner, depth + 1);
                            write(&inner)
                        }
                        _ => self.text(rng, bytes),
                    }),
                };
                fields[at].value = changed;
            }
        }
    }

    fn text(&self, rng: &mut StdRng, text: &[u8]) -> Vec<u8> {
        let mut text = text.to_vec();
        match rng.random_range(0..8) {
            0..3 => text = self.words.choose(rng).unwrap().clone().into_bytes(),
            3 => text.truncate(rng.random_range(0..=text.len())),
            4 => text = text.repeat([2, 3, 200][rng.random_range(0..3)]),
            5 => {
                let at = rng.random_range(0..=text.len());
                // No UTF-8 any more, now and then: a field later nothing of such a message is read.
                text.insert(at, if rng.random_ratio(1, 8) { rng.random() } else { rng.random_range(0..128) });
            }
            _ => {
                let at = rng.random_range(0..=text.len());
                text.splice(at..at, PIECES.choose(rng).unwrap().bytes());
            }
        }
        text.truncate(1 << 16);
        if text.starts_with(b"/") && !text.starts_with(self.home.as_bytes()) {
            text.splice(0..0, self.home.bytes());
        }
        text
    }
}

/// Breaks the encoding itself.
pub(super) fn break_bytes(rng: &mut impl Rng, message: &mut Vec<u8>) {
    match rng.random_range(0..3) {
        0 => message.truncate(message.len() / 2),
        1 => message.extend((0..rng.random_range(1..20)).map(|_| rng.random::<u8>())),
        _ => {
            for _ in 0..rng.random_range(1..4) {
                if let Some(at) = message.len().checked_sub(1).map(|last| rng.random_range(0..=last)) {
                    message[at] = rng.random();
                }
            }
        }
    }
}

#[test]
fn what_was_parsed_is_written_alike() {
    use holdfast_proto::csi;
    use prost::Message as _;
    use rand::SeedableRng as _;
    let capability = crate::harness::mounted("ext4");
    let request = csi::CreateVolumeRequest {
        parameters: crate::harness::parameters(&[("pool", "a")]),
        ..crate::harness::volume("v", 1 << 40, &capability)
    };
    let encoded = request.encode_to_vec();
    assert_eq!(write(&parse(&encoded).unwrap()), encoded);
    assert_eq!(csi::CreateVolumeRequest::decode(in_order(&encoded).as_slice()).unwrap(), request);
    assert_eq!(parse(b"\x0a\x7f\x61"), None);
    // Most of what comes out is still a message, and hardly any is the same.
    let (mut rng, words) = (StdRng::seed_from_u64(1), ["word".to_owned()]);
    let mutator = Mutator { words: &words, home: "/home" };
    let (mut same, mut messages) = (0, 0);
    for _ in 0..1000 {
        let mutated = mutator.message(&mut rng, &encoded);
        same += i32::from(mutated == encoded);
        messages += i32::from(csi::CreateVolumeRequest::decode(mutated.as_slice()).is_ok());
    }
    assert!(same < 200 && (500..1000).contains(&messages), "{same} {messages}");
}
