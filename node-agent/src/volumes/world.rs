//! The caches of the API's objects, each kept by one watch.

use std::{fmt::Debug, hash::Hash, sync::Arc};

use futures::StreamExt;
use k8s_openapi::api::{
    core::v1::{PersistentVolume, PersistentVolumeClaim, Pod},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{
    Api, Client, Resource, ResourceExt,
    runtime::{
        WatchStreamExt,
        reflector::{self, ObjectRef, Store},
        watcher,
    },
};
use serde::de::DeserializeOwned;
use tokio::{sync::Notify, task::JoinSet};

use super::desired::Objects;
use crate::error::Error;

/// What is known of the API. Nothing may be decided before [`World::ready`].
pub(crate) struct World {
    pub(crate) pods: Store<Pod>,
    claims: Store<PersistentVolumeClaim>,
    volumes: Store<PersistentVolume>,
    attachments: Store<VolumeAttachment>,
    csi_drivers: Store<CSIDriver>,
    /// Ends the watches when the world is dropped.
    _watches: JoinSet<()>,
}

impl World {
    /// Begins to watch; `changed` is told of every change.
    pub(crate) fn watch(client: &Client, node: &str, changed: &Arc<Notify>) -> Self {
        let mut watches = JoinSet::new();
        let all = watcher::Config::default;
        let of_node = all().fields(&format!("spec.nodeName={node}"));
        Self {
            pods: follow(Api::all(client.clone()), of_node, changed, &mut watches),
            claims: follow(Api::all(client.clone()), all(), changed, &mut watches),
            volumes: follow(Api::all(client.clone()), all(), changed, &mut watches),
            attachments: follow(Api::all(client.clone()), all(), changed, &mut watches),
            csi_drivers: follow(Api::all(client.clone()), all(), changed, &mut watches),
            _watches: watches,
        }
    }

    /// Waits until every cache has been filled once.
    pub(crate) async fn ready(&self) -> Result<(), Error> {
        let filled = async {
            self.pods.wait_until_ready().await?;
            self.claims.wait_until_ready().await?;
            self.volumes.wait_until_ready().await?;
            self.attachments.wait_until_ready().await?;
            self.csi_drivers.wait_until_ready().await
        };
        filled.await.map_err(|e| Error::Task(e.to_string()))
    }
}

fn follow<K>(
    api: Api<K>,
    config: watcher::Config,
    changed: &Arc<Notify>,
    watches: &mut JoinSet<()>,
) -> Store<K>
where
    K: Resource<DynamicType = ()> + Clone + Debug + DeserializeOwned + Send + Sync + 'static,
    K::DynamicType: Eq + Hash + Clone + Default,
{
    let (store, writer) = reflector::store();
    let changed = Arc::clone(changed);
    let mut stream = watcher(api, config)
        .default_backoff()
        .modify(|object| object.managed_fields_mut().clear())
        .reflect(writer)
        .boxed();
    watches.spawn(async move {
        while let Some(event) = stream.next().await {
            match event {
                Ok(_) => changed.notify_one(),
                // The stream backs off and goes on; the cache keeps what it has.
                Err(error) => tracing::debug!(%error, kind = %K::kind(&()), "a watch was cut"),
            }
        }
    });
    store
}

impl Objects for World {
    fn claim(&self, namespace: &str, name: &str) -> Option<Arc<PersistentVolumeClaim>> {
        self.claims.get(&ObjectRef::new(name).within(namespace))
    }

    fn volume(&self, name: &str) -> Option<Arc<PersistentVolume>> {
        self.volumes.get(&ObjectRef::new(name))
    }

    fn attachment(&self, name: &str) -> Option<Arc<VolumeAttachment>> {
        self.attachments.get(&ObjectRef::new(name))
    }

    fn csi_driver(&self, name: &str) -> Option<Arc<CSIDriver>> {
        self.csi_drivers.get(&ObjectRef::new(name))
    }
}
