//! What a write costs over HTTPS. A measurement, not an assertion:
//! `cargo test --release --test apiserver -- --ignored --nocapture speed`.

use std::time::Instant;

use futures::{StreamExt, stream};
use serde_json::json;

use super::harness::{CLAIMS, Cluster, claim};

const OBJECTS: usize = 2_000;

#[tokio::test(flavor = "multi_thread")]
#[ignore = "a measurement"]
async fn speed() {
    for width in [1, 32] {
        let cluster = Cluster::start().await;
        let timed = async |name: &str, kind: u8| {
            let started = Instant::now();
            let all = stream::iter(0..OBJECTS).map(|n| {
                let (cluster, path) = (&cluster, format!("{CLAIMS}/c{n}"));
                async move {
                    let answer = match kind {
                        0 => cluster.post(CLAIMS, &claim(&format!("c{n}"))).await,
                        1 => cluster.merge(&path, &json!({"metadata": {"labels": {"a": "b"}}})).await,
                        _ => {
                            cluster
                                .merge(&format!("{path}/status"), &json!({"status": {"phase": "Lost"}}))
                                .await
                        }
                    };
                    assert!(answer.code < 300, "{}", answer.text);
                }
            });
            all.buffer_unordered(width).collect::<Vec<()>>().await;
            let rate = OBJECTS as f64 / started.elapsed().as_secs_f64();
            println!("{name:<30} {width:>3} at a time {rate:>8.0}/s");
        };
        timed("create a claim", 0).await;
        timed("label it (merge patch)", 1).await;
        timed("change its status", 2).await;
        let bodies: usize = cluster
            .store
            .list("persistentvolumeclaims", None, None, None)
            .objects
            .iter()
            .map(|o| o.body.len())
            .sum();
        println!("bytes an object: {}", bodies / OBJECTS);
        cluster.stop().await;
    }
}
