//! The way to the API server: a kubeconfig, or the service account of the pod.

use std::path::Path;

use anyhow::{Context, Result};
use http::{HeaderValue, header::USER_AGENT};
use kube::{
    Client, Config,
    config::{KubeConfigOptions, Kubeconfig},
};

/// Under this name the server records which fields are ours.
const AGENT: &str = concat!("holdfast-sidecar/", env!("CARGO_PKG_VERSION"));
const NAMESPACE_OF_POD: &str = "/var/run/secrets/kubernetes.io/serviceaccount/namespace";

/// How the API server is reached.
pub(super) struct Access(Config);

impl Access {
    /// Reads it; `master` goes before the address in it.
    pub(super) async fn read(kubeconfig: Option<&Path>, master: Option<&str>) -> Result<Self> {
        let mut config = match kubeconfig {
            Some(path) => {
                let shown = path.display();
                let file = Kubeconfig::read_from(path)
                    .with_context(|| format!("cannot read --kubeconfig {shown}"))?;
                let options = KubeConfigOptions::default();
                let config = Config::from_custom_kubeconfig(file, &options).await;
                config.with_context(|| format!("--kubeconfig {shown}"))?
            }
            None => Config::incluster().context(
                "there is no service account here, as there is in a pod: name a kubeconfig with --kubeconfig",
            )?,
        };
        if let Some(master) = master {
            config.cluster_url = master.parse().with_context(|| format!("--master {master:?}"))?;
        }
        config.headers.push((USER_AGENT, HeaderValue::from_static(AGENT)));
        // Whoever asks tries again by itself, and knows when that is of no use any more.
        config.default_retry = false;
        Ok(Self(config))
    }

    /// For clients that are made elsewhere.
    pub(super) fn config(&self) -> Config {
        self.0.clone()
    }

    /// A client with connections of its own.
    pub(super) fn client(&self) -> Result<Client> {
        Client::try_from(self.0.clone()).context("cannot make a client of the API server")
    }
}

/// Where upstream's sidecars have their Leases if nobody says so.
pub(super) fn namespace() -> String {
    let set = |name: String| Some(name.trim().to_owned()).filter(|name| !name.is_empty());
    let named = std::env::var("POD_NAMESPACE").ok().and_then(set);
    named
        .or_else(|| std::fs::read_to_string(NAMESPACE_OF_POD).ok().and_then(set))
        .unwrap_or_else(|| "default".to_owned())
}
