//! What the tests of this folder run against: a driver on a real socket that records and
//! misbehaves on demand, and as much of a Kubernetes API as the sidecars use.

#![allow(dead_code, reason = "each test file uses a part of the bench")]

pub(crate) mod api;
pub(crate) mod driver;

use std::{path::PathBuf, time::Duration};

use holdfast_sidecars::{Config, Controller};
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use api::Api;
use driver::Driver;

pub(crate) const DRIVER: &str = "d.example.com";

/// The sidecars under test with everything around them.
pub(crate) struct Bench {
    pub(crate) api: Api,
    pub(crate) driver: Driver,
    folder: tempfile::TempDir,
    run: Option<(CancellationToken, JoinHandle<()>)>,
}

impl Bench {
    /// A bench with a driver that serves; the sidecars do not run yet.
    pub(crate) async fn new() -> Self {
        let bench = Self::without_driver();
        bench.driver.serve(&bench.socket());
        bench
    }

    pub(crate) fn without_driver() -> Self {
        let folder = tempfile::tempdir().expect("a folder");
        Self { api: Api::default(), driver: Driver::default(), folder, run: None }
    }

    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.path().join("csi.sock")
    }

    pub(crate) fn config(&self) -> Config {
        let registry = self.folder.path().join("plugins_registry");
        let mut config = Config::new(self.api.client(), self.socket(), registry);
        config.controllers.remove(&Controller::Registrar);
        config.retry_first = Duration::from_millis(20);
        config.retry_longest = Duration::from_millis(40);
        config.call_timeout = Duration::from_secs(10);
        config
    }

    pub(crate) fn start(&mut self) {
        self.start_with(self.config());
    }

    pub(crate) fn start_with(&mut self, config: Config) {
        let cancel = CancellationToken::new();
        let stop = cancel.clone();
        let task = tokio::spawn(async move {
            holdfast_sidecars::run(config, stop).await.expect("the sidecars run");
        });
        self.run = Some((cancel, task));
    }

    /// Ends the sidecars wherever they are, as a kill would: nothing gets to clean up.
    pub(crate) async fn kill(&mut self) {
        if let Some((_, task)) = self.run.take() {
            task.abort();
            let _ = task.await;
        }
    }

    /// Ends the sidecars in order.
    pub(crate) async fn stop(&mut self) {
        if let Some((cancel, task)) = self.run.take() {
            cancel.cancel();
            task.await.expect("no panic");
        }
    }
}

/// Waits until `met`; the test runner's own limit ends a wait in vain.
pub(crate) async fn until(what: &str, met: impl Fn() -> bool) {
    let begun = std::time::Instant::now();
    while !met() {
        assert!(begun.elapsed() < Duration::from_secs(30), "waited in vain until {what}");
        tokio::time::sleep(Duration::from_millis(2)).await;
    }
}
