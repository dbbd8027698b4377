//! A connection to the server: made, set up, and checked to keep what it acknowledges.

use std::time::Duration;

use sqlx::ConnectOptions;
use sqlx::postgres::{PgConnectOptions, PgConnection};
use thiserror::Error;

use crate::store::{Database, Location, OpenError};

/// The oldest server that was tried, as `server_version_num`.
const OLDEST: i32 = 150_000;

/// What holds for every session. A statement that hangs ends with an error. A process that
/// is stopped in the middle of a transaction is thrown out, so that its lock on the counter does
/// not stop the others. One whose machine or network is gone is thrown out as well, within about ten seconds:
/// if the server waits for an answer by `tcp_user_timeout`, if it has nothing to say by the keepalives, without which it
/// would keep an idle session, and its lock, for hours. (Over a unix socket these do nothing, and need not.)
/// `synchronous_commit` is raised where the server's own setting would acknowledge before the commit is on the disk.
pub(super) const SETTINGS: &str = "
    SET search_path = holdfast;
    SET statement_timeout = '10s';
    SET lock_timeout = '5s';
    SET idle_in_transaction_session_timeout = '10s';
    SET tcp_user_timeout = '10s';
    SET tcp_keepalives_idle = 5;
    SET tcp_keepalives_interval = 2;
    SET tcp_keepalives_count = 3;
    SET default_transaction_isolation = 'read committed';
    SET default_transaction_read_only = off;
    SET client_min_messages = warning;
    SELECT set_config('synchronous_commit', 'on', false)
    WHERE current_setting('synchronous_commit') NOT IN ('on', 'remote_apply');";

/// Any call, connecting included, takes less; what takes longer has failed. Longer than
/// the server's own limits, so that the server is the first to say what hangs.
pub(super) const DEADLINE: Duration = Duration::from_secs(15);
/// The same for reading everything.
pub(super) const LOAD_DEADLINE: Duration = Duration::from_secs(600);

/// Why there is no session.
#[derive(Debug, Error)]
pub(super) enum SessionError {
    /// The server does not keep what it acknowledges, or takes no writes.
    #[error("{0}")]
    Unfit(String),
    #[error(transparent)]
    Database(#[from] sqlx::Error),
}

impl SessionError {
    /// The same while a store is being opened.
    pub(super) fn into_open(self, database: &Database) -> OpenError {
        match self {
            Self::Unfit(why) => OpenError::Unfit { store: Location::Postgres(database.clone()), why },
            // A certificate that is not accepted comes as invalid data.
            Self::Database(sqlx::Error::Io(error)) if error.kind() != std::io::ErrorKind::InvalidData => {
                let source = sqlx::Error::Io(error);
                OpenError::Unreachable { store: Location::Postgres(database.clone()), source: source.into() }
            }
            Self::Database(source) => failed("connect to", database)(source),
        }
    }

    /// The same once the store is open.
    pub(super) fn into_sqlx(self) -> sqlx::Error {
        match self {
            Self::Unfit(why) => sqlx::Error::Protocol(why),
            Self::Database(source) => source,
        }
    }
}

/// An error of the database while a store is being opened.
pub(super) fn failed(doing: &'static str, database: &Database) -> impl FnOnce(sqlx::Error) -> OpenError {
    let store = Location::Postgres(database.clone());
    move |source| OpenError::Database { doing, store, source: source.into() }
}

/// How this process connects. Its name is what others are told who has the store.
pub(super) fn options(database: &Database) -> PgConnectOptions {
    let host = rustix::system::uname().nodename().to_string_lossy().into_owned();
    // The server cuts names at 63 bytes.
    let name = format!("holdfast process {} on {host}", std::process::id());
    database.options().clone().application_name(&name).disable_statement_logging()
}

/// A new session, set up and checked.
pub(super) async fn connect(
    database: &Database,
    allow_fsync_off: bool,
) -> Result<PgConnection, SessionError> {
    let mut connection = within(DEADLINE, options(database).connect()).await?;
    let (version, encoding, fsync, is_standby): (i32, String, String, bool) = within(DEADLINE, async {
        sqlx::raw_sql(SETTINGS).execute(&mut connection).await?;
        sqlx::query_as(
            "SELECT current_setting('server_version_num')::int, current_setting('server_encoding'),
                    current_setting('fsync'), pg_is_in_recovery()",
        )
        .fetch_one(&mut connection)
        .await
    })
    .await?;
    let unfit = |why: String| Err(SessionError::Unfit(why));
    if version < OLDEST {
        return unfit(format!(
            "the server is PostgreSQL {}, older than {}",
            version / 10_000,
            OLDEST / 10_000
        ));
    }
    if encoding != "UTF8" {
        return unfit(format!(
            "the database's encoding is {encoding}; create it with ENCODING 'UTF8' TEMPLATE template0"
        ));
    }
    if is_standby {
        return unfit(
            "the server is a standby, which takes no writes; give the address of the primary".to_owned(),
        );
    }
    if fsync != "on" && !allow_fsync_off {
        return unfit(
            "the server runs with fsync=off and would lose acknowledged writes in a crash; set fsync = on in \
             postgresql.conf and restart it"
                .to_owned(),
        );
    }
    Ok(connection)
}

/// Waits for a call, but not for ever.
pub(super) async fn within<T>(
    deadline: Duration,
    call: impl Future<Output = sqlx::Result<T>>,
) -> sqlx::Result<T> {
    tokio::time::timeout(deadline, call).await.unwrap_or_else(|_| Err(silence(deadline)))
}

/// The same while a store is being opened.
pub(super) async fn in_time<T>(
    deadline: Duration,
    database: &Database,
    call: impl Future<Output = Result<T, OpenError>>,
) -> Result<T, OpenError> {
    tokio::time::timeout(deadline, call)
        .await
        .unwrap_or_else(|_| Err(SessionError::Database(silence(deadline)).into_open(database)))
}

fn silence(deadline: Duration) -> sqlx::Error {
    let text = format!("the server did not answer within {deadline:?}");
    sqlx::Error::Io(std::io::Error::new(std::io::ErrorKind::TimedOut, text))
}
