//! `holdfast server`: the API and the cluster controllers, without anything that touches volumes. One beside others where
//! the objects are in PostgreSQL.

use anyhow::Result;
use holdfast_volume_controller::controllers;

use crate::{
    api::{Api, ApiArgs, ApiPlan},
    nodes::NodeArgs,
    parts::Parts,
    root::Root,
    signals::{Signals, run_to_the_end},
    store::Purpose,
};

/// The longest path of a socket below the root.
const SOCKET: &str = "pki/api.sock";

/// What `holdfast server` takes.
#[derive(clap::Args)]
pub(crate) struct ServerArgs {
    #[command(flatten)]
    api: ApiArgs,
    #[command(flatten)]
    nodes: NodeArgs,
    /// Let the keys of this root take the place of those by which the servers of a PostgreSQL database know one another.
    /// No other server may run, nor come, until this one is started again without it
    #[arg(long)]
    replace_keys: bool,
}

/// Runs until a signal.
pub(crate) fn main(args: ServerArgs) -> Result<()> {
    let patience = args.nodes.patience()?;
    let plan = args.api.check(SOCKET)?;
    let root = plan.take_root()?;
    // Who must be alone replaces what was noted of others.
    let purpose = if args.replace_keys { Purpose::Alone } else { Purpose::Serve };
    run_to_the_end(run(plan, root, purpose, patience))
}

async fn run(plan: ApiPlan, root: Root, purpose: Purpose, patience: controllers::Patience) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut api = tokio::select! {
        api = plan.start(&root, purpose) => api?,
        // What was under way in the database is rolled back there when the connection ends.
        () = signals.recv() => return Ok(()),
    };
    let mut parts = Parts::default();
    let mut config = controllers::Config::new(api.store.clone());
    config.patience = patience;
    config.metrics.register(&mut api.registry.lock());
    let stop = parts.stop.clone();
    match api.candidate.take() {
        Some(candidate) => parts.spawn("the controllers", controllers::lead(config, candidate, stop)),
        None => parts.spawn("the controllers", controllers::run(config, stop)),
    }
    announce(&api);
    let ended = tokio::select! {
        () = signals.recv() => Ok(()),
        ended = api.watch(&root, &mut parts) => Err(ended),
    };
    tracing::info!("stopping");
    api.leave(parts, &mut signals).await;
    ended
}

/// What a person needs to go on.
#[expect(clippy::print_stdout, reason = "the paths are this command's output")]
fn announce(api: &Api) {
    println!("holdfast {} serves https://{}", env!("CARGO_PKG_VERSION"), api.server.address);
    println!("  kubeconfig  {}", api.kubeconfig().display());
    println!("  API socket  {}", api.server.socket.display());
}
