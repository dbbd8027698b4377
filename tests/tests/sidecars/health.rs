//! What kubelet asks: whether the driver lives, and whether it is announced; and what owners of claims are told of their
//! volumes.

use std::path::Path;

use anyhow::{Context, Result, ensure};
use holdfast_proto::registration::{InfoRequest, registration_client::RegistrationClient};
use holdfast_tests::{driver::Driver, sidecar, sidecar::Sidecar, wait::until};
use hyper_util::rt::TokioIo;
use k8s_openapi::api::core::v1::Event;
use kube::{Api, api::ListParams};
use rustix::process::Signal;
use tonic::transport::Endpoint;

use crate::stage::{Stage, cannot_run};

/// A driver with one pool in memory, which needs no API.
fn driver(folder: &Path) -> Result<Driver> {
    Driver::start(
        folder,
        "[[pool]]\nname = \"default\"\nbackend = \"tmpfs\"\nlimits = { capacity = \"64Mi\" }\n",
    )
}

async fn answers(sidecar: &Sidecar, status: u16, body: &str) -> Result<()> {
    until(&format!("/healthz answers {status} {body:?}"), || async {
        let answer = sidecar.ask("/healthz").await?;
        ensure!(answer.0 == status && answer.1.contains(body), "{answer:?}");
        Ok(Some(()))
    })
    .await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_that_is_not_there_or_hangs_is_not_alive() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let (_folder, path) = sidecar::folder()?;
    let address = format!("--csi-address={}", path.join("csi.sock").display());
    let words = ["liveness", &address, "--http-endpoint=127.0.0.1:0", "--probe-timeout=500ms"];
    let mut sidecar = Sidecar::start(&path, "liveness", &words)?;
    answers(&sidecar, 500, "").await?;
    let mut driver = driver(&path)?;
    answers(&sidecar, 200, "ok").await?;
    let metrics = sidecar.ask("/metrics").await?.1;
    ensure!(metrics.contains("/csi.v1.Identity/Probe"), "{metrics}");
    driver.signal(Signal::STOP)?;
    answers(&sidecar, 500, "no answer within 0.5 s").await?;
    driver.signal(Signal::CONT)?;
    answers(&sidecar, 200, "ok").await?;
    driver.restart()?;
    answers(&sidecar, 200, "ok").await?;
    ensure!(sidecar.terminate().await?.success(), "it ends in order:\n{}", sidecar.log());
    Ok(())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn a_driver_is_announced_for_as_long_as_the_registrar_lives() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let (_folder, path) = sidecar::folder()?;
    let address = format!("--csi-address={}", path.join("csi.sock").display());
    let folder = format!("--plugin-registration-path={}", path.join("registry").display());
    let seen = "--kubelet-registration-path=/var/lib/kubelet/plugins/csi.holdfast.dev/csi.sock";
    let words = ["registrar", &address, &folder, seen, "--http-endpoint=127.0.0.1:0"];
    let mut sidecar = Sidecar::start(&path, "registrar", &words)?;
    answers(&sidecar, 500, "not known yet").await?;
    let _driver = driver(&path)?;
    answers(&sidecar, 200, "ok").await?;
    let socket = path.join("registry/csi.holdfast.dev-reg.sock");
    let to = socket.clone();
    let connect = tower::service_fn(move |_| {
        let to = to.clone();
        async move { Ok::<_, std::io::Error>(TokioIo::new(tokio::net::UnixStream::connect(to).await?)) }
    });
    let channel = Endpoint::from_static("http://reg.sock").connect_with_connector(connect).await?;
    let info = RegistrationClient::new(channel).get_info(InfoRequest {}).await?.into_inner();
    ensure!(info.name == "csi.holdfast.dev" && info.r#type == "CSIPlugin", "{info:?}");
    ensure!(info.endpoint == "/var/lib/kubelet/plugins/csi.holdfast.dev/csi.sock", "{info:?}");
    // Killed, it leaves a socket at which nobody listens; the next one takes its place.
    sidecar.kill()?;
    sidecar.start_again()?;
    answers(&sidecar, 200, "ok").await?;
    ensure!(sidecar.terminate().await?.success(), "it ends in order:\n{}", sidecar.log());
    ensure!(!socket.exists(), "what is ended is not announced any more");
    Ok(())
}

/// The reasons of what was told of a claim, with the notes.
async fn told(stage: &Stage, claim: &str) -> Result<Vec<(String, String)>> {
    let events = Api::<Event>::namespaced(stage.client.clone(), holdfast_tests::objects::NAMESPACE);
    let params = ListParams::default().fields(&format!("involvedObject.name={claim}"));
    let events = events.list(&params).await?.items.into_iter();
    Ok(events.map(|event| (event.reason.unwrap_or_default(), event.message.unwrap_or_default())).collect())
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn owners_hear_of_volumes_that_are_not_well() -> Result<()> {
    if cannot_run() {
        return Ok(());
    }
    let stage = Stage::new().await?;
    let words = stage.flags(&[
        "--controllers=provisioner,health",
        "--list-volumes-interval=200ms",
        "--leader-election",
    ]);
    let words: Vec<&str> = words.iter().map(String::as_str).collect();
    let mut sidecar = Sidecar::start(&stage.path, "sidecar", &words)?;
    stage.claim("well").await?;
    stage.claim("ill").await?;
    stage.bound("well").await?;
    let volume = stage.objects.volumes.get(&stage.bound("ill").await?).await?;
    let handle = volume.spec.and_then(|spec| spec.csi).context("a CSI volume")?.volume_handle;
    let image = stage.path.join("pool/volumes").join(handle).join("disk.img");
    let aside = image.with_extension("aside");
    std::fs::rename(&image, &aside)?;
    let heard = |reason: &'static str| {
        let stage = &stage;
        until(reason, move || async move {
            let told = told(stage, "ill").await?;
            let note = told.into_iter().find(|(told, _)| told == reason);
            Ok(note.map(|(_, note)| note))
        })
    };
    let note = heard("VolumeConditionAbnormal").await?;
    ensure!(note.contains("data is missing"), "{note}");
    // Told by another life that it is well again.
    sidecar.kill()?;
    std::fs::rename(&aside, &image)?;
    sidecar.start_again()?;
    heard("VolumeConditionNormal").await?;
    let well = told(&stage, "well").await?;
    ensure!(!well.iter().any(|(reason, _)| reason.starts_with("VolumeCondition")), "{well:?}");
    Ok(())
}
