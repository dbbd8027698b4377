//! Clients that write and watch through all servers, whatever happens to these, and note what they were told.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    pin::pin,
    sync::{Arc, Mutex, PoisonError},
};

use anyhow::{Context, Result, bail, ensure};
use futures::StreamExt as _;
use holdfast_tests::{server, wait::until};
use k8s_openapi::api::core::v1::ConfigMap;
use kube::{
    Api,
    api::{ListParams, PostParams, WatchEvent, WatchParams},
};
use serde_json::{Value, json};
use tokio::{sync::watch, task::JoinSet};

use super::{
    log::{Operations, Seen, Told, agree, counts, field, replay, revision},
    pause,
    writer::{COUNTER, Writer},
};

/// The last one that is written.
const END: &str = "end";
/// What all clients share.
pub(crate) struct Shared {
    pub(crate) roots: Vec<PathBuf>,
    told: Mutex<Operations>,
    /// Acknowledged writes of each writer.
    pub(crate) acknowledged: Vec<watch::Sender<usize>>,
    /// What each watcher saw, and up to where.
    seen: Vec<watch::Sender<Vec<Seen>>>,
    /// Reads through other servers that showed what had been acknowledged.
    pub(crate) looks: watch::Sender<usize>,
    pub(crate) is_over: watch::Sender<bool>,
}

/// Writers and watchers; their first failure is that of the test.
pub(crate) struct Clients {
    shared: Arc<Shared>,
    writers: JoinSet<Result<()>>,
    watchers: JoinSet<Result<()>>,
    start: u64,
}

impl Clients {
    /// A writer and a watcher for each server, and a watcher that goes from one to the next.
    pub(crate) async fn start(roots: Vec<PathBuf>, seed: u64) -> Result<Self> {
        let count = roots.len();
        let shared = Arc::new(Shared {
            told: Mutex::default(),
            acknowledged: (0..count).map(|_| watch::Sender::new(0)).collect(),
            seen: (0..=count).map(|_| watch::Sender::default()).collect(),
            looks: watch::Sender::new(0),
            is_over: watch::Sender::new(false),
            roots,
        });
        // The maps that are there were made by the servers.
        let list = api(&shared.roots[0]).await?.list(&ListParams::default()).await?;
        ensure!(list.items.is_empty(), "the namespace has maps already");
        let start = list.metadata.resource_version.context("a list without a revision")?.parse()?;
        let mut clients = Self { shared, writers: JoinSet::new(), watchers: JoinSet::new(), start };
        for number in 0..count {
            let writer = Writer::new(Arc::clone(&clients.shared), number, seed);
            clients
                .writers
                .spawn(async move { writer.run().await.with_context(|| format!("writer {number}")) });
        }
        for number in 0..=count {
            let shared = Arc::clone(&clients.shared);
            clients.watchers.spawn(async move {
                watch_on(&shared, number, start).await.with_context(|| format!("watcher {number}"))
            });
        }
        Ok(clients)
    }

    /// Waits until all writers were acknowledged so many writes since now, and all watchers have seen so many.
    pub(crate) async fn calm(&mut self, when: &str, changes: usize) -> Result<()> {
        let shared = Arc::clone(&self.shared);
        let acknowledged: Vec<usize> = shared.acknowledged.iter().map(|count| *count.borrow()).collect();
        let seen: Vec<usize> = shared.seen.iter().map(|seen| seen.borrow().len()).collect();
        let each = changes / shared.acknowledged.len();
        let what = format!("the clients go on {when}");
        let calm = until(&what, || {
            let writers = shared.acknowledged.iter().zip(&acknowledged);
            // Whose server is gone waits for it.
            let busy = writers.filter(|(count, before)| *count.borrow() >= *before + each).count();
            let watchers = shared.seen.iter().zip(&seen);
            let told = watchers.filter(|(seen, before)| seen.borrow().len() >= *before + changes).count();
            let is_calm = busy + 1 >= acknowledged.len() && told + 1 >= seen.len();
            async move { Ok(is_calm.then_some(())) }
        });
        tokio::select! {
            calm = calm => calm,
            Some(ended) = self.writers.join_next() => Err(failure(ended)),
            Some(ended) = self.watchers.join_next() => Err(failure(ended)),
        }
    }

    /// Ends the writers; then what was told, what was seen and what there is must agree.
    pub(crate) async fn conclude(mut self) -> Result<String> {
        self.shared.is_over.send_replace(true);
        while let Some(ended) = self.writers.join_next().await {
            ended??;
        }
        let shared = &self.shared;
        let end = write_end(shared).await?;
        let all_seen = until("all watchers come to the end", || {
            let has_end = |seen: &watch::Sender<Vec<Seen>>| {
                seen.borrow().last().is_some_and(|last| last.revision >= end)
            };
            let is_over = shared.seen.iter().all(has_end);
            async move { Ok(is_over.then_some(())) }
        });
        tokio::select! {
            all = all_seen => all?,
            Some(ended) = self.watchers.join_next() => return Err(failure(ended)),
        }
        let seen: Vec<Vec<Seen>> = shared.seen.iter().map(|seen| seen.borrow().clone()).collect();
        let told = shared.told.lock().unwrap_or_else(PoisonError::into_inner).clone();
        for (number, one) in seen.iter().enumerate() {
            ensure!(one == &seen[0], "watcher {number} saw something else than the first");
        }
        let seen = &seen[0];
        ensure!(seen.iter().all(|event| event.revision > self.start), "it saw what was before");
        let happened = agree(seen, &told)?;
        let counter = counts(seen, COUNTER)?;
        let replayed = replay(seen);
        for root in &shared.roots {
            let list = api(root).await?.list(&ListParams::default()).await?;
            let listed: BTreeMap<String, (u64, String)> = list
                .iter()
                .map(|object| {
                    let name = object.metadata.name.clone().unwrap_or_default();
                    Ok((name, (revision(object)?, field(object, "operation"))))
                })
                .collect::<Result<_>>()?;
            ensure!(listed == replayed, "what was seen leads to {replayed:?}, listed is {listed:?}");
        }
        let count = |which: fn(&Told) -> bool| told.values().filter(|told| which(told)).count();
        Ok(format!(
            "{} changes seen by {} watchers, each once and in order; {} writes and {} deletions acknowledged, {} refused, \
             {} of unknown outcome of which {happened} happened; counted to {counter}; {} looks through other servers",
            seen.len(),
            shared.seen.len(),
            count(|told| matches!(told, Told::Written(_))),
            count(|told| matches!(told, Told::Deleted(_))),
            count(|told| matches!(told, Told::Refused)),
            count(|told| matches!(told, Told::Unknown)),
            *shared.looks.borrow(),
        ))
    }
}

fn failure(ended: Result<Result<()>, tokio::task::JoinError>) -> anyhow::Error {
    match ended {
        Ok(Ok(())) => anyhow::anyhow!("a client ended by itself"),
        Ok(Err(error)) => error,
        Err(error) => error.into(),
    }
}

pub(crate) async fn api(root: &Path) -> Result<Api<ConfigMap>> {
    Ok(Api::default_namespaced(server::client(root).await?))
}

pub(crate) fn map(name: &str, operation: &str, value: u64) -> Value {
    json!({
        "apiVersion": "v1", "kind": "ConfigMap", "metadata": {"name": name},
        "data": {"operation": operation, "value": value.to_string()},
    })
}

/// By which all that may still be under way is over: a transaction of a server that is gone is either done by
/// then, or never.
async fn write_end(shared: &Shared) -> Result<u64> {
    let operation = "the end";
    until("the end is written", || async {
        let api = api(&shared.roots[0]).await?;
        let written =
            api.create(&PostParams::default(), &serde_json::from_value(map(END, operation, 0))?).await?;
        let revision = revision(&written)?;
        note(shared, operation.to_owned(), Told::Written(revision));
        Ok(Some(revision))
    })
    .await
}

pub(crate) fn note(shared: &Shared, operation: String, told: Told) {
    shared.told.lock().unwrap_or_else(PoisonError::into_inner).insert(operation, told);
}

/// Watches for ever, from where it was, through its own server; the last watcher takes the next one each time.
async fn watch_on(shared: &Shared, number: usize, start: u64) -> Result<()> {
    let mut last = start;
    let mut turn = number;
    loop {
        if let Ok(api) = api(&shared.roots[turn % shared.roots.len()]).await
            && let Ok(events) = api.watch(&WatchParams::default(), &last.to_string()).await
        {
            let mut events = pin!(events);
            while let Some(Ok(event)) = events.next().await {
                let seen = match event {
                    WatchEvent::Added(object) | WatchEvent::Modified(object) => Seen::of(&object, false)?,
                    WatchEvent::Deleted(object) => Seen::of(&object, true)?,
                    WatchEvent::Bookmark(bookmark) => {
                        let at = bookmark.metadata.resource_version.parse()?;
                        ensure!(at >= last, "a bookmark of {at} after {last}");
                        last = at;
                        continue;
                    }
                    WatchEvent::Error(status) if status.code == 410 => bail!("{status:?} from {last}"),
                    WatchEvent::Error(_) => break,
                };
                ensure!(seen.revision > last, "{seen:?} came after {last}");
                last = seen.revision;
                shared.seen[number].send_modify(|all| all.push(seen));
            }
        }
        if number == shared.roots.len() {
            turn += 1;
        }
        pause().await;
    }
}
