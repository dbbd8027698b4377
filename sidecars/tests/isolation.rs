//! What goes wrong in one place goes on in all others.

#![allow(clippy::expect_used, clippy::panic, reason = "a test stops at the first thing that is wrong")]

mod bench;

use bench::{Bench, DRIVER, until};
use holdfast_sidecars::Metrics;
use http::{Method, Request};
use kube::{Client, client::Body};
use prometheus_client::registry::Registry;
use serde_json::json;

/// A client with which every write on an object of this name panics, in the task of whoever writes.
fn poisoned(client: Client, name: &'static str) -> Client {
    let service = tower::service_fn(move |request: Request<Body>| {
        let client = client.clone();
        async move {
            let is_write = request.method() == Method::PATCH;
            assert!(!(is_write && request.uri().path().ends_with(name)), "this panic is part of the test");
            client.send(request).await
        }
    });
    Client::new(service, "default")
}

fn scrape(metrics: &Metrics) -> String {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let mut text = String::new();
    prometheus_client::encoding::text::encode(&mut text, &registry).expect("encodes");
    text
}

fn panics(metrics: &Metrics, queue: &str) -> u64 {
    let start = format!("workqueue_panics_total{{name=\"{queue}\"}} ");
    scrape(metrics).lines().find_map(|line| line.strip_prefix(&start)?.parse().ok()).unwrap_or_default()
}

#[tokio::test]
async fn an_object_that_panics_keeps_no_other_waiting() {
    let mut bench = Bench::new().await;
    bench.api.put("storageclasses", "", json!({"metadata": {"name": "fast"}, "provisioner": DRIVER}));
    let claim = |name: &str| {
        json!({"metadata": {"name": name, "uid": format!("u-{name}"),
                "annotations": {"volume.kubernetes.io/storage-provisioner": DRIVER}},
            "spec": {"accessModes": ["ReadWriteOnce"], "storageClassName": "fast",
                "resources": {"requests": {"storage": "1Gi"}}}})
    };
    bench.api.put("persistentvolumeclaims", "dev", claim("poison"));
    let mut config = bench.config();
    let metrics = config.metrics.clone();
    config.client = config.client.map(|client| poisoned(client, "/poison"));
    // One worker: who is kept waiting by anything is kept waiting by this.
    config.workers = 1;
    bench.start_with(config);
    until("it panics again and again", || panics(&metrics, "claims") > 3).await;
    for name in ["one", "two", "three"] {
        bench.api.put("persistentvolumeclaims", "dev", claim(name));
        let volume = format!("pvc-u-{name}");
        until("others get their volumes", || !bench.api.get("persistentvolumes", "", &volume).is_null())
            .await;
    }
    let text = scrape(&metrics);
    assert!(!text.contains("sidecar_controller_restarts_total{"), "no controller had to begin anew: {text}");
    assert_eq!(panics(&metrics, "attachments"), 0);
    bench.stop().await;
}
