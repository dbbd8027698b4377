//! Who asks. So far one user: the administrator, by bearer token.

use http::{HeaderMap, header};
use sha2::{Digest, Sha256};

use super::status::ApiError;

/// A user, as `authentication.k8s.io` describes one.
pub(crate) struct User {
    pub(crate) name: &'static str,
    pub(crate) groups: &'static [&'static str],
}

/// Whoever holds the token in the root folder.
pub(crate) static ADMIN: User = User { name: "admin", groups: &["system:masters", "system:authenticated"] };

/// What requests may prove themselves with.
pub(crate) struct Authenticator {
    /// Hashes are compared, so that the time of the comparison tells nothing about the token.
    admin: [u8; 32],
}

impl Authenticator {
    pub(crate) fn new(token: &str) -> Self {
        Self { admin: Sha256::digest(token).into() }
    }

    /// The user of a request. Paths that tell nothing about the cluster are open
    /// to everybody, as upstream's `system:public-info-viewer` has it.
    pub(crate) fn check(&self, path: &str, headers: &HeaderMap) -> Result<(), ApiError> {
        let Some(value) = headers.get(header::AUTHORIZATION) else {
            let is_public = matches!(path, "/healthz" | "/livez" | "/readyz" | "/version" | "/version/");
            return if is_public { Ok(()) } else { Err(ApiError::Unauthorized) };
        };
        let token = value.to_str().ok().and_then(|value| {
            let (scheme, token) = value.split_once(' ')?;
            scheme.eq_ignore_ascii_case("bearer").then(|| token.trim())
        });
        let digest: Option<[u8; 32]> = token.map(|token| Sha256::digest(token).into());
        if digest == Some(self.admin) { Ok(()) } else { Err(ApiError::Unauthorized) }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tokens() {
        let authenticator = Authenticator::new("secret");
        for (path, value, allowed) in [
            ("/api/v1/pods", Some("Bearer secret"), true),
            ("/api/v1/pods", Some("bearer secret"), true),
            ("/api/v1/pods", Some("Bearer other"), false),
            ("/api/v1/pods", Some("Basic secret"), false),
            ("/api/v1/pods", Some("secret"), false),
            ("/api/v1/pods", None, false),
            ("/version", None, true),
            ("/version", Some("Bearer other"), false),
            ("/metrics", None, false),
        ] {
            let mut headers = HeaderMap::new();
            if let Some(value) = value {
                headers.insert(header::AUTHORIZATION, value.parse().unwrap());
            }
            assert_eq!(authenticator.check(path, &headers).is_ok(), allowed, "{path} {value:?}");
        }
    }
}
