//! The store of a root folder, whether `holdfast up` or `server` runs on it or not.

use std::path::PathBuf;

use anyhow::{Context, Result, bail, ensure};
use holdfast_volume_controller::store::{Database, Store};
use kube::{
    Client,
    config::{KubeConfigOptions, Kubeconfig},
};

use crate::root::{Root, Taken};

/// Which store.
#[derive(clap::Args)]
pub(crate) struct TargetArgs {
    /// The root folder of `holdfast up` or `server`.
    #[arg(long, value_name = "DIR", env = "HOLDFAST_ROOT")]
    pub(crate) root: PathBuf,
    /// The PostgreSQL database of this root, as for `holdfast up` or `server`, while that does not run.
    // Not parsed by clap, which would print it, password included.
    #[arg(long, value_name = "URL", env = "HOLDFAST_STORE", hide_env_values = true)]
    pub(crate) store: Option<String>,
}

/// How a store is reached.
pub(crate) enum Target {
    /// Through the process that has it open.
    Running(Client),
    /// It was opened here, and nobody else gets the root meanwhile.
    Idle(Store, Root),
}

impl TargetArgs {
    pub(crate) fn database(&self) -> Result<Option<Database>> {
        self.store.as_deref().map(str::parse::<Database>).transpose().context("--store")
    }

    /// Finds out who has the store, and opens it if nobody has. Makes none.
    pub(crate) async fn reach(&self) -> Result<Target> {
        let shown = self.root.display();
        let is_there = self.root.try_exists().with_context(|| format!("cannot look for {shown}"))?;
        ensure!(is_there, "there is no folder {shown}");
        let root = match Root::attempt(&self.root)? {
            Taken::InUse(owner) => {
                return running(&self.root).await.with_context(|| {
                    format!("{owner} has the root folder {shown}, and its API server is needed")
                });
            }
            Taken::Ours(root) => root,
        };
        if !super::is_there(root.path())? {
            bail!("{shown} has no store: no holdfast up or server was started on it");
        }
        let store = super::look(root.path(), self.database()?).await?;
        Ok(Target::Idle(store, root))
    }
}

async fn running(root: &std::path::Path) -> Result<Target> {
    // An error here only says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let config = Kubeconfig::read_from(root.join("kubeconfig"))?;
    let mut config = kube::Config::from_custom_kubeconfig(config, &KubeConfigOptions::default()).await?;
    // A large store takes its time to be checked.
    config.read_timeout = None;
    Ok(Target::Running(Client::try_from(config)?))
}
