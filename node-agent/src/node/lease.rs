//! The node's lease: what says every few seconds that the node is alive (KEP-589). The Node object itself is
//! large and watched by many, so it is written only when there is news.

use std::sync::Arc;

use jiff::Timestamp;
use k8s_openapi::{
    api::coordination::v1::Lease,
    apimachinery::pkg::apis::meta::v1::{MicroTime, OwnerReference},
};
use kube::{
    Api, Resource,
    api::{Patch, PatchParams, PostParams},
};
use serde_json::{Value, json};
use tokio::{
    sync::watch,
    time::{Duration, sleep, timeout},
};
use tokio_util::sync::CancellationToken;

use super::Identity;
use crate::{Config, error::Error};

/// The lease is renewed this often before it runs out, as kubelet does.
const RENEWALS: u32 = 4;
/// The first wait after a failure; it doubles up to the time between two renewals.
const RETRY: Duration = Duration::from_millis(200);

/// Renews the lease until `cancel` fires. It belongs to the Node object, so there is none before that.
pub(crate) async fn run(
    config: Arc<Config>,
    mut identity: watch::Receiver<Identity>,
    cancel: CancellationToken,
) -> Result<(), Error> {
    let api: Api<Lease> = Api::namespaced(config.client.clone(), holdfast_api::nodes::LEASES);
    let interval = config.lease_duration / RENEWALS;
    let mut retry = RETRY;
    loop {
        let node = identity.borrow_and_update().clone();
        let pause = match &node {
            None => None,
            // One that hangs is worth no more than one that fails: the next one may find another way.
            Some(uid) => match timeout(interval, renew(&api, &config, uid)).await {
                Ok(Ok(())) => {
                    retry = RETRY;
                    Some(interval)
                }
                Ok(Err(error)) => {
                    tracing::warn!(%error, node = config.node_name, "cannot renew the lease");
                    retry = interval.min(retry * 2);
                    Some(retry)
                }
                Err(_) => {
                    tracing::warn!(node = config.node_name, within = ?interval, "renewing the lease gave no answer");
                    Some(RETRY)
                }
            },
        };
        let next = async {
            match pause {
                Some(pause) => sleep(pause).await,
                None => std::future::pending().await,
            }
        };
        tokio::select! {
            () = cancel.cancelled() => return Ok(()),
            changed = identity.changed() => if changed.is_err() { return Ok(()) },
            () = next => {}
        }
    }
}

/// Renews the lease, or makes it.
async fn renew(api: &Api<Lease>, config: &Config, node_uid: &str) -> Result<(), Error> {
    let name = config.node_name.as_str();
    let lease = lease(config, node_uid);
    match api.patch(name, &PatchParams::default(), &Patch::Merge(&lease)).await {
        Ok(_) => return Ok(()),
        Err(kube::Error::Api(status)) if status.is_not_found() => {}
        Err(error) => return Err(Error::api(format!("renew lease {name}"))(error)),
    }
    let lease: Lease = serde_json::from_value(lease).map_err(|e| Error::Task(e.to_string()))?;
    match api.create(&PostParams::default(), &lease).await {
        Ok(_) => Ok(()),
        Err(error) => Err(Error::api(format!("create lease {name}"))(error)),
    }
}

fn lease(config: &Config, node_uid: &str) -> Value {
    let name = &config.node_name;
    // So that it goes when the Node goes.
    let owner = OwnerReference {
        api_version: "v1".to_owned(),
        kind: "Node".to_owned(),
        name: name.clone(),
        uid: node_uid.to_owned(),
        ..OwnerReference::default()
    };
    json!({
        "apiVersion": Lease::api_version(&()),
        "kind": Lease::kind(&()),
        "metadata": {"name": name, "ownerReferences": [owner]},
        "spec": {
            "holderIdentity": name,
            "leaseDurationSeconds": config.lease_duration.as_secs().max(1),
            "renewTime": MicroTime(Timestamp::now()),
        },
    })
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::test_api::{self, Objects};

    const PATH: &str = "/apis/coordination.k8s.io/v1/namespaces/kube-node-lease/leases/n1";

    #[tokio::test]
    async fn made_renewed_and_handed_on_to_another_node_object() {
        let objects = Objects::default();
        let client = test_api::client(&objects);
        let config = Config::new(client.clone(), "n1", "/nowhere");
        let api: Api<Lease> = Api::namespaced(client, holdfast_api::nodes::LEASES);
        let there = || objects.lock().unwrap().get(PATH).cloned().unwrap();
        renew(&api, &config, "u1").await.unwrap();
        let first = there();
        assert_eq!(first["spec"]["holderIdentity"], "n1");
        assert_eq!(first["spec"]["leaseDurationSeconds"], 40);
        renew(&api, &config, "u2").await.unwrap();
        let second = there();
        assert_ne!(first["spec"]["renewTime"], second["spec"]["renewTime"]);
        assert_eq!(second["metadata"]["ownerReferences"][0]["uid"], "u2");
        assert_eq!(second["metadata"]["uid"], first["metadata"]["uid"], "the same lease");
    }

    #[tokio::test]
    async fn no_lease_before_there_is_a_node_and_one_at_once_when_there_is() {
        let objects = Objects::default();
        let mut config = Config::new(test_api::client(&objects), "n1", "/nowhere");
        config.lease_duration = Duration::from_secs(4000);
        let (identity, receiver) = watch::channel(None);
        let cancel = CancellationToken::new();
        let running = tokio::spawn(run(Arc::new(config), receiver, cancel.clone()));
        for uid in ["u1", "u2"] {
            if uid == "u1" {
                assert!(objects.lock().unwrap().is_empty());
            }
            identity.send_replace(Some(uid.to_owned()));
            timeout(Duration::from_secs(20), async {
                loop {
                    let owner = objects
                        .lock()
                        .unwrap()
                        .get(PATH)
                        .map(|l| l["metadata"]["ownerReferences"][0]["uid"].clone());
                    if owner.is_some_and(|owner| owner == uid) {
                        return;
                    }
                    sleep(Duration::from_millis(5)).await;
                }
            })
            .await
            .expect("a lease of this Node object");
        }
        cancel.cancel();
        running.await.unwrap().unwrap();
    }
}
