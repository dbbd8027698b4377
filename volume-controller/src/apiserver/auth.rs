//! How a request proves who sends it: by a client certificate, a bearer token, or being a
//! process of this machine.

use http::{HeaderMap, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::peer::Peer;
use super::status::ApiError;
use super::tokens::{ISSUER, Tokens};
use super::user::{AUTHENTICATED, MASTERS, User};

/// What requests may prove themselves with.
pub(crate) struct Authenticator {
    /// Hashes are compared, so that the time of the comparison tells nothing about the token.
    admin: [u8; 32],
    pub(crate) tokens: Tokens,
}

impl Authenticator {
    pub(crate) fn new(token: &str, tokens: Tokens) -> Self {
        Self { admin: Sha256::digest(token).into(), tokens }
    }

    /// Who sends a request, and whether that is proved. A good certificate counts before a token, as
    /// upstream has it; a token before the user of a unix socket, who may want to do with less.
    /// Without any proof it is nobody in particular; a wrong one is refused.
    pub(crate) fn user(&self, peer: &Peer, headers: &HeaderMap, now: Timestamp) -> Result<User, ApiError> {
        match peer {
            Peer::Certified(certified) if certified.is_good(now) => return Ok(certified.user.clone()),
            _ => {}
        }
        if let Some(value) = headers.get(header::AUTHORIZATION) {
            let token = value.to_str().ok().and_then(|value| {
                let (scheme, token) = value.split_once(' ')?;
                scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
            });
            let user = token.map(|token| self.user_of(token, &[ISSUER], now));
            return match user {
                Some(Ok((user, _))) => Ok(user),
                Some(Err(why)) => {
                    tracing::debug!(why, "a bearer token is not believed");
                    Err(ApiError::Unauthorized)
                }
                None => Err(ApiError::Unauthorized),
            };
        }
        match peer {
            Peer::Local(user) => Ok(user.clone()),
            Peer::Unknown => Ok(User::anonymous()),
            Peer::Certified(_) | Peer::Disbelieved => Err(ApiError::Unauthorized),
        }
    }

    /// Whose token it is, and for which of `audiences` it is meant; else why it is nobody's.
    pub(crate) fn user_of(
        &self,
        token: &str,
        audiences: &[&str],
        now: Timestamp,
    ) -> Result<(User, Vec<String>), String> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        if digest == self.admin {
            let admin = User::new("admin", &[MASTERS, AUTHENTICATED]);
            return match audiences.contains(&ISSUER) {
                true => Ok((admin, vec![ISSUER.to_owned()])),
                false => Err(format!("the token is for {ISSUER:?}")),
            };
        }
        self.tokens.user_of(token, audiences, now)
    }
}

#[cfg(test)]
mod tests {
    use std::sync::Arc;

    use super::super::peer::Certified;
    use super::super::tokens::Keys;
    use super::*;
    use crate::store::{self, Store};

    #[tokio::test]
    async fn proofs() {
        let folder = tempfile::tempdir().unwrap();
        let store = Store::open(store::Config::new(folder.path().join("state.db"))).await.unwrap();
        let keys = Arc::new(Keys::open(folder.path()).unwrap());
        let authenticator = Authenticator::new("secret", Tokens::new(keys, store));
        let now = Timestamp::UNIX_EPOCH;
        let certified = |expiry| Peer::Certified(Certified { user: User::new("ann", &[]), expiry });
        let local = || Peer::local(7, 8);
        for (peer, value, expected) in [
            (Peer::Unknown, Some("Bearer secret"), Some("admin")),
            (Peer::Unknown, Some("bearer secret"), Some("admin")),
            (Peer::Unknown, Some("Bearer other"), None),
            (Peer::Unknown, Some("Basic secret"), None),
            (Peer::Unknown, Some("secret"), None),
            (Peer::Unknown, Some("Bearer "), None),
            (Peer::Unknown, None, Some("system:anonymous")),
            (certified(0), None, Some("ann")),
            (certified(0), Some("Bearer secret"), Some("ann")),
            (certified(0), Some("Bearer other"), Some("ann")),
            (certified(-1), None, None),
            (certified(-1), Some("Bearer secret"), Some("admin")),
            (Peer::Disbelieved, None, None),
            (Peer::Disbelieved, Some("Bearer secret"), Some("admin")),
            (Peer::Disbelieved, Some("Bearer other"), None),
            (local(), None, Some("unix:7")),
            (local(), Some("Bearer secret"), Some("admin")),
            (local(), Some("Bearer other"), None),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let user = authenticator.user(&peer, &headers, now).ok();
            assert_eq!(user.as_ref().map(|user| user.name.as_str()), expected, "{peer:?} {value:?}");
            assert_eq!(user.is_some_and(|user| user.is_in(MASTERS)), expected == Some("admin"));
        }
    }
}
