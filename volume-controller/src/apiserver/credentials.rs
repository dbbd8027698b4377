//! The administrator's bearer token and kubeconfig, and what others are given.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};

use base64::Engine;
use base64::engine::general_purpose::{STANDARD, URL_SAFE_NO_PAD};
use jiff::Timestamp;
use serde_json::{Value, json};

use super::durable;
use super::error::ServeError;
use super::tls::Authority;
use super::tokens::Keys;
use crate::store::Credential;

/// Bytes of randomness in a token.
const TOKEN_BYTES: usize = 32;

/// Reads the administrator's token from `folder`, or makes one.
pub(crate) fn token(folder: &Path) -> Result<String, ServeError> {
    let path = folder.join("admin.token");
    let read = durable::read(&path);
    if let Some(text) =
        read.map_err(|source| ServeError::File { doing: "read", path: path.clone(), source })?
    {
        let token = text.trim();
        // A short token would be a hole; one with spaces cannot be sent.
        if token.len() < TOKEN_BYTES || token.contains(|c: char| !c.is_ascii_graphic()) {
            let why = format!("a token has at least {TOKEN_BYTES} visible ASCII characters");
            return Err(ServeError::Damaged { path, why });
        }
        return Ok(token.to_owned());
    }
    let token = URL_SAFE_NO_PAD.encode(rand::random::<[u8; TOKEN_BYTES]>());
    durable::write(&path, token.as_bytes()).map_err(|source| ServeError::File {
        doing: "write",
        path,
        source,
    })?;
    Ok(token)
}

/// What a root has of the keys that all servers of one store need, without making any: a client with the kubeconfig, a
/// certificate or a token of one of them is known to all.
///
/// # Errors
/// When a file cannot be read, or holds something else.
pub fn shared_credentials(root: &Path) -> Result<Vec<Credential>, ServeError> {
    let folder = root.join("pki");
    let is_there = |name: &str| {
        let path = folder.join(name);
        path.try_exists().map_err(|source| ServeError::File { doing: "look for", path, source })
    };
    let (authority, keys, admin) = ("pki/ca.crt", "pki/sa.key", "pki/admin.token");
    Ok(vec![
        Credential {
            file: authority,
            fingerprints: match is_there("ca.crt")? {
                true => {
                    let der = Authority::open(&folder, Timestamp::now())?.der()?;
                    vec![Credential::fingerprint(authority, &der)]
                }
                false => Vec::new(),
            },
        },
        Credential {
            file: keys,
            fingerprints: if is_there("sa.key")? { Keys::open(&folder)?.ids() } else { Vec::new() },
        },
        Credential {
            file: admin,
            fingerprints: match is_there("admin.token")? {
                true => vec![Credential::fingerprint(admin, token(&folder)?.as_bytes())],
                false => Vec::new(),
            },
        },
    ])
}

/// Writes `kubeconfig` into the root folder: everything a client needs, in one file.
pub(crate) fn write_kubeconfig(
    root: &Path,
    address: SocketAddr,
    authority: &str,
    token: &str,
) -> Result<PathBuf, ServeError> {
    let path = root.join("kubeconfig");
    // JSON is YAML; every client reads it.
    let config = json!({
        "apiVersion": "v1",
        "kind": "Config",
        "clusters": [{
            "name": "holdfast",
            "cluster": {
                "server": format!("https://{}", reachable(address)),
                "certificate-authority-data": STANDARD.encode(authority),
            },
        }],
        "users": [{"name": "admin", "user": {"token": token}}],
        "contexts": [{"name": "holdfast", "context": {"cluster": "holdfast", "user": "admin"}}],
        "current-context": "holdfast",
    });
    durable::write(&path, format!("{config:#}\n").as_bytes()).map_err(|source| ServeError::File {
        doing: "write",
        path: path.clone(),
        source,
    })?;
    Ok(path)
}

/// A kubeconfig for somebody else, with a client certificate of their own.
///
/// `root` is the root folder of a server that has been started once, `group` may be empty. The
/// certificate is good for `days` and cannot be taken back before: what its user may do is up
/// to the roles.
///
/// # Errors
/// When there is no server's kubeconfig or authority in `root`, or the certificate cannot be made.
pub fn kubeconfig_for(root: &Path, user: &str, group: &str, days: u16) -> Result<String, ServeError> {
    let path = root.join("kubeconfig");
    let failed = |source| ServeError::File { doing: "read", path: path.clone(), source };
    let text = std::fs::read_to_string(&path).map_err(failed)?;
    let damaged = |why: String| ServeError::Damaged { path: path.clone(), why };
    let mut config: Value = serde_json::from_str(&text).map_err(|error| damaged(error.to_string()))?;
    let pki = root.join("pki");
    // Without this a root that has lost its authority would be given another one.
    let authority = pki.join("ca.crt");
    std::fs::metadata(&authority).map_err(|source| ServeError::File {
        doing: "find",
        path: authority,
        source,
    })?;
    let now = Timestamp::now();
    let (key, certificate) = Authority::open(&pki, now)?.issue_client(user, group, days, now)?;
    config["users"] = json!([{"name": user, "user": {
        "client-certificate-data": STANDARD.encode(certificate),
        "client-key-data": STANDARD.encode(key),
    }}]);
    config["contexts"] = json!([{"name": "holdfast", "context": {"cluster": "holdfast", "user": user}}]);
    Ok(format!("{config:#}\n"))
}

/// An address that this machine can connect to: listening on all of them
/// includes the local one.
fn reachable(mut address: SocketAddr) -> SocketAddr {
    if address.ip().is_unspecified() {
        address.set_ip(match address {
            SocketAddr::V4(_) => std::net::Ipv4Addr::LOCALHOST.into(),
            SocketAddr::V6(_) => std::net::Ipv6Addr::LOCALHOST.into(),
        });
    }
    address
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_token_stays() {
        let folder = tempfile::tempdir().unwrap();
        let first = token(folder.path()).unwrap();
        assert!(first.len() >= 43);
        assert_eq!(token(folder.path()).unwrap(), first);
        std::fs::write(folder.path().join("admin.token"), "short").unwrap();
        assert!(matches!(token(folder.path()), Err(ServeError::Damaged { .. })));
    }
}
