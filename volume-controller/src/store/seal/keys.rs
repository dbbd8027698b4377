//! The file of keys: one a line, 32 random bytes in base64; what follows a `#` is for people. The
//! first encrypts, all decrypt.

use std::collections::BTreeMap;
use std::fmt;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::STANDARD;
use bytes::Bytes;
use parking_lot::Mutex;
use ring::rand::{SecureRandom, SystemRandom};
use sha2::{Digest, Sha256};

use super::record::{self, Id, LENGTH, Secret};
use crate::apiserver::durable;
use crate::store::{Credential, Key};

/// What a new file begins with.
const HEAD: &str = "# The keys of the secrets in the store. Without them these are lost: keep a copy, apart from the backups.\n";

/// The keys, and where they are from.
pub(in crate::store) struct Keys {
    path: PathBuf,
    /// Encrypts.
    pub(super) first: Id,
    secrets: BTreeMap<Id, Secret>,
    /// What a file that is not there yet will hold.
    unwritten: Mutex<Option<String>>,
    random: SystemRandom,
}

/// Without the keys.
impl fmt::Debug for Keys {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Keys").field("path", &self.path).finish_non_exhaustive()
    }
}

impl Keys {
    /// Reads the file. Where there is none a key is made, and not yet written: first it must be
    /// known that nothing needs the keys of a file that was lost.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let random = SystemRandom::new();
        let (text, is_new) = match durable::read(path)? {
            Some(text) => (text, false),
            None => {
                let mut key = [0; LENGTH];
                random.fill(&mut key).map_err(|_| io::Error::other("the kernel gives no random numbers"))?;
                (format!("{HEAD}{}\n", STANDARD.encode(key)), true)
            }
        };
        if !is_new && std::fs::metadata(path)?.permissions().mode() & 0o077 != 0 {
            tracing::warn!(path = %path.display(), "others can read the keys of the secrets: chmod 600");
        }
        let mut secrets = BTreeMap::new();
        let mut first = None;
        for (number, line) in text.lines().enumerate() {
            let line = line.split('#').next().unwrap_or_default().trim();
            if line.is_empty() {
                continue;
            }
            let bytes = STANDARD.decode(line).ok().and_then(|bytes| <[u8; LENGTH]>::try_from(bytes).ok());
            let bytes = bytes.ok_or_else(|| {
                let why = format!("line {} is not {LENGTH} bytes in base64", number + 1);
                io::Error::new(io::ErrorKind::InvalidData, why)
            })?;
            let id = id_of(&bytes);
            first.get_or_insert(id);
            secrets.insert(id, Secret::new(&bytes));
        }
        let first = first.ok_or_else(|| io::Error::new(io::ErrorKind::InvalidData, "it has no key"))?;
        let unwritten = Mutex::new(is_new.then_some(text));
        Ok(Self { path: path.to_owned(), first, secrets, unwritten, random })
    }

    /// By what the servers of one store see that they have the same keys. A file that is still to be written has none.
    pub(in crate::store) fn credential(&self) -> Credential {
        let others = self.secrets.keys().filter(|id| **id != self.first);
        let ids = std::iter::once(&self.first).chain(others).map(ToString::to_string);
        let fingerprints = if self.unwritten.lock().is_some() { Vec::new() } else { ids.collect() };
        Credential { file: "encryption.keys", fingerprints }
    }

    /// Writes a new file, before anything is encrypted with what it holds.
    pub(super) fn keep(&self) -> io::Result<()> {
        let mut unwritten = self.unwritten.lock();
        if let Some(text) = &*unwritten {
            durable::write(&self.path, text.as_bytes())?;
            *unwritten = None;
        }
        Ok(())
    }

    /// Encrypts a body with the first key; `None` where the kernel gives no random numbers.
    pub(in crate::store) fn seal(&self, place: &Key, revision: u64, body: &[u8]) -> Option<Bytes> {
        self.secrets.get(&self.first)?.seal(self.first, place, revision, body, &self.random)
    }

    /// Decrypts a body, and says by which key it was encrypted; `None` for one in the clear.
    ///
    /// # Errors
    /// In a sentence, when the key is not here, or the body is not that of this object at this revision.
    pub(super) fn unseal(
        &self,
        place: &Key,
        revision: u64,
        body: &[u8],
    ) -> Result<Option<(Id, Bytes)>, String> {
        let Some(sealed) = record::read(body) else { return Ok(None) };
        let id = sealed.id;
        let secret = self.secrets.get(&id).ok_or_else(|| {
            format!(
                "{place} is encrypted with the key {id}, which is not in {}: restore that file",
                self.path.display()
            )
        })?;
        let body = secret.unseal(sealed, place, revision).ok_or_else(|| {
            format!(
                "the body of {place} at revision {revision} was not written there: it is damaged or was moved"
            )
        })?;
        Ok(Some((id, body)))
    }
}

/// Names a key without telling anything of it.
fn id_of(key: &[u8]) -> Id {
    let digest = Sha256::new().chain_update(b"holdfast key id").chain_update(key).finalize();
    let mut id = [0; 8];
    id.iter_mut().zip(digest).for_each(|(to, from)| *to = from);
    Id(id)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_file_is_written_once_it_is_needed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("keys");
        let made = Keys::open(&path).unwrap();
        assert!(!path.exists());
        made.keep().unwrap();
        assert_eq!(std::fs::metadata(&path).unwrap().permissions().mode() & 0o777, 0o600);
        let read = Keys::open(&path).unwrap();
        assert_eq!(read.first, made.first);
        let text = std::fs::read_to_string(&path).unwrap();
        std::fs::write(&path, format!("\n{}  # new\n{text}", STANDARD.encode([7; LENGTH]))).unwrap();
        let both = Keys::open(&path).unwrap();
        assert_ne!(both.first, made.first);
        assert!([made.first, both.first].iter().all(|id| both.secrets.contains_key(id)));
        for bad in ["", "# nothing", "c2hvcnQ=", "%"] {
            std::fs::write(&path, bad).unwrap();
            assert!(Keys::open(&path).is_err(), "{bad}");
        }
    }
}
