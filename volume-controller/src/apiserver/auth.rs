//! How a request proves who sends it. So far by one bearer token, the administrator's.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

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

    /// Who sends a request. Without any proof it is nobody in particular; a wrong proof is refused.
    pub(crate) fn user(&self, headers: &HeaderMap) -> Result<User, ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else { return Ok(User::anonymous()) };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        token.and_then(|token| self.user_of(token)).ok_or(ApiError::Unauthorized)
    }

    /// Whose token it is.
    pub(crate) fn user_of(&self, token: &str) -> Option<User> {
        let digest: [u8; 32] = Sha256::digest(token).into();
        (digest == self.admin).then(|| User::new("admin", &[MASTERS, AUTHENTICATED]))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let authenticator = Authenticator::new("secret");
        for (value, expected) in [
            (Some("Bearer secret"), Some("admin")),
            (Some("bearer secret"), Some("admin")),
            (Some("Bearer other"), None),
            (Some("Basic secret"), None),
            (Some("secret"), None),
            (Some("Bearer "), None),
            (None, Some("system:anonymous")),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            let user = authenticator.user(&headers).ok();
            assert_eq!(user.as_ref().map(|user| user.name.as_str()), expected, "{value:?}");
            assert_eq!(user.is_some_and(|user| user.is_in(MASTERS)), expected == Some("admin"));
        }
    }
}
