//! `holdfast sidecar`: what brings a CSI driver into Kubernetes.

mod client;
mod command;
mod flags;
mod go;
mod listen;

use std::{collections::BTreeSet, path::PathBuf, sync::Arc, time::Duration};

use anyhow::{Context, Result, bail, ensure};
use holdfast_sidecars::{Config, Controller, Diagnostics, Election, Health, Liveness, Metrics, Provisioning};
use prometheus_client::registry::Registry;
use tokio::{net::TcpListener, task::JoinSet};
use tokio_util::sync::CancellationToken;

use self::{client::Access, flags::Sidecar, listen::listen};
use crate::signals::{LEAVE, Signals, at_once, run_to_the_end};

pub(crate) use command::SidecarArgs;

/// How long kubelet's registration may take to answer a health check.
const REGISTRATION: Duration = Duration::from_secs(1);

/// Runs until a signal.
pub(crate) fn main(mut args: SidecarArgs) -> Result<()> {
    args.log.raise(args.number("v").unwrap_or_default());
    args.log.start()?;
    for (name, why) in args.idle() {
        tracing::warn!("--{name} has no effect: {why}");
    }
    crate::files::raise_limit();
    // An error here only says that there is one already, which is as good.
    let _ = rustls::crypto::ring::default_provider().install_default();
    let node = node(&args)?;
    ensure!(
        !(args.is_given("http-endpoint") && args.is_given("metrics-address")),
        "--http-endpoint and --metrics-address are two names for one thing: give one of them"
    );
    run_to_the_end(run(args, node))
}

/// The node whose provisioner this is.
fn node(args: &SidecarArgs) -> Result<Option<String>> {
    if !args.is_on("node-deployment") {
        return Ok(None);
    }
    ensure!(
        !args.is_on("leader-election"),
        "--node-deployment is for one process on each node, --leader-election for one of many: give one of them"
    );
    let node = std::env::var("NODE_NAME").ok().filter(|name| !name.is_empty());
    node.context("--node-deployment needs the node's name in the environment: NODE_NAME").map(Some)
}

async fn run(args: SidecarArgs, node: Option<String>) -> Result<()> {
    let mut signals = Signals::listen()?;
    let metrics = Metrics::default();
    let health = Health::default();
    let servers = servers(&args, &metrics, &health).await?;
    let controllers: BTreeSet<Controller> = args.sidecars.iter().copied().filter_map(controller).collect();
    let config = match controllers.is_empty() {
        true => None,
        false => Some(config(&args, controllers, node, metrics, health).await?),
    };
    let stop = CancellationToken::new();
    // The diagnostics outlive the work: its end can be watched.
    let ended = CancellationToken::new();
    let mut serving = JoinSet::new();
    for (listener, diagnostics) in servers {
        tracing::info!(address = %listener.local_addr()?, "diagnostics are served");
        serving.spawn(diagnostics.serve(listener, ended.clone()));
    }
    let mut work = tokio::spawn({
        let stop = stop.clone();
        async move {
            match config {
                Some(config) => holdfast_sidecars::run(config, stop).await,
                // To answer is all that there is to do.
                None => {
                    stop.cancelled().await;
                    Ok(())
                }
            }
        }
    });
    let outcome = tokio::select! {
        outcome = &mut work => outcome,
        () = signals.recv() => {
            tracing::info!("stopping");
            stop.cancel();
            tokio::select! {
                outcome = &mut work => outcome,
                () = signals.recv() => at_once(),
                () = tokio::time::sleep(LEAVE) => {
                    bail!("some calls did not end within {LEAVE:?}: the driver or the API server hangs; left without \
                           them, and their Leases run out")
                }
            }
        }
    };
    ended.cancel();
    Ok(outcome.context("the sidecars crashed")??)
}

fn controller(sidecar: Sidecar) -> Option<Controller> {
    match sidecar {
        Sidecar::Provisioner => Some(Controller::Provisioner),
        Sidecar::Attacher => Some(Controller::Attacher),
        Sidecar::Resizer => Some(Controller::Resizer),
        Sidecar::Snapshotter => Some(Controller::Snapshotter),
        Sidecar::Registrar => Some(Controller::Registrar),
        Sidecar::Health => Some(Controller::HealthMonitor),
        // It has nothing to do unless it is asked.
        Sidecar::Liveness => None,
    }
}

/// The path of a CSI socket.
fn socket(args: &SidecarArgs) -> Result<PathBuf> {
    let address = args.text("csi-address").unwrap_or_default();
    let path = address.strip_prefix("unix://").or_else(|| address.strip_prefix("unix:")).unwrap_or(address);
    ensure!(
        path.starts_with('/'),
        "--csi-address {address:?}: give the absolute path of the driver's unix socket"
    );
    Ok(path.into())
}

async fn config(
    args: &SidecarArgs,
    controllers: BTreeSet<Controller>,
    node: Option<String>,
    metrics: Metrics,
    health: Health,
) -> Result<Config> {
    let endpoint = socket(args)?;
    let folder = args.path("plugin-registration-path").unwrap_or_default();
    let mut config = Config::without_api(endpoint, folder);
    if controllers.iter().any(|controller| controller.uses_api()) {
        let access = Access::read(args.path("kubeconfig").as_deref(), args.text("master")).await?;
        config.client = Some(access.client()?);
        config.election = election(args, &access)?;
    }
    config.controllers = controllers;
    config.metrics = metrics;
    config.health = health;
    if let Some(path) = args.path("kubelet-registration-path") {
        config.registration_endpoint = path;
    }
    let take = |field: &mut Duration, name| *field = args.duration(name).unwrap_or(*field);
    take(&mut config.call_timeout, "timeout");
    take(&mut config.retry_first, "retry-interval-start");
    take(&mut config.retry_longest, "retry-interval-max");
    take(&mut config.monitor_volume, "monitor-interval");
    take(&mut config.monitor_list, "list-volumes-interval");
    let workers = args.count("worker-threads").or_else(|| args.count("workers"));
    config.workers = workers.unwrap_or(config.workers);
    config.extra_create_metadata = args.is_on("extra-create-metadata");
    config.default_fs_type = args.text("default-fstype").unwrap_or_default().to_owned();
    if let Some(prefix) = args.text("volume-name-prefix") {
        config.provisioning = Provisioning {
            volume_name_prefix: prefix.to_owned(),
            volume_name_uuid_length: usize::try_from(args.number("volume-name-uuid-length").unwrap_or(-1))
                .ok(),
            strict_topology: args.is_on("strict-topology"),
            immediate_topology: args.is_on("immediate-topology"),
            node,
        };
    }
    Ok(config)
}

fn election(args: &SidecarArgs, access: &Access) -> Result<Option<Election>> {
    if !args.is_on("leader-election") {
        return Ok(None);
    }
    let namespace = args.text("leader-election-namespace").map_or_else(client::namespace, str::to_owned);
    let host = rustix::system::uname();
    let host = host.nodename().to_str().context("the host name")?.to_owned();
    let mut election = Election::new(access.config(), namespace, &host);
    let take = |field: &mut Duration, name| *field = args.duration(name).unwrap_or(*field);
    take(&mut election.lease_duration, "leader-election-lease-duration");
    take(&mut election.renew_deadline, "leader-election-renew-deadline");
    take(&mut election.retry_period, "leader-election-retry-period");
    for label in args.text("leader-election-labels").unwrap_or_default().split(',').filter(|l| !l.is_empty())
    {
        let (key, value) = label
            .split_once(':')
            .with_context(|| format!("--leader-election-labels: {label:?} has no ':'"))?;
        election.labels.insert(key.to_owned(), value.to_owned());
    }
    election.check()?;
    Ok(Some(election))
}

/// What is served over HTTP, and where. Bound before anything runs: an address that is taken ends the command.
async fn servers(
    args: &SidecarArgs,
    metrics: &Metrics,
    health: &Health,
) -> Result<Vec<(TcpListener, Diagnostics)>> {
    let mut registry = Registry::default();
    metrics.register(&mut registry);
    let path = args.text("metrics-path").unwrap_or("/metrics");
    ensure!(path.starts_with('/'), "--metrics-path {path:?} does not begin with /");
    let has = |sidecar| args.sidecars.contains(&sidecar);
    let figures = Diagnostics {
        metrics: Some((Arc::new(registry), path.to_owned())),
        election: args.is_on("leader-election").then(|| health.clone()),
        ..Diagnostics::default()
    };
    let checks = Diagnostics {
        liveness: match (has(Sidecar::Liveness), args.duration("probe-timeout")) {
            (true, Some(patience)) => {
                Some(Liveness { socket: socket(args)?, patience, metrics: metrics.clone() })
            }
            _ => None,
        },
        registration: has(Sidecar::Registrar).then(|| (health.clone(), REGISTRATION)),
        ..Diagnostics::default()
    };
    let mut servers = Vec::new();
    let everywhere = args.text("http-endpoint").filter(|address| !address.is_empty());
    if let Some(address) = everywhere {
        let all = Diagnostics {
            liveness: checks.liveness.clone(),
            registration: checks.registration.clone(),
            ..figures.clone()
        };
        servers.push((listen("http-endpoint", address).await?, all));
    }
    if let Some(address) = args.text("metrics-address").filter(|address| !address.is_empty()) {
        servers.push((listen("metrics-address", address).await?, figures));
    }
    // A port of its own for the checks: the default where they are served nowhere else.
    let port = match args.number("health-port") {
        Some(port) if !args.is_given("health-port") && everywhere.is_some() => port.min(0),
        Some(port) => port,
        None if has(Sidecar::Liveness) && everywhere.is_none() => 9808,
        None => 0,
    };
    if port > 0 && (has(Sidecar::Liveness) || has(Sidecar::Registrar)) {
        servers.push((listen("health-port", &format!("0.0.0.0:{port}")).await?, checks));
    }
    Ok(servers)
}
