//! Nodes that fall silent, are shut down, come back, and go for good.

use anyhow::{Context as _, Result, ensure};
use holdfast_api::{
    attachment::{BOOT_ID, MACHINE_ID},
    nodes::{NO_EXECUTE, NO_SCHEDULE, OUT_OF_SERVICE, UNREACHABLE, UNSCHEDULABLE},
};
use holdfast_tests::{objects, wait::until};
use kube::{
    ResourceExt as _,
    api::{Patch, PatchParams},
};
use serde_json::json;

use super::cluster::{Cluster, chosen};

const FORCED: &str = r#"attachdetach_controller_forced_detaches{reason="out-of-service"}"#;

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_a_silent_node_has_is_given_away_on_somebodys_word_only() -> Result<()> {
    let mut cluster = Cluster::start(&["a", "b"]).await?;
    cluster.volume("v").await?;
    cluster.pod("first", "a", "v").await?;
    let on_a = cluster.attach("v", "a").await?;
    let info = cluster.nodes.get("a").await?.status.and_then(|s| s.node_info).context("a machine")?;
    ensure!(
        on_a.annotations().get(BOOT_ID) == Some(&info.boot_id) && on_a.annotations().contains_key(MACHINE_ID)
    );
    cluster.is_in_use("v", "a").await?;

    // Said to be shut down, and alive: nothing is forced.
    cluster.taint("a", OUT_OF_SERVICE, Some(NO_SCHEDULE)).await?;
    cluster.told("a", "NodeNotOutOfService", "but it is alive").await?;
    cluster.stays(&on_a).await?;
    cluster.taint("a", OUT_OF_SERVICE, None).await?;

    // It falls silent. Its pods are to go, but nobody knows whether they have.
    cluster.stop_agent("a").await?;
    cluster.is_ready("a", "Unknown").await?;
    cluster.told("a", "NodeNotReady", "node.kubernetes.io/out-of-service=nodeshutdown:NoExecute").await?;
    cluster.told("first", "NodeNotReady", "Node is not ready").await?;
    cluster.has_taints("a", &[(UNREACHABLE, NO_EXECUTE), (UNREACHABLE, NO_SCHEDULE)]).await?;
    cluster.told("first", "TaintManagerEviction", "Marking for deletion Pod default/first").await?;
    cluster.told("first", "NodeNotReady", "nobody knows whether it has let go").await?;
    cluster.pod("second", "b", "v").await?;
    cluster
        .told("second", "FailedAttachVolume", "kubectl taint nodes a node.kubernetes.io/out-of-service")
        .await?;
    // Not even when its pod is forced away: that another is to be attached shows that the node was looked at since.
    cluster.force_delete("first").await?;
    cluster.volume("w").await?;
    cluster.pod("third", "a", "w").await?;
    cluster.attach("w", "a").await?;
    cluster.told("third", "TaintManagerEviction", "default/third").await?;
    cluster.stays(&on_a).await?;
    ensure!(cluster.metric(FORCED).await?.is_none(), "nothing was forced so far");

    // Now somebody says that it is shut down.
    cluster.taint("a", OUT_OF_SERVICE, Some(NO_EXECUTE)).await?;
    cluster.is_gone(&cluster.objects.pods, "third").await?;
    cluster.is_gone(&cluster.objects.attachments, &on_a.name_any()).await?;
    cluster.told("a", "ForcedDetach", "without the node's word").await?;
    let on_b = cluster.attach("v", "b").await?;
    ensure!(cluster.metric(FORCED).await?.as_deref() == Some("1"));
    let removed = r#"pod_gc_collector_force_delete_pods_total{namespace="default",reason="out-of-service"}"#;
    ensure!(cluster.metric(removed).await?.as_deref() == Some("1"));

    // It comes back, and is one of the nodes again as soon as the taint is off.
    cluster.start_agent("a").await?;
    cluster.told("a", "NodeReady", "NodeReady").await?;
    cluster.has_taints("a", &[(OUT_OF_SERVICE, NO_EXECUTE)]).await?;
    cluster.taint("a", OUT_OF_SERVICE, None).await?;
    cluster.has_taints("a", &[]).await?;
    cluster.stays(&on_b).await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_node_that_is_gone_frees_its_pods_and_those_that_wait_for_it() -> Result<()> {
    let mut cluster = Cluster::start(&["a", "b"]).await?;
    cluster.volume("v").await?;
    cluster.pod("first", "b", "v").await?;
    let on_b = cluster.attach("v", "b").await?;
    cluster.is_in_use("v", "b").await?;
    // A pod waits for a volume that is to be made on b.
    let cordon = |is_cordoned: bool| json!({"spec": {"unschedulable": is_cordoned}});
    cluster.nodes.patch("a", &PatchParams::default(), &Patch::Merge(cordon(true))).await?;
    cluster.has_taints("a", &[(UNSCHEDULABLE, NO_SCHEDULE)]).await?;
    let class = json!({
        "metadata": {"name": "late"}, "provisioner": "nobody.example.com", "volumeBindingMode": "WaitForFirstConsumer",
    });
    objects::create(&cluster.objects.classes, class).await?;
    objects::create(&cluster.objects.claims, objects::claim("waiting", "late", "1Gi")).await?;
    objects::create(&cluster.objects.pods, objects::pod("waiting", "waiting")).await?;
    let chosen_is = async |cluster: &Cluster, node: &str| {
        until(&format!("node {node} is chosen"), || async {
            let claim = serde_json::to_value(cluster.objects.claims.get("waiting").await?)?;
            Ok((chosen(&claim) == Some(node)).then_some(()))
        })
        .await
    };
    chosen_is(&cluster, "b").await?;

    // It goes: its object is deleted, and nobody makes it anew.
    cluster.stop_agent("b").await?;
    objects::delete(&cluster.nodes, "b").await?;
    cluster.nodes.patch("a", &PatchParams::default(), &Patch::Merge(cordon(false))).await?;
    chosen_is(&cluster, "a").await?;
    cluster.is_gone(&cluster.objects.pods, "first").await?;
    let removed = r#"pod_gc_collector_force_delete_pods_total{namespace="default",reason="orphaned"}"#;
    ensure!(cluster.metric(removed).await?.as_deref() == Some("1"));
    // Its volume is another matter: an object that is gone does not say that the machine is.
    let say = format!("kubectl delete volumeattachment {}", on_b.name_any());
    cluster.told(&on_b.name_any(), "NodeGone", &say).await?;
    cluster.pod("second", "a", "v").await?;
    cluster.told("second", "FailedAttachVolume", &say).await?;
    cluster.stays(&on_b).await?;
    objects::delete(&cluster.objects.attachments, &on_b.name_any()).await?;
    let on_a = cluster.attach("v", "a").await?;

    // One that is made anew under the name has nothing of what the former had.
    cluster.start_agent("b").await?;
    cluster.is_in_use("v", "a").await?;
    cluster.stays(&on_a).await
}
