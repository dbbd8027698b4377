//! What the database knows of the keys that its servers share.

use sqlx::Connection;
use sqlx::postgres::PgConnection;

use super::session::failed;
use crate::store::{Credential, Database, Location, OpenError};

/// Refuses a server that lacks keys of the others.
pub(super) async fn compare(
    connection: &mut PgConnection,
    database: &Database,
    here: &[Credential],
) -> Result<(), OpenError> {
    let noted: Vec<(String, String)> =
        sqlx::query_as("SELECT file, fingerprint FROM credential ORDER BY file")
            .fetch_all(connection)
            .await
            .map_err(failed("read by which keys the servers know one another in", database))?;
    let files = Credential::differing(&noted, here);
    if files.is_empty() {
        return Ok(());
    }
    Err(OpenError::OtherKeys { store: Location::Postgres(database.clone()), files })
}

/// Notes what signs and encrypts here; unless `is_alone` only if this server has what is noted. Under the counter's lock,
/// so that of two servers that are the first at once one is the second.
pub(super) async fn note(
    connection: &mut PgConnection,
    database: &Database,
    here: &[Credential],
    is_alone: bool,
) -> Result<(), OpenError> {
    let mut transaction = connection.begin().await.map_err(failed("begin in", database))?;
    sqlx::query("SELECT 1 FROM revision FOR UPDATE")
        .execute(&mut *transaction)
        .await
        .map_err(failed("lock", database))?;
    if !is_alone {
        compare(&mut transaction, database, here).await?;
    }
    let (files, first): (Vec<&str>, Vec<&str>) = here
        .iter()
        .filter_map(|credential| Some((credential.file, credential.fingerprints.first()?.as_str())))
        .unzip();
    sqlx::query(
        "INSERT INTO credential (file, fingerprint) SELECT * FROM unnest($1::text[], $2::text[])
         ON CONFLICT (file) DO UPDATE SET fingerprint = excluded.fingerprint",
    )
    .bind(files)
    .bind(first)
    .execute(&mut *transaction)
    .await
    .map_err(failed("note by which keys the servers know one another in", database))?;
    transaction.commit().await.map_err(failed("note by which keys the servers know one another in", database))
}
