//! `holdfast server`: the API and the cluster controllers, without anything that touches volumes. One beside others where
//! the objects are in PostgreSQL.

use anyhow::Result;
use holdfast_volume_controller::controllers;

use crate::{
    api::{Api, ApiArgs, ApiPlan},
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
}

/// Runs until a signal.
pub(crate) fn main(args: ServerArgs) -> Result<()> {
    let plan = args.api.check(SOCKET)?;
    let root = plan.take_root()?;
    run_to_the_end(run(plan, root))
}

async fn run(plan: ApiPlan, root: Root) -> Result<()> {
    let mut signals = Signals::listen()?;
    let mut api = tokio::select! {
        api = plan.start(&root, Purpose::Serve) => api?,
        // What was under way in the database is rolled back there when the connection ends.
        () = signals.recv() => return Ok(()),
    };
    let mut parts = Parts::default();
    let config = controllers::Config::new(api.store.clone());
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
