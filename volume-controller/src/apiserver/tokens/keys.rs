//! The keys that sign tokens: in `pki/sa.key`, as PEM, one after the other. The first signs,
//! all are believed, so that a key can be replaced without taking back what it signed.

use std::path::Path;

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use rcgen::{KeyPair, PublicKeyData};
use ring::rand::SystemRandom;
use ring::signature::{ECDSA_P256_SHA256_FIXED_SIGNING, EcdsaKeyPair, KeyPair as _};
use rustls::pki_types::PrivatePkcs8KeyDer;
use rustls::pki_types::pem::PemObject;
use serde_json::{Value, json};
use sha2::{Digest, Sha256};

use crate::apiserver::durable;
use crate::apiserver::error::ServeError;

/// The length of an uncompressed point of P-256: 4, x, y.
const POINT: usize = 65;

/// A key and its name in tokens.
struct Key {
    id: String,
    pair: EcdsaKeyPair,
}

/// Never empty.
pub(crate) struct Keys {
    first: Key,
    others: Vec<Key>,
    pub(super) random: SystemRandom,
}

impl Keys {
    /// Reads the keys from `folder`, or makes one.
    pub(crate) fn open(folder: &Path) -> Result<Self, ServeError> {
        let path = folder.join("sa.key");
        let file = |doing, source| ServeError::File { doing, path: path.clone(), source };
        let damaged = |why: String| ServeError::Damaged { path: path.clone(), why };
        let pem = match durable::read(&path).map_err(|source| file("read", source))? {
            Some(pem) => pem,
            None => {
                let fresh = KeyPair::generate().map_err(|e| ServeError::Certificate(e.to_string()))?;
                let pem = fresh.serialize_pem();
                durable::write(&path, pem.as_bytes()).map_err(|source| file("write", source))?;
                pem
            }
        };
        let random = SystemRandom::new();
        let mut keys = Vec::new();
        for der in PrivatePkcs8KeyDer::pem_slice_iter(pem.as_bytes()) {
            let der = der.map_err(|error| damaged(error.to_string()))?;
            let der = der.secret_pkcs8_der();
            let pair = EcdsaKeyPair::from_pkcs8(&ECDSA_P256_SHA256_FIXED_SIGNING, der, &random);
            let pair = pair.map_err(|error| damaged(format!("no key of P-256: {error}")))?;
            let read = KeyPair::try_from(der).map_err(|error| damaged(error.to_string()))?;
            // As upstream names them: by the hash of the public key.
            let id = URL_SAFE_NO_PAD.encode(Sha256::digest(read.subject_public_key_info()));
            keys.push(Key { id, pair });
        }
        let mut keys = keys.into_iter();
        let first = keys.next().ok_or_else(|| damaged("it has no private key as PKCS #8".to_owned()))?;
        Ok(Self { first, others: keys.collect(), random })
    }

    /// The keys' names; the first is that of the one that signs.
    pub(crate) fn ids(&self) -> Vec<String> {
        self.all().map(|key| key.id.clone()).collect()
    }

    /// The key that signs, and its name.
    pub(super) fn signing(&self) -> (&EcdsaKeyPair, &str) {
        (&self.first.pair, &self.first.id)
    }

    /// The public half of the key of this name.
    pub(super) fn public(&self, id: &str) -> Option<&[u8]> {
        self.all().find(|key| key.id == id).map(|key| key.pair.public_key().as_ref())
    }

    fn all(&self) -> impl Iterator<Item = &Key> {
        std::iter::once(&self.first).chain(&self.others)
    }

    /// The public halves as a JSON Web Key Set (RFC 7517, section 5; RFC 7518, section 6.2).
    pub(super) fn set(&self) -> Value {
        let key = |key: &Key| {
            let point = key.pair.public_key().as_ref();
            let half = |from: usize, to| URL_SAFE_NO_PAD.encode(point.get(from..to).unwrap_or_default());
            json!({
                "use": "sig", "kty": "EC", "crv": "P-256", "alg": "ES256", "kid": key.id,
                "x": half(1, 33), "y": half(33, POINT),
            })
        };
        json!({"keys": self.all().map(key).collect::<Vec<_>>()})
    }
}

#[cfg(test)]
mod tests {
    use super::super::jwt;
    use super::*;

    #[test]
    fn a_replaced_key_is_believed_until_it_is_removed() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("sa.key");
        let old = Keys::open(folder.path()).unwrap();
        let token = jwt::sign(&old, &json!({"a": 1})).unwrap();
        let before = std::fs::read_to_string(&path).unwrap();
        let fresh = KeyPair::generate().unwrap().serialize_pem();
        std::fs::write(&path, format!("{fresh}{before}")).unwrap();
        let both = Keys::open(folder.path()).unwrap();
        assert_eq!(jwt::verify(&both, &token).unwrap(), json!({"a": 1}));
        assert_ne!(both.signing().1, old.signing().1);
        assert_eq!(both.set()["keys"].as_array().unwrap().len(), 2);
        std::fs::write(&path, fresh).unwrap();
        let new = Keys::open(folder.path()).unwrap();
        assert!(jwt::verify(&new, &token).is_err());
        assert_eq!(new.signing().1, both.signing().1);
        std::fs::write(&path, "nothing").unwrap();
        assert!(matches!(Keys::open(folder.path()), Err(ServeError::Damaged { .. })));
    }
}
