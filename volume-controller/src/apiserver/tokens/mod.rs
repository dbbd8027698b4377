//! Tokens of service accounts: signed statements that are checked against the objects they
//! speak of at every use, so that deleting one of these takes the token back.
//!
//! Source: KEP-1205 (bound service account tokens), KEP-4193 (improvements of these).

mod bound;
mod claims;
pub(crate) mod issuer;
mod jwt;
mod keys;
mod request;

use std::sync::Arc;

use jiff::Timestamp;

use super::user::User;
use crate::store::Store;
pub(crate) use keys::Keys;
pub(crate) use request::issue;

/// Who issues the tokens, and whom they are meant for unless asked otherwise: this server.
pub(crate) const ISSUER: &str = "https://kubernetes.default.svc";

/// Issues tokens, and knows its own.
pub(crate) struct Tokens {
    keys: Arc<Keys>,
    store: Store,
}

impl Tokens {
    pub(crate) fn new(keys: Arc<Keys>, store: Store) -> Self {
        Self { keys, store }
    }

    /// Whose token it is, and for which of `audiences` it is meant; an error says for people why
    /// it is nobody's.
    pub(crate) fn user_of(
        &self,
        token: &str,
        audiences: &[&str],
        now: Timestamp,
    ) -> Result<(User, Vec<String>), String> {
        let claims = jwt::verify(&self.keys, token)?;
        let claims = claims::Claims::read(&claims)?;
        claims.check_time(now)?;
        let meant = claims.audiences.iter().filter(|one| audiences.contains(&one.as_str())).cloned();
        let meant: Vec<String> = meant.collect();
        if meant.is_empty() {
            return Err(format!("the token is for {:?}", claims.audiences));
        }
        bound::check(&self.store, &claims, now)?;
        Ok((claims.user(), meant))
    }
}
