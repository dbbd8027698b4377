//! JSON Web Tokens in the one form that is issued here: compact, ES256 (RFC 7515, 7518, 7519).
//! No other algorithm is looked at, least of all `none`.

use base64::Engine;
use base64::engine::general_purpose::URL_SAFE_NO_PAD;
use ring::signature::{ECDSA_P256_SHA256_FIXED, UnparsedPublicKey};
use serde::Deserialize;
use serde_json::{Value, json};

use super::keys::Keys;

/// Longer ones are nobody's; those issued here have about a thousand characters.
const LONGEST: usize = 16 * 1024;

#[derive(Deserialize)]
struct Header {
    alg: String,
    kid: String,
    /// What has to be understood besides; nothing is.
    crit: Option<Value>,
}

/// Signs claims.
pub(super) fn sign(keys: &Keys, claims: &Value) -> Result<String, String> {
    let (pair, id) = keys.signing();
    let encode = |value: &Value| URL_SAFE_NO_PAD.encode(value.to_string());
    let signed = format!("{}.{}", encode(&json!({"alg": "ES256", "kid": id})), encode(claims));
    let signature = pair.sign(&keys.random, signed.as_bytes());
    let signature = signature.map_err(|_| "the token cannot be signed".to_owned())?;
    Ok(format!("{signed}.{}", URL_SAFE_NO_PAD.encode(signature)))
}

/// The claims of a token that one of the keys has signed.
pub(super) fn verify(keys: &Keys, token: &str) -> Result<Value, String> {
    let refused = || "it is not a token of this server".to_owned();
    if token.len() > LONGEST {
        return Err(refused());
    }
    let (signed, signature) = token.rsplit_once('.').ok_or_else(refused)?;
    let (header, claims) = signed.split_once('.').ok_or_else(refused)?;
    let decode = |part: &str| URL_SAFE_NO_PAD.decode(part).map_err(|_| refused());
    let header: Header = serde_json::from_slice(&decode(header)?).map_err(|_| refused())?;
    if header.alg != "ES256" || header.crit.is_some() {
        return Err(refused());
    }
    let public = keys.public(&header.kid).ok_or_else(refused)?;
    UnparsedPublicKey::new(&ECDSA_P256_SHA256_FIXED, public)
        .verify(signed.as_bytes(), &decode(signature)?)
        .map_err(|_| refused())?;
    serde_json::from_slice(&decode(claims)?).map_err(|_| refused())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn only_what_was_signed_counts() {
        let (folder, other) = (tempfile::tempdir().unwrap(), tempfile::tempdir().unwrap());
        let keys = Keys::open(folder.path()).unwrap();
        let good = sign(&keys, &json!({"sub": "a"})).unwrap();
        assert_eq!(verify(&keys, &good).unwrap(), json!({"sub": "a"}));
        let parts: Vec<&str> = good.split('.').collect();
        let [header, claims, signature] = parts[..] else { panic!("{good}") };
        let encode = |value: Value| URL_SAFE_NO_PAD.encode(value.to_string());
        let id = keys.signing().1;
        let foreign = sign(&Keys::open(other.path()).unwrap(), &json!({"sub": "a"})).unwrap();
        for bad in [
            String::new(),
            "..".to_owned(),
            format!("{header}.{claims}"),
            format!("{header}.{claims}."),
            format!("{header}.{}.{signature}", encode(json!({"sub": "b"}))),
            format!("{}.{claims}.{signature}", encode(json!({"alg": "none", "kid": id}))),
            format!("{}.{claims}.", encode(json!({"alg": "none", "kid": id}))),
            format!("{}.{claims}.{signature}", encode(json!({"alg": "HS256", "kid": id}))),
            format!("{good}=="),
            format!("{good}.a"),
            foreign,
            "a".repeat(LONGEST + 1),
        ] {
            assert!(verify(&keys, &bad).is_err(), "{bad}");
        }
    }
}
