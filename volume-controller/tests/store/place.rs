//! Where a test's store is. The same tests run in every place.

use std::path::PathBuf;

use super::*;
use holdfast_test_needs::postgres::{Cluster, Durability};
use holdfast_volume_controller::store::Database;
use sqlx::postgres::PgConnection;
use sqlx::{AssertSqlSafe, Connection};

/// An SQLite file or a PostgreSQL database, new and empty.
pub(crate) enum Place {
    File { path: PathBuf, _folder: Option<TempDir> },
    Postgres { url: String, durability: Durability },
}

impl Place {
    pub(crate) fn file() -> Self {
        let folder = tempfile::tempdir().unwrap();
        Self::File { path: folder.path().join("state.db"), _folder: Some(folder) }
    }

    /// A database on the server that all tests share; `None` when there is no PostgreSQL here, which was said.
    pub(crate) async fn postgres() -> Option<Self> {
        Some(Self::on(Cluster::shared()?).await)
    }

    /// A database on a server of the test's own.
    pub(crate) async fn on(cluster: &Cluster) -> Self {
        Self::Postgres { url: cluster.database(), durability: cluster.durability() }
    }

    /// As a word, of which another process makes the same place with [`Place::named`].
    pub(crate) fn name(&self) -> String {
        match self {
            Self::File { path, .. } => path.to_str().unwrap().to_owned(),
            Self::Postgres { url, durability: Durability::Full } => url.clone(),
            Self::Postgres { url, durability: Durability::None } => format!("fsync=off {url}"),
        }
    }

    pub(crate) fn named(name: &str) -> Self {
        let (url, durability) = match name.strip_prefix("fsync=off ") {
            Some(url) => (url, Durability::None),
            None => (name, Durability::Full),
        };
        match url.starts_with("postgres:") {
            true => Self::Postgres { url: url.to_owned(), durability },
            false => Self::File { path: name.into(), _folder: None },
        }
    }

    pub(crate) fn config(&self) -> Config {
        match self {
            Self::File { path, .. } => Config::new(&**path),
            Self::Postgres { url, durability } => {
                let mut config = Config::new(url.parse::<Database>().unwrap());
                config.allow_fsync_off = *durability == Durability::None;
                config
            }
        }
    }

    /// Another one of the same kind.
    pub(crate) async fn another(&self) -> Self {
        match self {
            Self::File { .. } => Self::file(),
            Self::Postgres { .. } => Self::postgres().await.unwrap(),
        }
    }

    pub(crate) async fn open(&self) -> Store {
        Store::open(self.config()).await.unwrap()
    }

    /// The same database as it is reached through another socket, which lies in `folder`.
    pub(crate) fn through(&self, folder: &std::path::Path) -> Self {
        let Self::Postgres { url, durability } = self else { panic!("not PostgreSQL") };
        let (before, after) = url.split_once("host=").unwrap();
        let (_, after) = after.split_once('&').unwrap();
        Self::Postgres { url: format!("{before}host={}&{after}", folder.display()), durability: *durability }
    }

    /// The socket of the server.
    pub(crate) fn socket(&self) -> PathBuf {
        let Self::Postgres { url, .. } = self else { panic!("not PostgreSQL") };
        let (_, after) = url.split_once("host=").unwrap();
        PathBuf::from(after.split_once('&').unwrap().0).join(".s.PGSQL.5432")
    }

    /// Asks the database itself, behind the store's back.
    pub(crate) async fn number(&self, sql: &str) -> i64 {
        match self {
            Self::File { path, .. } => {
                let mut file = file::connect(path).await;
                let number = sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut file).await.unwrap();
                file.close().await.unwrap();
                number
            }
            Self::Postgres { .. } => {
                let mut connection = self.connect().await;
                sqlx::query_scalar(AssertSqlSafe(sql)).fetch_one(&mut connection).await.unwrap()
            }
        }
    }

    /// Changes the database itself, behind the store's back.
    pub(crate) async fn run(&self, sql: &'static str) {
        match self {
            Self::File { path, .. } => {
                let mut file = file::connect(path).await;
                sqlx::raw_sql(sql).execute(&mut file).await.unwrap();
                file.close().await.unwrap();
            }
            Self::Postgres { .. } => {
                sqlx::raw_sql(sql).execute(&mut self.connect().await).await.unwrap();
            }
        }
    }

    /// Cuts every other connection to the database, whatever it is in the middle of.
    pub(crate) async fn end_sessions(&self) {
        let mut connection = self.connect().await;
        sqlx::raw_sql(
            "SELECT pg_terminate_backend(pid) FROM pg_stat_activity
             WHERE datname = current_database() AND pid <> pg_backend_pid()",
        )
        .execute(&mut connection)
        .await
        .unwrap();
    }

    /// A connection behind the store's back, to PostgreSQL.
    pub(crate) async fn connect(&self) -> PgConnection {
        let Self::Postgres { url, .. } = self else { panic!("not PostgreSQL") };
        let mut connection = PgConnection::connect(url).await.unwrap();
        sqlx::raw_sql("SET search_path = holdfast").execute(&mut connection).await.unwrap();
        connection
    }
}

/// Makes a test of each function, for each place: `name` or `name(flavor = "multi_thread")`.
macro_rules! in_every_place {
    ($($name:ident $(($($flavor:tt)*))?),* $(,)?) => {
        mod sqlite {
            $(#[tokio::test $(($($flavor)*))?]
            async fn $name() {
                super::$name($crate::place::Place::file()).await;
            })*
        }

        mod postgres {
            $(#[tokio::test $(($($flavor)*))?]
            async fn $name() {
                if let Some(place) = $crate::place::Place::postgres().await {
                    super::$name(place).await;
                }
            })*
        }
    };
}
pub(crate) use in_every_place;
