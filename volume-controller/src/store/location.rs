//! Where a store is: an SQLite file or a PostgreSQL database.

use std::ffi::OsStr;
use std::fmt;
use std::path::{Path, PathBuf};
use std::str::FromStr;

use sqlx::postgres::{PgConnectOptions, PgSslMode};
use thiserror::Error;

/// Where a store is. Shown without a password.
#[derive(Debug, Clone)]
pub enum Location {
    /// An SQLite file. Its folder must exist; `<file>.lock`, `<file>-wal` and `<file>-shm` lie next to it.
    File(PathBuf),
    /// A PostgreSQL database. It must exist, and be used for this store only.
    Postgres(Database),
}

/// A PostgreSQL database and how it is reached.
#[derive(Clone)]
pub struct Database {
    options: Box<PgConnectOptions>,
}

/// A URL does not name a PostgreSQL database.
#[derive(Debug, Error)]
pub enum NotADatabase {
    /// What was given is none.
    #[error(
        "not the URL of a PostgreSQL database ({why}): write postgres://USER@HOST:PORT/DATABASE, or \
         postgres:///DATABASE?host=/run/postgresql&user=USER for a unix socket"
    )]
    Url {
        /// What is wrong with it.
        why: String,
    },
    /// The environment asks for what is not known here.
    #[error("the environment's PGSSLMODE is not one of {}: correct or remove it", SSL_MODES.join(", "))]
    Environment,
}

/// `postgres://USER:PASSWORD@HOST:PORT/DATABASE?sslmode=verify-full`, as libpq writes it. What is left
/// out comes from libpq's environment variables and `.pgpass`, so that a password need not be in the URL.
impl FromStr for Database {
    type Err = NotADatabase;

    fn from_str(url: &str) -> Result<Self, NotADatabase> {
        let not = |why: String| NotADatabase::Url { why };
        if !url.starts_with("postgres://") && !url.starts_with("postgresql://") {
            return Err(not("it does not begin with postgres://".to_owned()));
        }
        if url.contains("@/") || url.contains("@?") {
            return Err(not("it has a user but no host; for a unix socket give ?user= as well".to_owned()));
        }
        refuse_parameters(url).map_err(not)?;
        // What the parser says may quote the URL, with its password.
        let options: PgConnectOptions =
            url.parse().map_err(|_: sqlx::Error| not("it cannot be read".to_owned()))?;
        if !has_ssl_mode(url) && !is_ssl_mode(std::env::var_os("PGSSLMODE").as_deref()) {
            return Err(NotADatabase::Environment);
        }
        // libpq would try without encryption first; the library would stay there.
        if matches!(options.get_ssl_mode(), PgSslMode::Allow) {
            return Err(not("sslmode=allow is not known here, take prefer or verify-full".to_owned()));
        }
        Ok(Self { options: Box::new(options) })
    }
}

/// What may follow the `?`. The parser ignores what it does not know, and logs it: a slip in `sslmode`
/// would then be an open connection, and one in `password` a password in the log.
const PARAMETERS: [&str; 10] =
    ["host", "port", "dbname", "user", "password", "sslmode", "sslrootcert", "sslcert", "sslkey", "options"];

fn refuse_parameters(url: &str) -> Result<(), String> {
    let Some((_, query)) = url.split_once('?') else { return Ok(()) };
    if query.split('&').all(|pair| PARAMETERS.contains(&name_of(pair))) {
        return Ok(());
    }
    Err(format!("it has a parameter that is none of {}", PARAMETERS.join(", ")))
}

fn name_of(pair: &str) -> &str {
    pair.split_once('=').map_or(pair, |(name, _)| name)
}

fn has_ssl_mode(url: &str) -> bool {
    url.split_once('?').is_some_and(|(_, query)| query.split('&').any(|pair| name_of(pair) == "sslmode"))
}

/// What `sslmode` may be, without libpq's `allow`.
const SSL_MODES: [&str; 5] = ["disable", "prefer", "require", "verify-ca", "verify-full"];

/// Whether the environment's mode, if it has one, is known. The library takes `prefer` for what it does
/// not know, which is an open connection where the server offers nothing else.
fn is_ssl_mode(mode: Option<&OsStr>) -> bool {
    let Some(mode) = mode else { return true };
    mode.to_str().is_some_and(|mode| SSL_MODES.iter().any(|known| mode.eq_ignore_ascii_case(known)))
}

impl Database {
    pub(crate) fn options(&self) -> &PgConnectOptions {
        &self.options
    }
}

impl fmt::Display for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let user = self.options.get_username();
        let database = self.options.get_database().unwrap_or(user);
        let port = self.options.get_port();
        let host = self.options.get_host();
        // The library has a socket's folder in the one or the other place.
        let folder = self.options.get_socket().and_then(|path| path.to_str());
        match folder.or(host.starts_with('/').then_some(host)) {
            Some(folder) => write!(f, "postgres:///{database}?host={folder}&port={port}&user={user}"),
            None => write!(f, "postgres://{user}@{host}:{port}/{database}"),
        }
    }
}

/// The options themselves would print the password.
impl fmt::Debug for Database {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Database({self})")
    }
}

impl fmt::Display for Location {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match self {
            Self::File(path) => path.display().fmt(f),
            Self::Postgres(database) => database.fmt(f),
        }
    }
}

impl From<PathBuf> for Location {
    fn from(path: PathBuf) -> Self {
        Self::File(path)
    }
}

impl From<&Path> for Location {
    fn from(path: &Path) -> Self {
        Self::File(path.to_owned())
    }
}

impl From<Database> for Location {
    fn from(database: Database) -> Self {
        Self::Postgres(database)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_database_is_shown_without_its_password() {
        for (url, shown) in [
            ("postgres://me:secret@db.example:5433/store", "postgres://me@db.example:5433/store"),
            ("postgresql://me@db/store?password=secret&port=5432", "postgres://me@db:5432/store"),
            (
                "postgres:///store?host=/run/pg&port=5432&user=me&password=secret",
                "postgres:///store?host=/run/pg&port=5432&user=me",
            ),
        ] {
            let database: Database = url.parse().unwrap();
            assert_eq!(database.to_string(), shown);
            assert_eq!(Location::from(database.clone()).to_string(), shown);
            assert!(!format!("{database:?}").contains("secret"));
        }
    }

    #[test]
    fn what_is_no_url_of_a_database() {
        for url in [
            "",
            "state.db",
            "mysql://me@db/store",
            "postgres://me:secret@db:port/store",
            "postgres://me:secret@/store?host=/run/pg",
            "postgres://me@db/store?passwort=secret",
            "postgres://me:secret@db/store?sslmod=verify-full",
            "postgres://me:secret@db/store?sslmode=allow",
            "postgres://me:secret@db/store?sslmode=ALLOW",
            "postgres://me:secret@db/store?sslmode=%61llow",
            "postgres://me:secret@db/store?sslmode=verify-ful",
        ] {
            let error = Database::from_str(url).unwrap_err().to_string();
            assert!(error.contains("write postgres://") && !error.contains("secret"), "{error}");
        }
    }

    #[test]
    fn a_slip_in_the_environment_is_no_open_connection() {
        for mode in [None, Some("prefer"), Some("verify-full"), Some("VERIFY-CA")] {
            assert!(is_ssl_mode(mode.map(OsStr::new)), "{mode:?}");
        }
        for mode in ["", "verify-ful", "allow", "verify_full", "required"] {
            assert!(!is_ssl_mode(Some(OsStr::new(mode))), "{mode:?}");
        }
        assert!(has_ssl_mode("postgres://me@db/store?port=1&sslmode=require"));
        assert!(!has_ssl_mode("postgres://me@db/sslmode=?options=sslmode=require"));
    }
}
