//! Where `holdfast up` and `server` keep their objects: in the root folder, or in a PostgreSQL database. And what can be done with them.

pub(crate) mod backup;
pub(crate) mod check;
mod progress;
pub(crate) mod restore;
pub(crate) mod seen;
mod target;

use std::{
    fs::{self, File},
    io::{ErrorKind, Write},
    path::{Path, PathBuf},
    time::Duration,
};

use anyhow::{Context, Error, Result, anyhow, bail, ensure};
use holdfast_volume_controller::{
    apiserver,
    store::{self, Candidate, Database, Expected, Location, OpenError, Sharing, Store, StoreId},
};
use tokio::time::Instant;

/// Names the database and its store in the root folder, without a password.
const RECORD: &str = "store";
/// The store's name before its database is known to have it.
const INTENT: &str = "store.new";
/// What secrets are encrypted with at rest.
const KEYS: &str = "encryption.keys";
/// The objects themselves, where there is no database.
const FILE: &str = "state.db";

/// How long a database that was there a moment ago may be away while a process starts.
const PATIENCE: Duration = Duration::from_secs(60);
/// Pause between attempts to reach it.
const PAUSE: Duration = Duration::from_secs(1);

/// What a root remembers of its database. An operator may leave out the address, never the name.
#[derive(Debug, PartialEq, Eq)]
struct Record {
    address: Option<String>,
    id: StoreId,
}

/// What a store is wanted for.
#[derive(Clone, Copy, PartialEq, Eq)]
pub(crate) enum Purpose {
    /// By a process whose controllers, or whoever else acts on it, assume that there are no others.
    Alone,
    /// By one of several servers.
    Serve,
    /// To be made anew, under the name that the root knows it by.
    Restore,
}

/// The place of a root's store.
pub(crate) struct Place {
    pub(crate) config: store::Config,
    root: PathBuf,
    /// The database's address as it is remembered, and the name of its store.
    named: Option<(String, StoreId)>,
}

/// Where the store of this root is. A root belongs to one store: with another, or a new and empty one, nothing
/// that is mounted below the root would be wanted any more, and the node agent would unmount it.
pub(crate) fn place(root: &Path, database: Option<Database>, purpose: Purpose) -> Result<Place> {
    let path = root.join(RECORD);
    let record = match read(&path)? {
        Some(text) => Some(parse(&text, &path)?),
        None => None,
    };
    let file = root.join(FILE);
    let Some(database) = database else {
        if let Some(Record { address, id }) = record {
            bail!(
                "the objects of this root are in {}: give --store, or remove {} to begin without them",
                address.unwrap_or_else(|| format!("a database with the store {id}")),
                path.display()
            );
        }
        let mut config = store::Config::new(file);
        config.keys = Some(root.join(KEYS));
        return Ok(Place { config, root: root.to_owned(), named: None });
    };
    let shown = database.to_string();
    let (id, expected) = if let Some(Record { address, id }) = record {
        if let Some(address) = address {
            ensure!(
                address == shown,
                "the objects of this root are in {address}, not in {shown}: give that as --store, or remove the address \
                 from {} if both are the same database",
                path.display()
            );
        }
        // What is to be restored may be gone altogether.
        (id, if purpose == Purpose::Restore { Expected::Mine(id) } else { Expected::Existing(id) })
    } else {
        let has_file = file.try_exists().with_context(|| format!("cannot look for {}", file.display()))?;
        ensure!(
            !has_file,
            "the objects of this root are in {}: leave --store out, or move the file away to begin without them",
            file.display()
        );
        // Another store, or the first.
        seen::forget(root)?;
        let id = intended(root)?;
        (id, Expected::Mine(id))
    };
    let mut config = store::Config::new(Location::Postgres(database));
    config.expected = expected;
    config.keys = Some(root.join(KEYS));
    config.sharing = match purpose {
        Purpose::Serve => Sharing::Servers(apiserver::shared_credentials(root)?),
        Purpose::Alone | Purpose::Restore => Sharing::Alone,
    };
    Ok(Place { config, root: root.to_owned(), named: Some((shown, id)) })
}

impl Place {
    /// What to do about a store that does not open.
    pub(crate) fn explain(&self, error: OpenError) -> Error {
        explain(error, &self.config, &self.root.join(RECORD))
    }

    /// Ties the root to the store that is open now. Only now, so that a mistyped URL is not remembered. A crash before
    /// this leaves a root that nothing was started on, and the intent, by which the next start knows the store for its own.
    pub(crate) fn remember(&self) -> Result<()> {
        let Some((shown, id)) = &self.named else { return Ok(()) };
        write(&self.root, RECORD, &format!("{shown}\n{id}\n"))
            .with_context(|| format!("cannot write {}", self.root.join(RECORD).display()))?;
        // Left behind it is of no use and no harm.
        let _ = fs::remove_file(self.root.join(INTENT));
        Ok(())
    }
}

/// A store that is open to be worked on.
pub(crate) struct Opened {
    pub(crate) store: Store,
    place: Place,
}

/// Opens the store of this root to work on it; `quota` as in [`store::Config::quota`].
pub(crate) async fn open(
    root: &Path,
    database: Option<Database>,
    purpose: Purpose,
    quota: Option<u64>,
) -> Result<Opened> {
    let mut place = place(root, database, purpose)?;
    place.config.quota = quota;
    let store = Store::open(place.config.clone()).await.map_err(|error| place.explain(error))?;
    if let Err(error) = place.remember().and_then(|()| seen::compare(root, &store)) {
        store.close().await;
        return Err(error);
    }
    Ok(Opened { store, place })
}

impl Opened {
    /// Lets the servers of this store know one another by the keys of this root, all of which are there by now. The store
    /// is open, so a database that is away meanwhile is waited for.
    pub(crate) async fn note_credentials(&self) -> Result<()> {
        let credentials = apiserver::shared_credentials(&self.place.root)?;
        let started = Instant::now();
        loop {
            let noted = store::note_credentials(&self.place.config, credentials.clone()).await;
            match noted {
                Ok(()) => return Ok(()),
                Err(error @ OpenError::OtherKeys { .. }) => return Err(self.place.explain(error)),
                Err(error) if started.elapsed() > PATIENCE => return Err(self.place.explain(error)),
                Err(error) => tracing::warn!(%error, "waiting for the database"),
            }
            tokio::time::sleep(PAUSE).await;
        }
    }

    /// For the election of the server whose controllers run, where there may be others.
    pub(crate) fn candidate(&self) -> Option<Candidate> {
        Candidate::of(&self.place.config)
    }
}

/// Opens the store of this root to look at it, also one that this root should not go on with. Other servers may have it
/// meanwhile.
async fn look(root: &Path, database: Option<Database>) -> Result<Store> {
    let place = place(root, database, Purpose::Serve)?;
    Store::open(place.config.clone()).await.map_err(|error| place.explain(error))
}

/// Whether this root has a store, as far as the root itself tells.
fn is_there(root: &Path) -> Result<bool> {
    for name in [FILE, RECORD] {
        let path = root.join(name);
        if path.try_exists().with_context(|| format!("cannot look for {}", path.display()))? {
            return Ok(true);
        }
    }
    Ok(false)
}

fn runtime() -> Result<tokio::runtime::Runtime> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build().context("cannot start the runtime")
}

/// What to do about a database that is not the one of this root.
fn explain(error: OpenError, config: &store::Config, record: &Path) -> Error {
    let record = record.display();
    match (error, config.expected) {
        (OpenError::Another { store, found, .. }, Expected::Mine(_))
            if matches!(config.sharing, Sharing::Servers(_)) =>
        {
            anyhow!(
                "{store} has the store {found} of other servers: to add one to them, copy store, encryption.keys and pki/ \
                 from the root of one of them into this one; else choose another database"
            )
        }
        (OpenError::Another { store, found, .. }, Expected::Mine(_)) => anyhow!(
            "{store} has the objects of another root (store {found}): choose another database, or, if that root is lost and \
             this one is to go on with its objects, write {found} into {record}"
        ),
        (OpenError::Another { store, found, expected }, _) => anyhow!(
            "{store} has the store {found}, but the objects of this root are in the store {expected}: give the database that \
             has it, or remove {record} to begin without them"
        ),
        (OpenError::Absent { store, expected }, _) => anyhow!(
            "{store} is empty, but has had the objects of this root (store {expected}): restore it from a backup, or \
             remove {record} to begin without them"
        ),
        (error, _) => error.into(),
    }
}

/// The name for the store of a new root, the same at every attempt to make it.
fn intended(root: &Path) -> Result<StoreId> {
    let path = root.join(INTENT);
    if let Some(text) = read(&path)? {
        return text.trim().parse().with_context(|| format!("{} is spoilt: remove it", path.display()));
    }
    let id = StoreId::random();
    write(root, INTENT, &format!("{id}\n")).with_context(|| format!("cannot write {}", path.display()))?;
    Ok(id)
}

fn parse(text: &str, path: &Path) -> Result<Record> {
    let spoilt = || {
        format!(
            "{} does not say which store this root has: it should have the database's address and the store's name, a UUID, \
             which `SELECT store FROM holdfast.revision` in the database tells",
            path.display()
        )
    };
    let (address, id) = match text.split_whitespace().collect::<Vec<_>>()[..] {
        [address, id] => (Some(address.to_owned()), id),
        [id] => (None, id),
        _ => bail!(spoilt()),
    };
    Ok(Record { address, id: id.parse().ok().with_context(spoilt)? })
}

/// `None` when there is no such file.
fn read(path: &Path) -> Result<Option<String>> {
    match fs::read_to_string(path) {
        Ok(text) => Ok(Some(text)),
        Err(error) if error.kind() == ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error).with_context(|| format!("cannot read {}", path.display())),
    }
}

/// All of it or nothing, durably.
fn write(root: &Path, name: &str, text: &str) -> std::io::Result<()> {
    let new: PathBuf = root.join("store.tmp");
    let mut file = File::create(&new)?;
    file.write_all(text.as_bytes())?;
    file.sync_all()?;
    fs::rename(&new, root.join(name))?;
    File::open(root)?.sync_all()
}

#[cfg(test)]
mod tests {
    use super::*;

    const ID: &str = "6f1c2a52-3a0e-4a57-9c33-0b8f5c1f7e11";

    #[test]
    fn what_a_root_remembers() {
        let path = Path::new("store");
        let id = ID.parse().unwrap();
        let both = parse(&format!("postgres://me@db:5432/store\n{ID}\n"), path).unwrap();
        assert_eq!(both, Record { address: Some("postgres://me@db:5432/store".to_owned()), id });
        assert_eq!(parse(&format!("{ID}\n"), path).unwrap(), Record { address: None, id });
        for text in ["", "\n", "postgres://me@db:5432/store\n", &format!("a b {ID}")] {
            let error = parse(text, path).unwrap_err().to_string();
            assert!(error.contains("SELECT store"), "{text:?}: {error}");
        }
    }

    #[test]
    fn an_intent_stays_the_same() {
        let root = tempfile::tempdir().unwrap();
        let id = intended(root.path()).unwrap();
        assert_eq!(intended(root.path()).unwrap(), id);
        fs::write(root.path().join(INTENT), "half a nam").unwrap();
        assert!(intended(root.path()).unwrap_err().to_string().contains("remove it"));
    }
}
