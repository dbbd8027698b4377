//! The volume loop: what the pods of this node want, brought together with what is there.
//!
//! `desired` and `resolve` turn objects into what is wanted, `actual` reads what is there,
//! `decide` (with `serve` and `report`) compares, `apply` (with `csi_ops`, `local`, `api`) acts.

mod action;
mod actual;
mod api;
mod apply;
mod csi_ops;
mod decide;
mod desired;
mod folders;
mod journal;
mod local;
mod memory;
mod mountinfo;
mod reason;
mod report;
mod resolve;
mod scratch;
mod serve;
#[cfg(test)]
pub(crate) mod tests;
mod view;
mod world;

use std::{
    collections::{BTreeSet, HashMap},
    sync::Arc,
    time::Duration,
};

use k8s_openapi::api::core::v1::Node;
use kube::Api;
use tokio::{
    sync::{Notify, watch::Receiver},
    task::{Id, JoinSet},
    time::{Instant, timeout},
};
use tokio_util::sync::CancellationToken;
use tracing::Instrument;

use crate::{
    Config,
    error::Error,
    events::Recorder,
    layout::Layout,
    node::{Identity, facts::Facts},
    plugins::Drivers,
};

use action::{Action, Planned};
use actual::Scan;
use api::Confirmed;
use apply::{Change, Io};
use memory::Memory;
use view::{Lane, Plugin};
use world::World;

/// How long operations under way may go on when the agent is told to stop.
const GRACE: Duration = Duration::from_secs(5);
/// The longest pause between two decisions when changes come faster than decisions.
const PAUSE: Duration = Duration::from_millis(100);

struct Finished {
    changes: Vec<Change>,
    result: Result<(), Error>,
}

struct Rescan {
    scan: Scan,
    asked: Option<Confirmed>,
    still_listed: bool,
}

/// Serves the volumes of the node's pods until `cancel` fires.
pub(crate) async fn run(
    config: Arc<Config>,
    layout: Arc<Layout>,
    drivers: Drivers,
    mut identity: Receiver<Identity>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let facts = Facts::read(&config.node_name, &config.addresses);
    let io = Arc::new(Io {
        client: config.client.clone(),
        node: config.node_name.clone(),
        layout,
        drivers: drivers.clone(),
        recorder: Recorder::new(config.client.clone(), &config.node_name),
        machine_id: facts.machine().id.to_owned(),
        boot_id: facts.boot_id,
    });
    let changed = Arc::new(Notify::new());
    let world = World::watch(&config.client, &config.node_name, &changed);
    let mut memory = Memory::default();
    let mut told = BTreeSet::new();

    // Both worlds have to be known in full before anything is decided: a pod that the cache does
    // not show yet must not lose its volumes.
    tell_unknown(&first_scan(&io, &mut memory).await?, &mut told);
    tokio::select! {
        () = cancel.cancelled() => return Ok(()),
        ready = world.ready() => ready?,
    }
    tracing::info!(
        staged = memory.actual.devices.len(),
        published = memory.actual.published.len(),
        "wanted and actual state are known"
    );

    let mut tasks: JoinSet<Finished> = JoinSet::new();
    let mut running: HashMap<Id, Action> = HashMap::new();
    let mut rescans: JoinSet<Result<Rescan, Error>> = JoinSet::new();
    let mut rescan_at = Instant::now() + config.rescan_interval;
    let mut driver_changes = drivers.changes();
    loop {
        let now = Instant::now();
        let view = memory.view(&world, &config.node_name, &identity.borrow().clone(), drivers.names());
        config.metrics.volumes(
            view.pods.iter().map(|p| p.volumes.len()).sum(),
            view.actual.devices.len() + view.actual.published.len(),
        );
        for planned in decide::decide(&view, now) {
            memory.begin(&planned.action, now);
            let action = planned.action.clone();
            let handle = tasks.spawn(perform(Arc::clone(&io), Arc::clone(&config), planned));
            running.insert(handle.id(), action);
        }
        // Under a storm of changes half of the time goes to decisions, not all of it.
        tokio::time::sleep(now.elapsed().min(PAUSE)).await;

        let wake = memory.next_wake(now).unwrap_or(rescan_at).min(rescan_at);
        tokio::select! {
            () = cancel.cancelled() => break,
            () = changed.notified() => {}
            Some(ended) = tasks.join_next_with_id() => {
                absorb(&mut memory, &mut running, ended);
                while let Some(ended) = tasks.try_join_next_with_id() {
                    absorb(&mut memory, &mut running, ended);
                }
            }
            Some(ended) = rescans.join_next() => match ended {
                Ok(Ok(rescan)) => {
                    tell_unknown(&rescan.scan, &mut told);
                    if !rescan.still_listed {
                        memory.distrust(&rescan.asked);
                    }
                    memory.scan_ends(rescan.scan, Instant::now());
                }
                Ok(Err(error)) => tracing::warn!(%error, "cannot compare folders and mounts; keeping what is known"),
                Err(error) => tracing::error!(%error, "the comparison of folders and mounts ended"),
            },
            _ = driver_changes.changed() => {
                memory.retry_now(|lane| matches!(lane, Lane::Volume(_)), Instant::now());
            }
            gone = identity.changed() => {
                if gone.is_err() {
                    break;
                }
                memory.retry_now(|lane| *lane == Lane::Node, Instant::now());
            }
            () = tokio::time::sleep_until(wake) => {
                if Instant::now() >= rescan_at {
                    rescan_at = Instant::now() + config.rescan_interval;
                    if rescans.is_empty() {
                        rescans.spawn(rescan(Arc::clone(&io), memory.scan_begins()));
                    }
                }
            }
        }
    }

    // What is cut off here is found by its journal at the next start.
    let drained = timeout(GRACE, async {
        while let Some(ended) = tasks.join_next_with_id().await {
            absorb(&mut memory, &mut running, ended);
        }
    });
    if drained.await.is_err() && !memory.is_idle() {
        tracing::warn!(operations = running.len(), "stopping while operations are under way");
    }
    Ok(())
}

fn absorb(
    memory: &mut Memory,
    running: &mut HashMap<Id, Action>,
    ended: Result<(Id, Finished), tokio::task::JoinError>,
) {
    let now = Instant::now();
    match ended {
        Ok((id, finished)) => {
            if let Some(action) = running.remove(&id) {
                memory.finish(&action, finished.changes, &finished.result, now);
            }
        }
        Err(error) => {
            if let Some(action) = running.remove(&error.id()) {
                memory.lost(&action, &Error::Task(error.to_string()), now);
            }
        }
    }
}

/// Does one planned action, measures it, and tells when it failed.
async fn perform(io: Arc<Io>, config: Arc<Config>, planned: Planned) -> Finished {
    let Planned { action, reason } = planned;
    let span = tracing::info_span!(
        "volume",
        operation = action.operation(),
        pod = action.pod().map(tracing::field::display),
        lane = ?action.lane(),
    );
    async {
        let begun = Instant::now();
        let mut changes = Vec::new();
        let result = apply::apply(&io, &action, &mut changes).await;
        if let Some(plugin) = action.plugin() {
            config.metrics.operation(action.operation(), plugin, result.is_ok(), begun.elapsed());
        }
        match &result {
            Ok(()) => tracing::info!(because = %reason, took = ?begun.elapsed(), "done"),
            Err(error) => {
                tracing::warn!(%error, because = %reason, "failed");
                if let (Some(pod), Some(event)) = (action.pod(), failure_event(&action)) {
                    io.tell(pod, true, event, &error.to_string()).await;
                }
            }
        }
        Finished { changes, result }
    }
    .instrument(span)
    .await
}

/// Kubelet's names for what went wrong.
fn failure_event(action: &Action) -> Option<&'static str> {
    Some(match action {
        Action::Stage { volume, .. } | Action::Publish { volume, .. } if volume.shape.block => {
            "FailedMapVolume"
        }
        Action::Stage { .. } | Action::Publish { .. } | Action::Mount { .. } => "FailedMount",
        Action::Expand { .. } => "VolumeResizeFailed",
        Action::Unpublish { publication, .. } if publication.block => "FailedUnmapDevice",
        Action::Unpublish { .. } | Action::Unmount { .. } => "FailedUnMount",
        Action::Unstage { .. }
        | Action::SetInUse { .. }
        | Action::ReportPod { .. }
        | Action::DeletePod { .. } => {
            return None;
        }
    })
}

/// Reads what an earlier run left, and removes folders that stand for nothing.
async fn first_scan(io: &Io, memory: &mut Memory) -> Result<Scan, Error> {
    let scan = io
        .blocking(|layout, boot_id| {
            let scan = actual::scan(layout, boot_id, false)?;
            for folder in &scan.leftovers {
                for left in folders::remove_empty(folder)? {
                    tracing::warn!(folder = %left.display(), "a leftover folder is not empty and was left");
                }
            }
            for entry in
                std::fs::read_dir(layout.pods()).map_err(Error::io("read the folder", layout.pods()))?
            {
                let entry = entry.map_err(Error::io("read the folder", layout.pods()))?;
                for plugin in Plugin::ALL {
                    folders::tidy_pod(layout, &entry.file_name().to_string_lossy(), plugin)?;
                }
            }
            Ok(scan)
        })
        .await?;
    memory.actual = scan.actual.clone();
    Ok(scan)
}

/// Looks again at folders, mounts and the Node object.
async fn rescan(io: Arc<Io>, asked: Option<Confirmed>) -> Result<Rescan, Error> {
    let scan = io.blocking(|layout, boot_id| actual::scan(layout, boot_id, true)).await?;
    let api: Api<Node> = Api::all(io.client.clone());
    let node = api.get_opt(&io.node).await.map_err(Error::api(format!("read node {}", io.node)))?;
    // A list that is missing says nothing, an empty one says that nothing is in use.
    let listed = node.and_then(|node| {
        let volumes = node.status?.volumes_in_use?.into_iter().collect();
        Some(Confirmed { node_uid: node.metadata.uid, volumes })
    });
    Ok(Rescan { still_listed: listed == asked, scan, asked })
}

fn tell_unknown(scan: &Scan, told: &mut BTreeSet<String>) {
    for what in &scan.unknown {
        if told.insert(what.clone()) {
            tracing::warn!("left alone: {what}");
        }
    }
}
