//! The Node object: made when it is missing, kept alive, recognised when somebody made it anew.

pub(crate) mod facts;
pub(crate) mod lease;
mod object;

use std::sync::Arc;

use futures::{StreamExt, TryStreamExt};
use holdfast_api::nodes::is_ready;
use k8s_openapi::api::core::v1::Node;
use kube::{
    Api, ResourceExt,
    api::{Patch, PatchParams, PostParams},
    runtime::{WatchStreamExt, watcher},
};
use tokio::{sync::watch, time::Duration};
use tokio_util::sync::CancellationToken;

use crate::{Config, clock, error::Error};

use facts::Facts;

/// The UID of the Node object that this agent speaks for; `None` until there is one.
pub(crate) type Identity = Option<String>;

/// The first wait after a failure, doubling to the second.
const RETRY: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(10));

/// Keeps the Node object until `cancel` fires.
pub(crate) async fn run(
    config: Arc<Config>,
    identity: watch::Sender<Identity>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let api: Api<Node> = Api::all(config.client.clone());
    let facts = Facts::read(&config.node_name, &config.addresses);
    let own = watcher::Config::default().fields(&format!("metadata.name={}", config.node_name));
    let mut changes = watcher(api.clone(), own).default_backoff().boxed();
    let mut retry = RETRY.0;
    loop {
        let wait = match keep(&api, &facts, &identity).await {
            Ok(()) => {
                retry = RETRY.0;
                config.heartbeat_interval
            }
            Err(error) => {
                tracing::warn!(%error, node = config.node_name, "cannot keep the Node object");
                retry = RETRY.1.min(retry * 2);
                retry
            }
        };
        let deadline = tokio::time::sleep(wait);
        tokio::pin!(deadline);
        loop {
            tokio::select! {
                () = cancel.cancelled() => return Ok(()),
                () = &mut deadline => break,
                change = changes.try_next() => match change {
                    Ok(Some(watcher::Event::Delete(_))) => break,
                    // Made anew, or somebody took this node for lost.
                    Ok(Some(watcher::Event::Apply(node) | watcher::Event::InitApply(node)))
                        if node.metadata.uid != *identity.borrow() || !is_ready(&node) => break,
                    Ok(Some(_)) => {}
                    Ok(None) => return Err(Error::Task("the watch of the Node object".to_owned())),
                    // Backed off by the stream itself; an unreachable server means nothing about the node.
                    Err(error) => tracing::debug!(%error, "the watch of the Node object was cut"),
                },
            }
        }
    }
}

/// Brings the Node object to what it should be.
async fn keep(api: &Api<Node>, facts: &Facts, identity: &watch::Sender<Identity>) -> Result<(), Error> {
    let name = facts.name.as_str();
    let found = api.get_opt(name).await.map_err(Error::api(format!("read node {name}")))?;
    let node = match found {
        Some(node) => node,
        None => match api.create(&PostParams::default(), &object::fresh(facts)).await {
            Ok(node) => node,
            Err(kube::Error::Api(status)) if status.is_already_exists() => {
                api.get(name).await.map_err(Error::api(format!("read node {name}")))?
            }
            Err(error) => return Err(Error::api(format!("create node {name}"))(error)),
        },
    };
    if let Some(labels) = object::missing_labels(facts, node.labels()) {
        api.patch(name, &PatchParams::default(), &Patch::Merge(labels))
            .await
            .map_err(Error::api(format!("label node {name}")))?;
    }
    let status = object::status_patch(facts, &node, &clock::now());
    api.patch_status(name, &PatchParams::default(), &Patch::Strategic(status))
        .await
        .map_err(Error::api(format!("report the status of node {name}")))?;
    identity.send_if_modified(|known| {
        let changed = *known != node.metadata.uid;
        if changed {
            tracing::info!(node = name, uid = node.metadata.uid, "speaking for the Node object");
            known.clone_from(&node.metadata.uid);
        }
        changed
    });
    Ok(())
}
