//! Backups: all objects as of one revision, the same whatever database the store is in.
//!
//! A backup is text. Its first line is the [`Header`]; then comes one line for each object; the last line counts them and
//! has the SHA-256 of all lines before it, so that a backup that was cut off or changed is told from a whole one. Bodies are
//! JSON; those of secrets are encrypted as they are at rest, where the store has keys ([`super::Config::keys`]), bound to
//! key and revision of the object.

use std::io::BufRead;
use std::sync::Arc;

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use jiff::Timestamp;
use serde::{Deserialize, Serialize};
use serde_json::Value;
use serde_json::value::RawValue;
use sha2::{Digest, Sha256};
use thiserror::Error;

use super::seal::{self, Keys};
use super::{Change, ChangeKind, Key, Object, Store, plan};

/// What every backup begins with.
const FORMAT: &str = "holdfast-backup";
/// The version of the format that is written, and the newest that is understood.
const VERSION: u32 = 1;
/// A piece of the text has so many bytes, or somewhat more.
const PIECE: usize = 64 << 10;

/// The first line of a backup.
#[derive(Debug, Clone, PartialEq, Eq, Serialize, Deserialize)]
pub struct Header {
    format: String,
    version: u32,
    /// When it was taken.
    pub taken: Timestamp,
    /// The revision of which it is.
    pub revision: u64,
    /// That of the store; see [`Store::incarnation`].
    pub incarnation: u64,
    /// How many objects follow.
    pub objects: u64,
    /// The bytes of their bodies.
    pub bytes: u64,
}

/// One object.
#[derive(Serialize, Deserialize)]
struct Line {
    revision: u64,
    resource: String,
    #[serde(default, skip_serializing_if = "String::is_empty")]
    namespace: String,
    name: String,
    #[serde(default, skip_serializing_if = "Option::is_none")]
    body: Option<Box<RawValue>>,
    /// Instead of `body` an encrypted one, in base64.
    #[serde(default, skip_serializing_if = "Option::is_none")]
    sealed: Option<String>,
}

/// The last line.
#[derive(Serialize, Deserialize)]
struct Trailer {
    end: u64,
    sha256: String,
}

/// Why a backup cannot be used.
#[derive(Debug, Error)]
pub enum BackupError {
    /// It is something else.
    #[error("it is not a backup of a Holdfast store")]
    Foreign,
    /// A later version of this program wrote it.
    #[error(
        "it has version {0} of the format, this program knows versions up to {VERSION}; use the newer program that wrote it"
    )]
    Newer(u32),
    /// It ends too early, or is not what was written.
    #[error("it is damaged or cut off ({0}); take another one")]
    Damaged(String),
    /// It cannot be read.
    #[error("it cannot be read: {0}")]
    Io(#[from] std::io::Error),
}

/// All objects at one moment. It shares their bodies with the store, and keeps those that change meanwhile.
#[derive(Debug)]
pub struct Snapshot {
    header: Header,
    objects: Vec<Arc<Object>>,
    keys: Option<Arc<Keys>>,
}

impl Store {
    /// All objects as they are now, at one revision. Holds nobody up.
    #[must_use]
    pub fn snapshot(&self) -> Snapshot {
        let (revision, objects) = self.memory.everything();
        let header = Header {
            format: FORMAT.to_owned(),
            version: VERSION,
            taken: Timestamp::now(),
            revision,
            incarnation: self.incarnation(),
            objects: objects.len() as u64,
            bytes: objects.iter().map(|object| object.body.len() as u64).sum(),
        };
        Snapshot { header, objects, keys: self.keys.clone() }
    }
}

impl Snapshot {
    /// The first line.
    #[must_use]
    pub fn header(&self) -> &Header {
        &self.header
    }

    /// The text of the backup, in pieces. It ends early with an error at a body that is not JSON, or when a
    /// secret cannot be encrypted.
    #[must_use]
    pub fn into_text(self) -> Text {
        Text {
            header: Some(self.header),
            objects: self.objects.into_iter(),
            keys: self.keys,
            count: 0,
            digest: Some(Sha256::new()),
        }
    }
}

/// The text of a backup, in pieces.
#[derive(Debug)]
pub struct Text {
    header: Option<Header>,
    objects: std::vec::IntoIter<Arc<Object>>,
    keys: Option<Arc<Keys>>,
    count: u64,
    /// Of all pieces so far; `None` at the end.
    digest: Option<Sha256>,
}

impl Text {
    fn piece(&mut self, digest: &mut Sha256) -> std::io::Result<(Bytes, bool)> {
        let mut piece = Vec::with_capacity(PIECE * 2);
        if let Some(header) = self.header.take() {
            write_line(&mut piece, &header)?;
        }
        while piece.len() < PIECE {
            let Some(object) = self.objects.next() else {
                digest.update(&piece);
                let sha256 = hexadecimal(&digest.clone().finalize());
                write_line(&mut piece, &Trailer { end: self.count, sha256 })?;
                return Ok((piece.into(), true));
            };
            write_line(&mut piece, &line(&object, self.keys.as_deref())?)?;
            self.count += 1;
        }
        digest.update(&piece);
        Ok((piece.into(), false))
    }
}

impl Iterator for Text {
    type Item = std::io::Result<Bytes>;

    fn next(&mut self) -> Option<Self::Item> {
        let mut digest = self.digest.take()?;
        match self.piece(&mut digest) {
            Ok((piece, is_last)) => {
                self.digest = (!is_last).then_some(digest);
                Some(Ok(piece))
            }
            Err(error) => Some(Err(error)),
        }
    }
}

fn line(object: &Object, keys: Option<&Keys>) -> std::io::Result<Line> {
    let Key { resource, namespace, name } = &object.key;
    let (body, sealed) = match keys.filter(|_| seal::is_secret(&object.key)) {
        Some(keys) => (None, Some(encrypted(object, keys)?)),
        None => (Some(json(object)?), None),
    };
    Ok(Line {
        revision: object.revision,
        resource: resource.to_string(),
        namespace: namespace.to_string(),
        name: name.to_string(),
        body,
        sealed,
    })
}

fn encrypted(object: &Object, keys: &Keys) -> std::io::Result<String> {
    let sealed = keys.seal(&object.key, object.revision, &object.body);
    let sealed = sealed.ok_or_else(|| std::io::Error::other("the kernel gives no random numbers"))?;
    Ok(STANDARD.encode(sealed))
}

fn json(object: &Object) -> std::io::Result<Box<RawValue>> {
    let invalid = |error| std::io::Error::new(std::io::ErrorKind::InvalidData, error);
    let body = std::str::from_utf8(&object.body).map_err(std::io::Error::other)?;
    // A line is one line, whoever wrote the body.
    let body = match body.contains(['\n', '\r']) {
        true => serde_json::from_str::<Value>(body).map_err(invalid)?.to_string(),
        false => body.to_owned(),
    };
    RawValue::from_string(body).map_err(invalid)
}

fn write_line(text: &mut Vec<u8>, line: &impl Serialize) -> std::io::Result<()> {
    serde_json::to_writer(&mut *text, line)?;
    text.push(b'\n');
    Ok(())
}

fn hexadecimal(bytes: &[u8]) -> String {
    bytes.iter().map(|byte| format!("{byte:02x}")).collect()
}

/// Reads a backup line by line, and finds out whether it is whole.
#[derive(Debug, Default)]
pub struct Reader {
    header: Option<Header>,
    digest: Sha256,
    count: u64,
    bytes: u64,
    is_whole: bool,
}

impl Reader {
    /// Takes the next line, with its line feed; returns the object in it, if it has one. An encrypted body stays so, and
    /// its object is without a UID.
    ///
    /// # Errors
    /// See [`BackupError`]; after one the backup is of no use.
    pub fn line(&mut self, line: &[u8]) -> Result<Option<Arc<Object>>, BackupError> {
        if self.is_whole {
            return Err(BackupError::Damaged("something follows its last line".to_owned()));
        }
        let Some(header) = &self.header else {
            self.header = Some(header(line)?);
            self.digest.update(line);
            return Ok(None);
        };
        if let Ok(Trailer { end, sha256 }) = serde_json::from_slice(line) {
            if end != self.count || end != header.objects {
                let why = format!("it has {} objects, its first line says {}", self.count, header.objects);
                return Err(BackupError::Damaged(why));
            }
            if sha256 != hexadecimal(&self.digest.clone().finalize()) {
                return Err(BackupError::Damaged("its checksum is another one".to_owned()));
            }
            self.is_whole = true;
            return Ok(None);
        }
        self.digest.update(line);
        let number = self.count + 2;
        let damaged = |why: &dyn std::fmt::Display| BackupError::Damaged(format!("line {number}: {why}"));
        let Line { revision, resource, namespace, name, body, sealed } =
            serde_json::from_slice(line).map_err(|error| damaged(&error))?;
        if revision > header.revision {
            return Err(damaged(&format!("revision {revision} is later than the backup")));
        }
        let (body, uid) = match (body, sealed) {
            (Some(body), None) => {
                let body = Bytes::copy_from_slice(body.get().as_bytes());
                let uid = plan::uid_of(&body).map_err(|error| damaged(&error))?;
                (body, uid)
            }
            (None, Some(sealed)) => {
                let body = STANDARD.decode(sealed).map_err(|error| damaged(&error))?;
                if !seal::is_sealed(&body) {
                    return Err(damaged(&"what is to be encrypted is not"));
                }
                (body.into(), Box::default())
            }
            _ => return Err(damaged(&"it has not one body")),
        };
        self.count += 1;
        self.bytes += body.len() as u64;
        Ok(Some(Arc::new(Object { key: Key::new(&resource, &namespace, &name), revision, uid, body })))
    }

    /// The first line, once it was read.
    #[must_use]
    pub fn header(&self) -> Option<&Header> {
        self.header.as_ref()
    }

    /// The bytes of the bodies so far; [`Header::bytes`] at the end.
    #[must_use]
    pub fn bytes(&self) -> u64 {
        self.bytes
    }

    /// To be asked when there are no more lines.
    ///
    /// # Errors
    /// When the last line was not the last line of a backup.
    pub fn finish(self) -> Result<Header, BackupError> {
        match self.header {
            Some(header) if self.is_whole => Ok(header),
            Some(header) => {
                let why = format!("it ends after {} of {} objects", self.count, header.objects);
                Err(BackupError::Damaged(why))
            }
            None => Err(BackupError::Foreign),
        }
    }
}

fn header(line: &[u8]) -> Result<Header, BackupError> {
    #[derive(Deserialize)]
    struct Begin {
        format: String,
        version: u32,
    }
    let begin: Begin = serde_json::from_slice(line).map_err(|_| BackupError::Foreign)?;
    match (begin.format.as_str(), begin.version) {
        (FORMAT, 1..=VERSION) => serde_json::from_slice(line)
            .map_err(|error| BackupError::Damaged(format!("its first line: {error}"))),
        (FORMAT, newer) => Err(BackupError::Newer(newer)),
        _ => Err(BackupError::Foreign),
    }
}

/// A whole backup, read and checked.
#[derive(Debug)]
pub struct Backup {
    /// Its first line.
    pub header: Header,
    pub(crate) objects: Vec<Arc<Object>>,
}

impl Backup {
    /// Reads a backup to its end.
    ///
    /// # Errors
    /// When it is not whole, or something else.
    pub fn read(mut from: impl BufRead) -> Result<Self, BackupError> {
        let mut reader = Reader::default();
        let mut objects = Vec::new();
        let mut line = Vec::new();
        loop {
            line.clear();
            if from.read_until(b'\n', &mut line)? == 0 {
                return Ok(Self { header: reader.finish()?, objects });
            }
            objects.extend(reader.line(&line)?);
        }
    }

    /// The objects as the changes that bring them into an empty store, in the order of their revisions, in the clear.
    ///
    /// # Errors
    /// In a sentence, when a body cannot be decrypted with these keys.
    pub(super) fn changes(&self, keys: Option<&Keys>) -> Result<Vec<Arc<Change>>, String> {
        let mut objects: Vec<_> = self.objects.iter().collect();
        objects.sort_by_key(|object| object.revision);
        let created = |object: &Arc<Object>| {
            let (revision, mut object) = (object.revision, object.clone());
            if let Some(body) = seal::unsealed(&object, keys)? {
                let key = object.key.clone();
                let uid = plan::uid_of(&body).map_err(|error| format!("the body of {key}: {error}"))?;
                object = Arc::new(Object { key, revision, uid, body });
            }
            Ok(Arc::new(Change { revision, kind: ChangeKind::Created, object, previous: None }))
        };
        objects.into_iter().map(created).collect()
    }
}
