//! How a snapshot travels: its label, the stream of its backend, and a digest of both.
//!
//! ```text
//! holdfast snapshot 1\n
//! length of the label, 4 bytes      label, JSON
//! length of a piece, 4 bytes        piece                      … any number of them
//! 0, 4 bytes                        SHA-256 of all before, 32 bytes
//! ```
//!
//! Lengths are big-endian. A stream of btrfs that is cut off between two of its commands
//! looks whole; this does not.

use std::io::{self, Read, Write};

use serde::{Deserialize, Serialize};
use sha2::{Digest as _, Sha256};
use uuid::Uuid;

use super::Meter;
use crate::{
    error::{Error, Tried as _},
    snapshot::{Snapshot, SnapshotId},
    step,
};

const MAGIC: &[u8] = b"holdfast snapshot 1\n";
/// No label has so many bytes.
const LABEL_LIMIT: u32 = 64 << 10;
const PIECE: usize = 256 << 10;

/// What is in an envelope.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Label {
    /// As the pool has it from which it was sent.
    pub(crate) snapshot: Snapshot,
    pub(crate) lineage: Uuid,
    /// What has to be there already; `None` for a whole snapshot.
    pub(crate) since: Option<Base>,
}

/// On which snapshot a stream is built.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub(crate) struct Base {
    /// Its id where it was sent.
    pub(crate) id: SnapshotId,
    pub(crate) lineage: Uuid,
}

/// Told the bytes so far.
pub(crate) type Told<'a> = &'a (dyn Fn(u64) + Send + Sync);

/// Writes an envelope.
pub(crate) struct Outgoing<W> {
    into: W,
    digest: Sha256,
}

impl<W: Write> Outgoing<W> {
    pub(crate) fn begin(into: W, label: &Label) -> Result<Self, Error> {
        let mut envelope = Self { into, digest: Sha256::new() };
        let text = serde_json::to_vec(label).map_err(|error| Error::Lost(error.to_string()))?;
        envelope.write(MAGIC)?;
        envelope.piece(&text)?;
        Ok(envelope)
    }

    /// Puts in all that can be read.
    pub(crate) fn fill(&mut self, mut from: impl Read, told: Told<'_>) -> Result<(), Error> {
        let mut piece = vec![0; PIECE];
        let mut so_far = 0_u64;
        loop {
            let length = from.read(&mut piece).tried(|| "reading a stream".to_owned())?;
            if length == 0 {
                return Ok(());
            }
            self.piece(piece.get(..length).unwrap_or_default())?;
            so_far = so_far.saturating_add(length as u64);
            told(so_far);
        }
    }

    /// Closes it. One that is not closed is refused where it is received.
    pub(crate) fn close(mut self) -> Result<(), Error> {
        self.piece(&[])?;
        let digest = self.digest.finalize_reset();
        self.write(&digest)?;
        self.into.flush().tried(|| WRITING.to_owned())
    }

    fn piece(&mut self, bytes: &[u8]) -> Result<(), Error> {
        let length = u32::try_from(bytes.len()).map_err(|error| Error::Lost(error.to_string()))?;
        self.write(&length.to_be_bytes())?;
        self.write(bytes)
    }

    fn write(&mut self, bytes: &[u8]) -> Result<(), Error> {
        self.digest.update(bytes);
        self.into.write_all(bytes).tried(|| WRITING.to_owned())
    }
}

const WRITING: &str = "writing the snapshot to the output";

/// Reads an envelope.
pub(crate) struct Incoming<R> {
    from: R,
    digest: Sha256,
    label: Label,
}

impl<R: Read> Incoming<R> {
    /// Reads the label.
    pub(crate) fn open(mut from: R) -> Result<Self, Error> {
        let mut digest = Sha256::new();
        let foreign = || {
            Error::Invalid("the input is no snapshot that `holdfast driver snapshot send` wrote".to_owned())
        };
        let mut magic = [0; MAGIC.len()];
        match from.read_exact(&mut magic) {
            Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => return Err(foreign()),
            read => read.tried(|| READING.to_owned())?,
        }
        if magic != MAGIC {
            return Err(foreign());
        }
        digest.update(magic);
        let length = number(&mut from, &mut digest)?;
        if length > LABEL_LIMIT {
            return Err(damaged());
        }
        let mut text = vec![0; length as usize];
        exactly(&mut from, &mut digest, &mut text)?;
        let label = serde_json::from_slice(&text)
            .map_err(|error| Error::Invalid(format!("the label of the snapshot cannot be read: {error}")))?;
        Ok(Self { from, digest, label })
    }

    pub(crate) fn label(&self) -> &Label {
        &self.label
    }

    /// Takes everything out, as long as the meter allows it. `false` when nobody takes any more of it; an error unless all of
    /// it came as it was sent.
    pub(crate) fn empty(&mut self, mut into: impl Write, meter: Meter<'_>) -> Result<bool, Error> {
        let mut piece = Vec::new();
        let mut so_far = 0_u64;
        loop {
            let length = number(&mut self.from, &mut self.digest)?;
            if length == 0 {
                break;
            }
            if length as usize > PIECE {
                return Err(damaged());
            }
            piece.resize(length as usize, 0);
            exactly(&mut self.from, &mut self.digest, &mut piece)?;
            so_far = so_far.saturating_add(u64::from(length));
            meter(so_far)?;
            match into.write_all(&piece) {
                Err(error) if error.kind() == io::ErrorKind::BrokenPipe => return Ok(false),
                written => written.tried(|| "passing a stream on".to_owned())?,
            }
            step::passed("piece of a snapshot received");
        }
        let digest = self.digest.finalize_reset();
        let mut said = [0; 32];
        exactly(&mut self.from, &mut self.digest, &mut said)?;
        if digest.as_slice() != said {
            return Err(damaged());
        }
        Ok(true)
    }
}

const READING: &str = "reading the snapshot from the input";

fn damaged() -> Error {
    Error::Invalid("the snapshot was damaged on its way; send it again".to_owned())
}

fn number(from: &mut impl Read, digest: &mut Sha256) -> Result<u32, Error> {
    let mut bytes = [0; 4];
    exactly(from, digest, &mut bytes)?;
    Ok(u32::from_be_bytes(bytes))
}

fn exactly(from: &mut impl Read, digest: &mut Sha256, bytes: &mut [u8]) -> Result<(), Error> {
    match from.read_exact(bytes) {
        Err(error) if error.kind() == io::ErrorKind::UnexpectedEof => {
            Err(Error::Invalid("the input ends before the snapshot does; send it again".to_owned()))
        }
        read => {
            digest.update(&*bytes);
            read.tried(|| READING.to_owned())
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        clock::Moment,
        volume::{Content, Format},
        volume_id::VolumeId,
    };

    fn label() -> Label {
        let snapshot = Snapshot {
            id: SnapshotId::derive("a", "s"),
            name: "s".to_owned(),
            source: VolumeId::derive("a", "v"),
            created: Moment::now(),
            capacity: 1 << 20,
            content: Content::Folder,
            format: Format::Done,
            promised: 1 << 20,
            group: None,
        };
        Label { snapshot, lineage: Uuid::new_v4(), since: None }
    }

    fn packed(data: &[u8]) -> (Label, Vec<u8>) {
        let (label, mut packed) = (label(), Vec::new());
        let mut envelope = Outgoing::begin(&mut packed, &label).unwrap();
        envelope.fill(data, &|_| ()).unwrap();
        envelope.close().unwrap();
        (label, packed)
    }

    fn unpack(packed: &[u8]) -> Result<(Label, Vec<u8>), Error> {
        let mut envelope = Incoming::open(packed)?;
        let mut data = Vec::new();
        assert!(envelope.empty(&mut data, &|_| Ok(()))?);
        Ok((envelope.label().clone(), data))
    }

    #[test]
    fn what_goes_in_comes_out() {
        for length in [0, 1, PIECE, 3 * PIECE + 5] {
            let data: Vec<u8> = (0..length).map(|at| (at % 251) as u8).collect();
            let (label, packed) = packed(&data);
            let (same, out) = unpack(&packed).unwrap();
            assert!(same == label && out == data, "{length}");
        }
    }

    /// Cut off anywhere, or with any byte changed, it is refused.
    #[test]
    fn nothing_else_comes_out() {
        let (_, packed) = packed(&[7; 100]);
        for at in 0..packed.len() {
            unpack(&packed[..at]).unwrap_err();
            let mut changed = packed.clone();
            changed[at] ^= 0x20;
            unpack(&changed).unwrap_err();
        }
    }
}
