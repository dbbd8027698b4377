//! Plugin registration: sockets that appear in `<root>/plugins_registry` are asked who they are
//! (pluginregistration v1), CSI drivers among them become usable and visible in CSINode.

mod csinode;
mod drivers;
mod register;
#[cfg(test)]
mod tests;
mod watch;

use std::{
    collections::{BTreeMap, BTreeSet},
    path::PathBuf,
    sync::Arc,
    time::Duration,
};

use tokio::{sync::watch::Receiver, task::JoinSet, time::Instant};
use tokio_util::sync::CancellationToken;

use crate::{Config, error::Error, layout::Layout, node::Identity};

pub(crate) use drivers::Drivers;
use register::{Registered, Registrar};
use watch::{Registry, SocketId};

const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(120));

/// What is known of one socket in the registry folder.
struct Known {
    id: SocketId,
    /// What a socket of this name has in CSINode, also a former one.
    entered: Option<Registered>,
    /// The node for which this very socket is registered.
    registered_for: Identity,
    retry_at: Instant,
    wait: Duration,
}

type Finished = (PathBuf, SocketId, Identity, Result<Registered, Error>);

/// Watches the registry folder until `cancel` fires.
pub(crate) async fn run(
    config: Arc<Config>,
    layout: Arc<Layout>,
    drivers: Drivers,
    mut identity: Receiver<Identity>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let mut registry = Registry::open(layout.registry())?;
    let registrar = Arc::new(Registrar::new(&config, drivers.clone()));
    let mut known: BTreeMap<PathBuf, Known> = BTreeMap::new();
    let mut busy: BTreeSet<PathBuf> = BTreeSet::new();
    let mut here: BTreeSet<PathBuf> = BTreeSet::new();
    let mut tasks: JoinSet<Finished> = JoinSet::new();
    loop {
        let node = identity.borrow_and_update().clone();
        let mut next = Instant::now() + config.rescan_interval;
        // A folder that cannot be read says nothing of the sockets in it.
        match registry.sockets() {
            Ok(present) => {
                if !forget_gone(&mut known, &busy, &present, &registrar, node.as_deref()).await {
                    next = Instant::now() + RETRY.0;
                }
                here = present.keys().cloned().collect();
                for (path, id) in present {
                    note(&mut known, path, id);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the plugin registry"),
        }
        let now = Instant::now();
        for (path, entry) in known.iter().filter(|(path, _)| here.contains(*path)) {
            // CSINode belongs to the Node object: without one there is nothing to register with.
            let Some(uid) = node.clone() else { break };
            let current = entry.registered_for == node;
            if current || busy.contains(path) {
                continue;
            }
            if entry.retry_at > now {
                next = next.min(entry.retry_at);
                continue;
            }
            busy.insert(path.clone());
            let (path, id, registrar) = (path.clone(), entry.id, Arc::clone(&registrar));
            tasks.spawn(async move {
                let result = registrar.register(&path, &uid).await;
                (path, id, Some(uid), result)
            });
        }
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = registry.changed() => if let Err(error) = changed {
                // Without notifications the periodic rescan still finds everything.
                tracing::warn!(%error, "the plugin registry gives no notifications");
                tokio::time::sleep(RETRY.0).await;
            },
            changed = identity.changed() => if changed.is_err() { return Ok(()) },
            Some(done) = tasks.join_next() => {
                let done = done.map_err(|e| Error::Task(e.to_string()))?;
                busy.remove(&done.0);
                finish(&mut known, done);
            }
            () = tokio::time::sleep_until(next) => {}
        }
    }
}

/// Deregisters what has no socket any more. Only the file's absence counts: a socket that refuses
/// connections belongs to a driver that is being restarted. A registration under way is waited
/// for: it may be about to write what has to be taken out. Answers whether all of it worked.
async fn forget_gone(
    known: &mut BTreeMap<PathBuf, Known>,
    busy: &BTreeSet<PathBuf>,
    present: &BTreeMap<PathBuf, SocketId>,
    registrar: &Registrar,
    node: Option<&str>,
) -> bool {
    let mut all = true;
    let gone: Vec<PathBuf> =
        known.keys().filter(|path| !present.contains_key(*path) && !busy.contains(*path)).cloned().collect();
    for path in gone {
        let Some(entered) = known.get(&path).and_then(|k| k.entered.clone()) else {
            known.remove(&path);
            continue;
        };
        let elsewhere = known.iter().any(|(other, k)| {
            *other != path && present.contains_key(other) && k.entered.as_ref() == Some(&entered)
        });
        if elsewhere {
            known.remove(&path);
            continue;
        }
        match registrar.deregister(&entered, node).await {
            Ok(()) => {
                tracing::info!(driver = entered.driver, "deregistered: its socket is gone");
                known.remove(&path);
            }
            // Stays known, so that the next round tries again.
            Err(error) => {
                tracing::warn!(%error, driver = entered.driver, "cannot deregister");
                all = false;
            }
        }
    }
    all
}

/// A socket that was made anew under the same name is another plugin until it has said otherwise;
/// what the former one entered is not forgotten.
fn note(known: &mut BTreeMap<PathBuf, Known>, path: PathBuf, id: SocketId) {
    if known.get(&path).is_none_or(|k| k.id != id) {
        let entered = known.remove(&path).and_then(|k| k.entered);
        let retry_at = Instant::now();
        known.insert(path, Known { id, entered, registered_for: None, retry_at, wait: RETRY.0 });
    }
}

fn finish(known: &mut BTreeMap<PathBuf, Known>, (path, id, node, result): Finished) {
    let Some(entry) = known.get_mut(&path) else { return };
    match result {
        Ok(registered) => {
            tracing::info!(driver = registered.driver, socket = %path.display(), "registered");
            entry.entered = Some(registered);
            // Replaced meanwhile: the new socket has to speak for itself.
            if entry.id == id {
                entry.registered_for = node;
                entry.wait = RETRY.0;
            }
        }
        Err(error) => {
            tracing::warn!(%error, socket = %path.display(), retry_in = ?entry.wait, "cannot register the plugin");
            if entry.id == id {
                entry.retry_at = Instant::now() + entry.wait;
                entry.wait = RETRY.1.min(entry.wait * 2);
            }
        }
    }
}
