//! A volume's life under the sidecars alone, undisturbed and with `kill -9` of them at each of its moments.

use anyhow::{Context, Result, ensure};
use holdfast_api::access::volume_capacity;
use holdfast_tests::{
    objects::{self, NAMESPACE},
    sidecar::Sidecar,
    wait::until,
};
use kube::api::ListParams;
use serde_json::json;

use crate::stage::{Stage, cannot_run};

/// When the process is killed.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) enum Moment {
    ClaimCreated,
    VolumeCreated,
    Bound,
    AttachmentCreated,
    Attached,
    GrowthAsked,
    SnapshotCreated,
    ContentCreated,
    Taken,
    SnapshotDeleting,
    PodDeleting,
    ClaimDeleting,
    Never,
}

/// From a claim to nothing. `sidecars` are killed and started again at the moment.
pub(crate) async fn live(stage: &Stage, sidecars: &mut [Sidecar], killed_at: Moment) -> Result<()> {
    let mut at = |moment: Moment| -> Result<()> {
        if moment == killed_at {
            for sidecar in sidecars.iter_mut() {
                sidecar.kill()?;
                sidecar.start_again()?;
            }
        }
        Ok(())
    };
    let objects = &stage.objects;
    let all = ListParams::default();
    stage.claim("data").await?;
    at(Moment::ClaimCreated)?;
    until("a volume is saved", || async { Ok(objects.volumes.list(&all).await?.items.pop()) }).await?;
    at(Moment::VolumeCreated)?;
    let volume = stage.bound("data").await?;
    at(Moment::Bound)?;

    objects::create(&objects.pods, Stage::pod("user", "data")).await?;
    until("an attachment is there", || async { Ok(objects.attachments.list(&all).await?.items.pop()) })
        .await?;
    at(Moment::AttachmentCreated)?;
    until("the volume is attached", || async {
        let attachments = objects.attachments.list(&all).await?.items;
        Ok(attachments.into_iter().find(|a| a.status.as_ref().is_some_and(|status| status.attached)))
    })
    .await?;
    at(Moment::Attached)?;

    objects::resize(&objects.claims, "data", "32Mi").await?;
    at(Moment::GrowthAsked)?;
    until("the volume has grown", || async {
        Ok((volume_capacity(&objects.volumes.get(&volume).await?)? == 32 << 20).then_some(()))
    })
    .await?;

    let snapshot = json!({"metadata": {"name": "monday", "namespace": NAMESPACE},
        "spec": {"volumeSnapshotClassName": "snapshots", "source": {"persistentVolumeClaimName": "data"}}});
    objects::create(&stage.snapshots(), snapshot).await?;
    at(Moment::SnapshotCreated)?;
    until("the snapshot has a content", || async { Ok(stage.contents().list(&all).await?.items.pop()) })
        .await?;
    at(Moment::ContentCreated)?;
    until("the snapshot is ready", || async {
        let status = stage.snapshots().get("monday").await?.status;
        Ok(status.and_then(|status| status.ready_to_use).filter(|ready| *ready))
    })
    .await?;
    at(Moment::Taken)?;
    let held = stage.in_pool()?;
    ensure!(held.len() == 2, "a volume and a snapshot, each once: {held:?}");

    objects::delete(&stage.snapshots(), "monday").await?;
    at(Moment::SnapshotDeleting)?;
    until("the content is gone", || async {
        Ok(stage.contents().list(&all).await?.items.is_empty().then_some(()))
    })
    .await?;
    objects::delete(&objects.pods, "user").await?;
    at(Moment::PodDeleting)?;
    objects::delete(&objects.claims, "data").await?;
    at(Moment::ClaimDeleting)?;
    // Nobody is there to unmount: the node's agent would take the pod's object away.
    let now = kube::api::DeleteParams { grace_period_seconds: Some(0), ..Default::default() };
    objects.pods.delete("user", &now).await.map(drop).or_else(|error| match error {
        kube::Error::Api(status) if status.code == 404 => Ok(()),
        other => Err(other),
    })?;
    stage.is_empty().await
}

fn one(stage: &Stage, more: &[&str]) -> Result<Sidecar> {
    let mut words = vec!["--controllers=provisioner,attacher,resizer,snapshotter"];
    words.extend(more);
    let words = stage.flags(&words);
    Sidecar::start(&stage.path, "sidecar", &words.iter().map(String::as_str).collect::<Vec<_>>())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn all_in_one_process() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let stage = Stage::new().await?;
    let mut sidecars = [one(&stage, &["--http-endpoint=127.0.0.1:0"])?];
    live(&stage, &mut sidecars, Moment::Never).await?;
    let [mut sidecar] = sidecars;
    let (status, metrics) = sidecar.ask("/metrics").await?;
    ensure!(status == 200, "{metrics}");
    let call = "csi_sidecar_operations_seconds_count{driver_name=\"csi.holdfast.dev\",\
                method_name=\"/csi.v1.Controller/CreateVolume\",grpc_status_code=\"OK\"} 1";
    ensure!(metrics.contains(call), "{metrics}");
    ensure!(sidecar.ask("/healthz").await?.0 == 404, "no liveness is asked for");
    ensure!(sidecar.terminate().await?.success(), "it ends in order:\n{}", sidecar.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn killed_at_every_moment() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let stage = Stage::new().await?;
    let mut sidecars = [one(&stage, &[])?];
    for moment in [
        Moment::ClaimCreated,
        Moment::VolumeCreated,
        Moment::Bound,
        Moment::AttachmentCreated,
        Moment::Attached,
        Moment::GrowthAsked,
        Moment::SnapshotCreated,
        Moment::ContentCreated,
        Moment::Taken,
        Moment::SnapshotDeleting,
        Moment::PodDeleting,
        Moment::ClaimDeleting,
    ] {
        live(&stage, &mut sidecars, moment).await.with_context(|| format!("killed at {moment:?}"))?;
    }
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn each_alone_under_upstreams_flags() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let stage = Stage::new().await?;
    // As upstream's manifests have them.
    let start = |name: &str, more: &[&str]| -> Result<Sidecar> {
        let mut words = vec![name, "-v=5", "--leader-election", "--leader-election-namespace=default"];
        words.extend(more);
        let words = stage.flags(&words);
        Sidecar::start(&stage.path, name, &words.iter().map(String::as_str).collect::<Vec<_>>())
    };
    let mut sidecars = [
        start(
            "provisioner",
            &[
                "--feature-gates=Topology=true",
                "--strict-topology",
                "--extra-create-metadata",
                "--timeout=30s",
                "--volume-name-prefix=vol",
            ],
        )?,
        start("attacher", &["--timeout=30s", "--worker-threads=4", "--kube-api-qps=20"])?,
        start("resizer", &["--workers=4", "--handle-volume-inuse-error=false"])?,
        start("snapshotter", &["--snapshot-name-prefix=snap"])?,
    ];
    live(&stage, &mut sidecars, Moment::Never).await?;
    let leases: Vec<String> = stage
        .leases()
        .list(&ListParams::default())
        .await?
        .items
        .into_iter()
        .filter_map(|l| l.metadata.name)
        .collect();
    let wanted = [
        "csi-holdfast-dev",
        "external-attacher-leader-csi-holdfast-dev",
        "external-resizer-csi-holdfast-dev",
        "external-snapshotter-leader-csi-holdfast-dev",
    ];
    ensure!(leases == wanted, "upstream's names: {leases:?}");
    let log = sidecars[2].log();
    ensure!(log.matches("--handle-volume-inuse-error has no effect").count() == 1, "{log}");
    ensure!(!log.contains("--leader-election has no effect"), "{log}");
    for sidecar in &mut sidecars {
        ensure!(sidecar.terminate().await?.success(), "it ends in order:\n{}", sidecar.log());
    }
    Ok(())
}
