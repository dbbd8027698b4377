//! How far this root has seen its store, so that a store that went back in time is not taken for the same.
//!
//! With an older copy of the database the controllers would know nothing of the newest volumes, and the node agent would
//! unmount what pods still use. `holdfast restore` gives the store a new incarnation instead, by which this is known.

use std::{convert::Infallible, path::Path, time::Duration};

use anyhow::{Context, Result, ensure};
use holdfast_volume_controller::store::Store;

use super::{read, write};

/// In the root folder: the incarnation and the revision.
const SEEN: &str = "store.seen";
/// How often it is brought up to date, at most.
const PAUSE: Duration = Duration::from_secs(60);

/// Refuses a store that lacks what was seen of it; notes what it has.
pub(super) fn compare(root: &Path, store: &Store) -> Result<()> {
    let path = root.join(SEEN);
    let (incarnation, revision) = (store.incarnation(), store.revision());
    // What is damaged says nothing; it is only a second look.
    match read(&path)?.and_then(|text| parse(&text)) {
        Some((same, seen)) if same == incarnation => ensure!(
            seen <= revision,
            "the store is at revision {revision}, but this root has seen revision {seen} of it: it was emptied, or somebody put an \
             older copy in its place. Bring the newer one back, or take a backup of this copy and give it to holdfast restore, which lets \
             all clients know; to go on with it as it is, remove {}",
            path.display()
        ),
        _ if incarnation != 0 => tracing::warn!(
            revision,
            "the store was restored from a backup: objects that were made after it are not known, and their volumes are \
             in the pools still"
        ),
        _ => {}
    }
    note(root, store)
}

/// For a root that is to have another store.
pub(super) fn forget(root: &Path) -> Result<()> {
    let path = root.join(SEEN);
    match std::fs::remove_file(&path) {
        Err(error) if error.kind() != std::io::ErrorKind::NotFound => {
            Err(error).with_context(|| format!("cannot remove {}", path.display()))
        }
        _ => Ok(()),
    }
}

fn note(root: &Path, store: &Store) -> Result<()> {
    write(root, SEEN, &format!("{} {}\n", store.incarnation(), store.revision()))
        .with_context(|| format!("cannot write {}", root.join(SEEN).display()))
}

fn parse(text: &str) -> Option<(u64, u64)> {
    let (incarnation, revision) = text.trim().split_once(' ')?;
    Some((incarnation.parse().ok()?, revision.parse().ok()?))
}

/// Notes now and then what the store has; never returns.
pub(crate) async fn keep_noting(root: &Path, store: &Store) -> Infallible {
    let mut noted = store.revision();
    loop {
        tokio::time::sleep(PAUSE).await;
        if store.revision() != noted {
            noted = store.revision();
            if let Err(error) = note(root, store) {
                tracing::debug!("{error:#}");
            }
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use holdfast_volume_controller::store::Config;

    #[tokio::test]
    async fn an_older_copy_is_refused_and_another_incarnation_is_not() {
        let root = tempfile::tempdir().unwrap();
        let store = Store::open(Config::new(root.path().join("state.db"))).await.unwrap();
        for seen in [None, Some("0 1"), Some("7 1000"), Some("half a no")] {
            if let Some(seen) = seen {
                std::fs::write(root.path().join(SEEN), seen).unwrap();
            }
            compare(root.path(), &store).unwrap();
            assert_eq!(std::fs::read_to_string(root.path().join(SEEN)).unwrap(), "0 1\n");
        }
        std::fs::write(root.path().join(SEEN), "0 2\n").unwrap();
        let error = compare(root.path(), &store).unwrap_err().to_string();
        assert!(error.contains("at revision 1, but this root has seen revision 2"), "{error}");
        assert_eq!(std::fs::read_to_string(root.path().join(SEEN)).unwrap(), "0 2\n", "it is still known");
        store.close().await;
    }
}
