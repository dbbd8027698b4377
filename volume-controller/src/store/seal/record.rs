//! One encrypted body: AES-256-GCM under a key of its own, which comes from the long-lived key
//! and a random salt. So no number of bodies brings two under the same key and nonce, which is
//! where a random nonce alone would end.
//!
//! `\0hs1`, the key's id (8 bytes), the salt (32), the ciphertext with its tag (16).
//! JSON never begins with a zero byte. The object's key and revision are bound in: a body that
//! somebody puts in another's place, or an older one in a newer one's, is refused.

use std::fmt;

use bytes::Bytes;
use ring::aead::{AES_256_GCM, Aad, LessSafeKey, NONCE_LEN, Nonce, UnboundKey};
use ring::hkdf::{HKDF_SHA256, Salt};
use ring::rand::{SecureRandom, SystemRandom};

use crate::store::Key;

/// The length of a key in bytes.
pub(super) const LENGTH: usize = 32;
const MAGIC: &[u8] = b"\0hs1";
const SALT: usize = 32;
/// What is derived is for this and nothing else.
const PURPOSE: &[&[u8]] = &[b"holdfast object body"];

/// The name of a key.
#[derive(Debug, Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
pub(super) struct Id(pub(super) [u8; 8]);

impl fmt::Display for Id {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.iter().try_for_each(|byte| write!(f, "{byte:02x}"))
    }
}

/// A long-lived key.
pub(super) struct Secret([u8; LENGTH]);

impl Secret {
    pub(super) fn new(bytes: &[u8; LENGTH]) -> Self {
        Self(*bytes)
    }

    /// The key of one body.
    fn derive(&self, salt: &[u8]) -> Option<LessSafeKey> {
        let extracted = Salt::new(HKDF_SHA256, salt).extract(&self.0);
        let derived = extracted.expand(PURPOSE, &AES_256_GCM).ok()?;
        Some(LessSafeKey::new(UnboundKey::from(derived)))
    }

    /// `None` where the kernel gives no random numbers.
    pub(super) fn seal(
        &self,
        id: Id,
        place: &Key,
        revision: u64,
        body: &[u8],
        random: &SystemRandom,
    ) -> Option<Bytes> {
        let mut salt = [0; SALT];
        random.fill(&mut salt).ok()?;
        let mut sealed = body.to_vec();
        let key = self.derive(&salt)?;
        key.seal_in_place_append_tag(nonce(), Aad::from(bound(place, revision)), &mut sealed).ok()?;
        Some([MAGIC, &id.0, &salt, &sealed].concat().into())
    }

    /// `None` where it was sealed for another place, or is damaged.
    pub(super) fn unseal(&self, sealed: Sealed<'_>, place: &Key, revision: u64) -> Option<Bytes> {
        let mut body = sealed.ciphertext.to_vec();
        let key = self.derive(sealed.salt)?;
        let length = key.open_in_place(nonce(), Aad::from(bound(place, revision)), &mut body).ok()?.len();
        body.truncate(length);
        Some(body.into())
    }
}

/// Each key is used once, so the nonce need not differ.
fn nonce() -> Nonce {
    Nonce::assume_unique_for_key([0; NONCE_LEN])
}

/// No part of a key contains a zero byte, so this is one place only.
fn bound(place: &Key, revision: u64) -> Vec<u8> {
    let Key { resource, namespace, name } = place;
    let mut bound = format!("{resource}\0{namespace}\0{name}\0").into_bytes();
    bound.extend_from_slice(&revision.to_be_bytes());
    bound
}

/// The parts of an encrypted body.
#[derive(Clone, Copy)]
pub(super) struct Sealed<'a> {
    pub(super) id: Id,
    salt: &'a [u8],
    ciphertext: &'a [u8],
}

/// `None` for a body that is not encrypted.
pub(super) fn read(body: &[u8]) -> Option<Sealed<'_>> {
    let rest = body.strip_prefix(MAGIC)?;
    let (id, rest) = rest.split_first_chunk()?;
    let (salt, ciphertext) = rest.split_at_checked(SALT)?;
    Some(Sealed { id: Id(*id), salt, ciphertext })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_in_its_place() {
        let (secret, id, random) = (Secret::new(&[1; LENGTH]), Id([2; 8]), SystemRandom::new());
        let place = Key::new("secrets", "a", "b");
        let sealed = secret.seal(id, &place, 7, b"{}", &random).unwrap();
        let again = secret.seal(id, &place, 7, b"{}", &random).unwrap();
        assert_ne!(sealed, again);
        let read_id = |bytes: &[u8]| read(bytes).map(|sealed| sealed.id.0);
        assert_eq!(read_id(&sealed), Some(id.0));
        assert_eq!(read_id(b"{\"a\":1}"), None);
        let open = |secret: &Secret, bytes: &[u8], place: &Key, revision| {
            secret.unseal(read(bytes).unwrap(), place, revision)
        };
        assert_eq!(open(&secret, &sealed, &place, 7).as_deref(), Some(&b"{}"[..]));
        for other in [Key::new("secrets", "a", "c"), Key::new("secrets", "", "b"), Key::new("x", "a", "b")] {
            assert_eq!(open(&secret, &sealed, &other, 7), None, "{other}");
        }
        assert_eq!(open(&secret, &sealed, &place, 8), None);
        assert_eq!(open(&Secret::new(&[3; LENGTH]), &sealed, &place, 7), None);
        for index in MAGIC.len() + 8..sealed.len() {
            let mut damaged = sealed.to_vec();
            damaged[index] ^= 1;
            assert_eq!(open(&secret, &damaged, &place, 7), None, "byte {index}");
        }
    }
}
