//! How long a change takes to the last of many that watch.

use std::time::{Duration, Instant};

use anyhow::{Context as _, Result};
use serde_json::json;
use tokio::{sync::mpsc, time::timeout};

use super::{CLAIMS, claim, connection::Door, median, server::Server};
use crate::table::{Table, mebibytes, millis, resident};

const WATCHERS: usize = 1000;
const CHANGES: usize = 50;
/// What each event begins with.
const EVENT: &[u8] = br#"{"type":"#;

pub(super) async fn measure(server: &Server, table: &Table) -> Result<()> {
    let mut writer = server.connect(Door::Unix).await?;
    writer.create(CLAIMS, &claim("watched")).await?;
    let before = resident(server.pid())?;
    let (told, mut heard) = mpsc::unbounded_channel();
    for _ in 0..WATCHERS {
        let mut connection = server.connect(Door::Unix).await?;
        connection.watch(&format!("{CLAIMS}?watch=1&fieldSelector=metadata.name=watched")).await?;
        let told = told.clone();
        tokio::spawn(async move {
            // Where an event is torn in two, its first part is enough.
            while let Ok(bytes) = connection.read().await {
                let now = Instant::now();
                for _ in bytes.windows(EVENT.len()).filter(|window| *window == EVENT) {
                    let _ = told.send(now);
                }
            }
        });
    }
    // Each hears of what is there.
    let mut all = async |begun: Instant| -> Result<Duration> {
        let mut last = Duration::ZERO;
        for _ in 0..WATCHERS {
            let at =
                timeout(Duration::from_secs(60), heard.recv()).await.context("a watcher heard nothing")?;
            last = last.max(at.context("all watches ended")?.saturating_duration_since(begun));
        }
        Ok(last)
    };
    all(Instant::now()).await?;
    // The one before may have been idle for too long meanwhile.
    let mut writer = server.connect(Door::Unix).await?;
    let mut times = Vec::new();
    for change in 0..CHANGES {
        let patch = json!({"metadata": {"annotations": {"change": change.to_string()}}});
        let begun = Instant::now();
        writer.merge(&format!("{CLAIMS}/watched"), &patch).await?;
        times.push(all(begun).await?);
    }
    table.row(
        &format!("a change until the last of {WATCHERS} watchers has it, median of {CHANGES}"),
        &millis(median(times)),
        "from the sending of the change, the commit included",
    );
    let taken = resident(server.pid())?.saturating_sub(before);
    table.row(&format!("memory of {WATCHERS} watchers"), &mebibytes(taken), "connections included");
    Ok(())
}
