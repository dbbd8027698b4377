//! How a request proves who sends it: by a client certificate, a bearer token, or being a
//! process of this machine.

use http::{HeaderMap, header};
use jiff::Timestamp;
use sha2::{Digest, Sha256};

use super::peer::Peer;
use super::status::ApiError;
use super::user::{AUTHENTICATED, MASTERS, User};

/// What requests may prove themselves with.
pub(crate) struct Authenticator {
    /// Hashes are compared, so that the time of the comparison tells nothing about the token.
    admin: [u8; 32],
}

impl Authenticator {
    pub(crate) fn new(token: &str) -> Self {
        Self { admin: Sha256::digest(token).into() }
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
            return token.and_then(|token| self.user_of(token)).ok_or(ApiError::Unauthorized);
        }
        match peer {
            Peer::Local(user) => Ok(user.clone()),
            Peer::Unknown => Ok(User::anonymous()),
            Peer::Certified(_) | Peer::Disbelieved => Err(ApiError::Unauthorized),
        }
    }

    /// Whose token it is.
    pub(crate) fn user_of(&self, token: &str) -> Option<User> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        (digest == self.admin).then(|| User::new("admin", &[MASTERS, AUTHENTICATED]))
    }
}

#[cfg(test)]
mod tests {
    use super::super::peer::Certified;
    use super::*;

    #[test]
    fn proofs() {
        let authenticator = Authenticator::new("secret");
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
