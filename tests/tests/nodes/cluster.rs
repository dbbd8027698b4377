//! `holdfast server` with node agents that can be stopped, and a volume of a driver that the test itself plays.

use std::{collections::BTreeMap, fmt::Debug, sync::Arc, time::Duration};

use anyhow::{Context as _, Result, ensure};
use holdfast_api::nodes::{NOT_READY, UNREACHABLE};
use holdfast_node_agent as agent;
use holdfast_tests::{
    objects::{self, NAMESPACE, Objects},
    server::{Server, get},
    wait::until,
};
use k8s_openapi::api::{
    core::v1::{Event, Node},
    storage::v1::{CSIDriver, VolumeAttachment},
};
use kube::{
    Api, Client, ResourceExt as _,
    api::{DeleteParams, ListParams, Patch, PatchParams},
};
use serde_json::{Value, json};
use tempfile::TempDir;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

pub(crate) const DRIVER: &str = "d.example.com";

/// One node's agent, as long as it runs.
struct Agent {
    stop: CancellationToken,
    running: JoinHandle<Result<(), agent::Error>>,
}

pub(crate) struct Cluster {
    _server: Server,
    pub(crate) client: Client,
    pub(crate) objects: Objects,
    pub(crate) nodes: Api<Node>,
    agents: BTreeMap<String, Agent>,
    roots: Arc<TempDir>,
}

impl Cluster {
    /// A server that waits five seconds for its nodes, and these nodes.
    pub(crate) async fn start(nodes: &[&str]) -> Result<Self> {
        let mut server = Server::on_file()?;
        server.spawn_with(&["--node-monitor-grace-period", "5s"])?;
        server.ready().await?;
        let client = server.client().await?;
        let mut cluster = Self {
            objects: Objects::new(&client),
            nodes: Api::all(client.clone()),
            client,
            _server: server,
            agents: BTreeMap::new(),
            roots: Arc::new(tempfile::tempdir()?),
        };
        for node in nodes {
            cluster.start_agent(node).await?;
        }
        let drivers: Api<CSIDriver> = Api::all(cluster.client.clone());
        objects::create(&drivers, json!({"metadata": {"name": DRIVER}, "spec": {"attachRequired": true}}))
            .await?;
        Ok(cluster)
    }

    /// Starts a node's agent, on what it left when it was stopped, and waits until the node is ready.
    pub(crate) async fn start_agent(&mut self, node: &str) -> Result<()> {
        let mut config = agent::Config::new(self.client.clone(), node, self.roots.path().join(node));
        config.lease_duration = Duration::from_secs(4);
        let stop = CancellationToken::new();
        let running = tokio::spawn(agent::run(config, stop.clone()));
        self.agents.insert(node.to_owned(), Agent { stop, running });
        self.is_ready(node, "True").await
    }

    /// Stops it, as a machine stops that loses its power: it says nothing any more.
    pub(crate) async fn stop_agent(&mut self, node: &str) -> Result<()> {
        if let Some(agent) = self.agents.remove(node) {
            agent.stop.cancel();
            agent.running.await??;
        }
        Ok(())
    }

    pub(crate) async fn is_ready(&self, node: &str, status: &str) -> Result<()> {
        until(&format!("node {node} is ready: {status}"), || async {
            let node = self.nodes.get(node).await?;
            Ok((holdfast_api::nodes::condition(&node, "Ready") == Some(status)).then_some(()))
        })
        .await
    }

    /// Waits until a node has these taints, of those that begin with `node.kubernetes.io`.
    pub(crate) async fn has_taints(&self, node: &str, wanted: &[(&str, &str)]) -> Result<()> {
        until(&format!("node {node} has the taints {wanted:?}"), || async {
            let node = self.nodes.get(node).await?;
            let taints = holdfast_api::nodes::taints(&node).iter();
            let mut has: Vec<_> = taints.map(|taint| (taint.key.as_str(), taint.effect.as_str())).collect();
            has.sort_unstable();
            ensure!(has == wanted, "{has:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Puts a taint on a node, or takes it off, as `kubectl taint` does: the others stay.
    pub(crate) async fn taint(&self, node: &str, key: &str, effect: Option<&str>) -> Result<()> {
        until(&format!("node {node} is given the taint {key}: {effect:?}"), || async {
            let found = self.nodes.get(node).await?;
            let mut taints = serde_json::to_value(holdfast_api::nodes::taints(&found))?;
            let list = taints.as_array_mut().context("a list")?;
            list.retain(|taint| taint["key"] != key);
            list.extend(effect.map(|effect| json!({"key": key, "value": "nodeshutdown", "effect": effect})));
            let version = found.metadata.resource_version;
            let patch = json!({"metadata": {"resourceVersion": version}, "spec": {"taints": taints}});
            self.nodes.patch(node, &PatchParams::default(), &Patch::Merge(patch)).await?;
            Ok(Some(()))
        })
        .await
    }

    /// A volume with the claim that it is bound to.
    pub(crate) async fn volume(&self, name: &str) -> Result<()> {
        let volume = json!({
            "metadata": {"name": name},
            "spec": {
                "accessModes": ["ReadWriteOnce"], "capacity": {"storage": "1Gi"}, "storageClassName": "",
                "persistentVolumeReclaimPolicy": "Retain", "csi": {"driver": DRIVER, "volumeHandle": name},
                "claimRef": {"namespace": NAMESPACE, "name": name},
            },
        });
        objects::create(&self.objects.volumes, volume).await?;
        let mut claim = objects::claim(name, "", "1Gi");
        claim["spec"]["volumeName"] = json!(name);
        objects::create(&self.objects.claims, claim).await?;
        until("the claim is bound", || async {
            let claim = self.objects.claims.get(name).await?;
            Ok((claim.status.and_then(|s| s.phase).as_deref() == Some("Bound")).then_some(()))
        })
        .await
    }

    /// A pod on a node, with a claim, that stays for a second where a node is lost.
    pub(crate) async fn pod(&self, name: &str, node: &str, claim: &str) -> Result<()> {
        let mut pod = objects::pod(name, claim);
        pod["spec"]["nodeName"] = json!(node);
        let patient = |key: &str| json!({"key": key, "operator": "Exists", "effect": "NoExecute", "tolerationSeconds": 1});
        pod["spec"]["tolerations"] = json!([patient(NOT_READY), patient(UNREACHABLE)]);
        objects::create(&self.objects.pods, pod).await
    }

    pub(crate) fn attachment_name(volume: &str, node: &str) -> String {
        holdfast_api::attachment::attachment_name(DRIVER, volume, node)
    }

    /// Plays the attacher: waits for the attachment, and says that it is attached.
    pub(crate) async fn attach(&self, volume: &str, node: &str) -> Result<VolumeAttachment> {
        let name = Self::attachment_name(volume, node);
        until(&format!("volume {volume} is to be attached to {node}"), || async {
            Ok(self.objects.attachments.get_opt(&name).await?)
        })
        .await?;
        let attached = json!({"status": {"attached": true}});
        let attachments = &self.objects.attachments;
        Ok(attachments.patch_status(&name, &PatchParams::default(), &Patch::Merge(attached)).await?)
    }

    /// Waits until the node says that it uses the volume.
    pub(crate) async fn is_in_use(&self, volume: &str, node: &str) -> Result<()> {
        let unique = holdfast_api::attachment::unique_volume_name(DRIVER, volume);
        until(&format!("node {node} lists volume {volume}"), || async {
            let node = self.nodes.get(node).await?;
            let listed =
                node.status.and_then(|s| s.volumes_in_use).is_some_and(|list| list.contains(&unique));
            Ok(listed.then_some(()))
        })
        .await
    }

    /// Waits until this is told about an object, with these words in it.
    pub(crate) async fn told(&self, about: &str, reason: &str, words: &str) -> Result<()> {
        let events: Api<Event> = Api::all(self.client.clone());
        let about = ListParams::default().fields(&format!("involvedObject.name={about},reason={reason}"));
        until(&format!("{reason} is told, with {words:?}"), || async {
            let events = events.list(&about).await?.items;
            let said: Vec<String> = events.into_iter().filter_map(|event| event.message).collect();
            ensure!(said.iter().any(|message| message.contains(words)), "said: {said:?}");
            Ok(Some(()))
        })
        .await
    }

    /// Waits until an object is not there any more.
    pub(crate) async fn is_gone<K>(&self, api: &Api<K>, name: &str) -> Result<()>
    where
        K: Clone + Debug + serde::de::DeserializeOwned,
    {
        until(&format!("{name} is gone"), || async { Ok(api.get_opt(name).await?.is_none().then_some(())) })
            .await
    }

    /// Whether the attachment is there as it was, and stays.
    pub(crate) async fn stays(&self, attachment: &VolumeAttachment) -> Result<()> {
        let now = self.objects.attachments.get(&attachment.name_any()).await?;
        ensure!(now.metadata.uid == attachment.metadata.uid, "made anew");
        ensure!(now.metadata.deletion_timestamp.is_none(), "detached: {now:?}");
        Ok(())
    }

    /// Ends a pod's object at once, as `kubectl delete --force` does.
    pub(crate) async fn force_delete(&self, pod: &str) -> Result<()> {
        let now = DeleteParams { grace_period_seconds: Some(0), ..DeleteParams::default() };
        self.objects.pods.delete(pod, &now).await?;
        Ok(())
    }

    /// A metric's value; `None` where it is not told.
    pub(crate) async fn metric(&self, name: &str) -> Result<Option<String>> {
        let text = self.client.request_text(get("/metrics")?).await?;
        let value = text.lines().find_map(|line| line.strip_prefix(name)?.strip_prefix(' '));
        Ok(value.map(str::to_owned))
    }
}

/// The node that was chosen for a claim.
pub(crate) fn chosen(claim: &Value) -> Option<&str> {
    claim["metadata"]["annotations"][holdfast_api::names::SELECTED_NODE].as_str()
}
