//! Protobuf's wire format: tags, numbers, lengths.

use thiserror::Error;

/// What is wrong with the bytes.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("{0}")]
pub(crate) struct Malformed(pub(super) &'static str);

/// What one field holds.
#[derive(Debug, Clone, Copy)]
pub(super) enum Item<'a> {
    Number(u64),
    Bytes(&'a [u8]),
}

impl<'a> Item<'a> {
    pub(super) fn bytes(self) -> Result<&'a [u8], Malformed> {
        match self {
            Self::Bytes(bytes) => Ok(bytes),
            Self::Number(_) => Err(Malformed("a number stands where text or a message belongs")),
        }
    }

    pub(super) fn text(self) -> Result<String, Malformed> {
        String::from_utf8(self.bytes()?.to_vec()).map_err(|_| Malformed("a text is not UTF-8"))
    }

    pub(super) fn integer(self) -> Result<i64, Malformed> {
        match self {
            Self::Number(number) => Ok(number.cast_signed()),
            Self::Bytes(_) => Err(Malformed("a text or message stands where a number belongs")),
        }
    }
}

/// Reads the fields of one message.
pub(super) struct Reader<'a> {
    rest: &'a [u8],
}

impl<'a> Reader<'a> {
    pub(super) fn new(bytes: &'a [u8]) -> Self {
        Self { rest: bytes }
    }

    /// The next field's number and content; `None` at the end.
    pub(super) fn next(&mut self) -> Result<Option<(u64, Item<'a>)>, Malformed> {
        let Some(tag) = self.varint()? else { return Ok(None) };
        let cut = Malformed("it ends within a field");
        let item = match tag & 7 {
            0 => Item::Number(self.varint()?.ok_or(cut)?),
            1 => Item::Bytes(self.take(8)?),
            2 => {
                let length = self.varint()?.ok_or(cut)?;
                Item::Bytes(self.take(usize::try_from(length).map_err(|_| cut)?)?)
            }
            5 => Item::Bytes(self.take(4)?),
            _ => return Err(Malformed("a field has an unknown wire type")),
        };
        Ok(Some((tag >> 3, item)))
    }

    /// The next variable-length number; `None` at the end.
    pub(super) fn varint(&mut self) -> Result<Option<u64>, Malformed> {
        let mut number = 0u64;
        for (index, shift) in (0..64).step_by(7).enumerate() {
            let Some((&byte, rest)) = self.rest.split_first() else {
                return if index == 0 { Ok(None) } else { Err(Malformed("it ends within a number")) };
            };
            self.rest = rest;
            number |= u64::from(byte & 0x7f) << shift;
            if byte & 0x80 == 0 {
                return Ok(Some(number));
            }
        }
        Err(Malformed("a number has too many bytes"))
    }

    fn take(&mut self, length: usize) -> Result<&'a [u8], Malformed> {
        let (taken, rest) = self.rest.split_at_checked(length).ok_or(Malformed("it ends within a field"))?;
        self.rest = rest;
        Ok(taken)
    }
}

/// Writes the fields of one message.
#[derive(Default)]
pub(super) struct Writer {
    pub(super) written: Vec<u8>,
}

impl Writer {
    /// Text, bytes or a message.
    pub(super) fn bytes(&mut self, number: u64, content: &[u8]) {
        self.varint(number << 3 | 2);
        self.varint(content.len() as u64);
        self.written.extend_from_slice(content);
    }

    pub(super) fn number(&mut self, number: u64, content: i64) {
        self.varint(number << 3);
        self.varint(content.cast_unsigned());
    }

    fn varint(&mut self, mut number: u64) {
        while number >= 0x80 {
            self.written.push((number & 0x7f) as u8 | 0x80);
            number >>= 7;
        }
        self.written.push((number & 0x7f) as u8);
    }
}
