//! Where `holdfast up` keeps its objects: in its root folder, or in a PostgreSQL database.

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::Path,
};

use anyhow::{Context, Result, bail, ensure};
use holdfast_volume_controller::store::{self, Database, Location, Store};

/// Names the database in the root folder, without a password.
const RECORD: &str = "store";
/// The objects themselves, where there is no database.
const FILE: &str = "state.db";

/// Opens the store of this root. A root belongs to one store: with another, or a new and empty one, nothing
/// that is mounted below the root would be wanted any more, and the node agent would unmount it.
pub(crate) async fn open(root: &Path, database: Option<Database>) -> Result<Store> {
    let file = root.join(FILE);
    let record = root.join(RECORD);
    let recorded = match fs::read_to_string(&record) {
        Ok(text) => Some(text.trim().to_owned()),
        Err(error) if error.kind() == ErrorKind::NotFound => None,
        Err(error) => return Err(error).with_context(|| format!("cannot read {}", record.display())),
    };
    let Some(database) = database else {
        if let Some(recorded) = recorded {
            bail!(
                "the objects of this root are in {recorded}: give --store, or remove {} to begin without them",
                record.display()
            );
        }
        return Ok(Store::open(store::Config::new(file)).await?);
    };
    let shown = database.to_string();
    if let Some(recorded) = recorded {
        ensure!(
            recorded == shown,
            "the objects of this root are in {recorded}, not in {shown}: give that as --store, or remove {} if both are \
             the same database",
            record.display()
        );
    } else {
        let has_file = file.try_exists().with_context(|| format!("cannot look for {}", file.display()))?;
        ensure!(
            !has_file,
            "the objects of this root are in {}: leave --store out, or move the file away to begin without them",
            file.display()
        );
    }
    let mut config = store::Config::new(Location::Postgres(database));
    // The controllers of this process assume that nobody else's run.
    config.is_alone = true;
    let store = Store::open(config).await?;
    // Only now, so that a mistyped URL is not remembered. A crash before this leaves a root that nothing
    // was started on.
    if let Err(error) = remember(root, &record, &shown) {
        store.close().await;
        return Err(error).with_context(|| format!("cannot write {}", record.display()));
    }
    Ok(store)
}

fn remember(root: &Path, record: &Path, shown: &str) -> std::io::Result<()> {
    let new = root.join("store.new");
    let mut file = File::create(&new)?;
    writeln!(file, "{shown}")?;
    file.sync_all()?;
    fs::rename(&new, record)?;
    File::open(root)?.sync_all()
}
