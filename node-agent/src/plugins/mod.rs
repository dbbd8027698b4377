//! Plugin registration: sockets that appear in `<root>/plugins_registry` are asked who they are
//! (pluginregistration v1), CSI drivers among them become usable and visible in CSINode.

mod csinode;
mod drivers;
mod register;
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
    /// The node whose CSINode entry this socket has; `None`: not registered.
    registered: Option<(Registered, Identity)>,
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
    let mut tasks: JoinSet<Finished> = JoinSet::new();
    loop {
        let node = identity.borrow_and_update().clone();
        // A folder that cannot be read says nothing of the sockets in it.
        match registry.sockets() {
            Ok(present) => {
                forget_gone(&mut known, &present, &registrar, node.as_deref()).await;
                for (path, id) in present {
                    note(&mut known, path, id);
                }
            }
            Err(error) => tracing::warn!(%error, "cannot read the plugin registry"),
        }
        let now = Instant::now();
        let mut next = now + config.rescan_interval;
        for (path, entry) in &known {
            // CSINode belongs to the Node object: without one there is nothing to register with.
            let Some(uid) = node.clone() else { break };
            let current = entry.registered.as_ref().is_some_and(|(_, n)| *n == node);
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
/// connections belongs to a driver that is being restarted.
async fn forget_gone(
    known: &mut BTreeMap<PathBuf, Known>,
    present: &BTreeMap<PathBuf, SocketId>,
    registrar: &Registrar,
    node: Option<&str>,
) {
    let gone: Vec<PathBuf> = known.keys().filter(|path| !present.contains_key(*path)).cloned().collect();
    for path in gone {
        let Some((registered, _)) = known.get(&path).and_then(|k| k.registered.clone()) else {
            known.remove(&path);
            continue;
        };
        let elsewhere = known.iter().any(|(other, k)| {
            *other != path && k.registered.as_ref().is_some_and(|(r, _)| r.driver == registered.driver)
        });
        if elsewhere {
            known.remove(&path);
            continue;
        }
        match registrar.deregister(&registered, node).await {
            Ok(()) => {
                tracing::info!(driver = registered.driver, "deregistered: its socket is gone");
                known.remove(&path);
            }
            // Stays known, so that the next round tries again.
            Err(error) => tracing::warn!(%error, driver = registered.driver, "cannot deregister"),
        }
    }
}

/// A socket that was made anew under the same name is another plugin until it has said otherwise.
fn note(known: &mut BTreeMap<PathBuf, Known>, path: PathBuf, id: SocketId) {
    if known.get(&path).is_none_or(|k| k.id != id) {
        known.insert(path, Known { id, registered: None, retry_at: Instant::now(), wait: RETRY.0 });
    }
}

fn finish(known: &mut BTreeMap<PathBuf, Known>, (path, id, node, result): Finished) {
    // Replaced meanwhile: what was found out belongs to the former socket.
    let Some(entry) = known.get_mut(&path).filter(|k| k.id == id) else { return };
    match result {
        Ok(registered) => {
            tracing::info!(driver = registered.driver, socket = %path.display(), "registered");
            entry.registered = Some((registered, node));
            entry.wait = RETRY.0;
        }
        Err(error) => {
            tracing::warn!(%error, socket = %path.display(), retry_in = ?entry.wait, "cannot register the plugin");
            entry.retry_at = Instant::now() + entry.wait;
            entry.wait = RETRY.1.min(entry.wait * 2);
        }
    }
}
