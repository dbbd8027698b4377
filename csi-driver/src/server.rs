//! The driver from its start to its end.

use std::{collections::BTreeMap, sync::Arc, time::Duration};

use holdfast_proto::csi::{
    controller_server::ControllerServer, group_controller_server::GroupControllerServer,
    identity_server::IdentityServer, node_server::NodeServer,
    snapshot_metadata_server::SnapshotMetadataServer,
};
use tokio::{runtime::Handle, time::timeout};
use tokio_util::{sync::CancellationToken, task::TaskTracker};
use tonic::{Status, service::Routes, transport::Server};

use crate::{
    admin,
    backend::{Abilities, tmpfs::Memory},
    command::Runner,
    config::{Attach, BackendKind, Config},
    controller::ControllerService,
    error::Error,
    group_controller::GroupControllerService,
    guard::Guards,
    health,
    identity::IdentityService,
    kernel::{forks, place::Place},
    node::NodeService,
    operation::Operations,
    pool::{Pool, apart},
    snapshot::SnapshotId,
    snapshot_metadata::SnapshotMetadataService,
    socket::Socket,
    volume::Volume,
    volume_id::VolumeId,
};

/// How long clients have to let go of their connections when the driver ends.
const FAREWELL: Duration = Duration::from_secs(5);
/// After so long the trash is tried again, for what could not be freed before.
const TRASH_PERIOD: Duration = Duration::from_secs(60);

/// What all services share.
#[derive(Debug)]
pub(crate) struct Driver {
    /// The driver's name.
    pub(crate) name: String,
    pub(crate) node_id: String,
    pub(crate) attach: Attach,
    pub(crate) pools: BTreeMap<String, Pool>,
    /// The pools with `backend = "tmpfs"`.
    pub(crate) memory: BTreeMap<String, Memory>,
    pub(crate) guards: Guards,
}

impl Driver {
    /// The pool in which a volume lies. A pool that is not configured now may hold it, so
    /// that is no "not found", which callers take for gone.
    pub(crate) fn pool_of(&self, id: &VolumeId) -> Result<&Pool, Error> {
        self.pools.get(id.pool()).ok_or_else(|| {
            Error::Precondition(format!(
                "pool {:?} of volume {id} is not configured here; add it again, or correct the volume's id",
                id.pool()
            ))
        })
    }

    /// As [`Driver::pool_of`], of a snapshot.
    pub(crate) fn pool_of_snapshot(&self, id: &SnapshotId) -> Result<&Pool, Error> {
        self.pools.get(id.pool()).ok_or_else(|| {
            Error::Precondition(format!(
                "pool {:?} of snapshot {id} is not configured here; add it again, or correct the snapshot's id",
                id.pool()
            ))
        })
    }

    /// Refuses to mount on a place in a pool, whose folders only the driver changes, and on
    /// one that would hide a pool.
    pub(crate) fn expect_outside_of_pools(&self, field: &str, place: &Place) -> Result<(), Error> {
        match self.pools.values().find(|pool| pool.meets(place.path())) {
            None => Ok(()),
            Some(pool) => Err(Error::Invalid(format!(
                "{field} {:?} is in pool {:?} or holds it; give a path outside of {}",
                place.path(),
                pool.name,
                pool.path().display()
            ))),
        }
    }

    /// The node on which a volume is attached by what was written down, where that counts.
    pub(crate) fn attached_to<'a>(&self, volume: &'a Volume) -> Option<&'a String> {
        volume.attachments.keys().next().filter(|_| self.attach == Attach::Required)
    }

    /// Whether there is a pool in which CreateVolume can make something.
    pub(crate) fn makes_volumes(&self) -> bool {
        !self.pools.is_empty()
    }

    /// What one pool at least can do.
    pub(crate) fn abilities(&self) -> Abilities {
        self.pools.values().map(Pool::abilities).fold(Abilities::default(), Abilities::or)
    }
}

/// Serves CSI on the configured socket until `shutdown` is cancelled.
///
/// Opens every pool first, so that a bad configuration is an error here and not at the
/// first call. At the end no new call is taken, those that run are waited for, and the
/// socket is removed. What is mounted stays mounted.
///
/// # Errors
///
/// A configuration that cannot be used, a pool or a socket that another driver has, or a
/// system call that failed; see [`Error`].
pub async fn run(config: Config, shutdown: CancellationToken) -> Result<(), Error> {
    config.check()?;
    let driver = Arc::new(open(&config).await?);
    let operations = Operations::new(&config.driver_name, config.metrics.clone(), driver.pools.keys());
    // Before the CSI socket: who sees that may give orders.
    let order_takers: Vec<_> = driver
        .pools
        .iter()
        .filter_map(|(name, pool)| Some((name.clone(), admin::socket::listen(pool)?)))
        .collect();
    let (socket, listener) = Socket::bind(&config.socket(), forks::MOMENT).await?;
    tracing::info!(socket = %config.socket().display(), pools = config.pools.len(), "serving CSI");

    // Ended only after the last operation: while one runs, the socket stays taken.
    let stop_listening = CancellationToken::new();
    let (connections, listening) = socket.connections(listener, stop_listening.clone());
    let stop_orders = CancellationToken::new();
    let orders = TaskTracker::new();
    for (pool, listener) in order_takers {
        orders.spawn(admin::socket::serve(
            driver.clone(),
            pool,
            listener,
            operations.clone(),
            stop_orders.clone(),
        ));
    }
    let watches = TaskTracker::new();
    for pool in driver.pools.keys() {
        watches.spawn(health::watch(
            driver.clone(),
            pool.clone(),
            config.metrics.clone(),
            shutdown.child_token(),
        ));
    }
    let stop_trash = shutdown.child_token();
    let trash = TaskTracker::new();
    for pool in driver.pools.keys() {
        trash.spawn(empty_trash(driver.clone(), pool.clone(), stop_trash.clone()));
    }
    let identity = IdentityService { driver: driver.clone() };
    let groups = GroupControllerService::new(driver.clone(), operations.clone());
    let services = Routes::new(IdentityServer::new(identity))
        .add_service(ControllerServer::new(ControllerService::new(driver.clone(), operations.clone())))
        .add_service(GroupControllerServer::new(groups))
        .add_service(SnapshotMetadataServer::new(SnapshotMetadataService::new(
            driver.clone(),
            operations.clone(),
        )))
        .add_service(NodeServer::new(NodeService::new(driver.clone(), operations.clone())))
        .into_axum_router()
        .fallback(no_such_service);
    let server = Server::builder()
        .add_routes(services.into())
        .serve_with_incoming_shutdown(connections, shutdown.clone().cancelled_owned());
    let served = {
        let mut server = std::pin::pin!(server);
        tokio::select! {
            served = &mut server => served,
            // A client that keeps its connection must not keep the driver.
            () = shutdown.cancelled() => timeout(FAREWELL, server).await.unwrap_or(Ok(())),
        }
    };
    stop_orders.cancel();
    operations.finish().await;
    orders.close();
    orders.wait().await;
    watches.close();
    watches.wait().await;
    stop_trash.cancel();
    trash.close();
    trash.wait().await;
    for pool in driver.pools.values() {
        pool.let_go();
    }
    stop_listening.cancel();
    if let Err(error) = listening.await {
        tracing::warn!(%error, "the task that listens ended badly");
    }
    served.map_err(Error::from)
}

/// CSI v1.12, "Error Scheme": every status but OK has a message, and tonic's own answer to a
/// service that it does not know has none.
async fn no_such_service() -> tonic::codegen::http::Response<tonic::body::Body> {
    Status::unimplemented(
        "this driver does not serve that service; GetPluginCapabilities names those that it does",
    )
    .into_http()
}

pub(crate) async fn open(config: &Config) -> Result<Driver, Error> {
    let runner = Runner::new(config.tool_path.clone(), Handle::current()).with_limit(config.tool_timeout);
    let (memory, pools): (Vec<_>, Vec<_>) =
        config.pools.iter().cloned().partition(|pool| pool.backend == BackendKind::Tmpfs);
    let memory = memory
        .iter()
        .map(|pool| Ok((pool.name.clone(), Memory::new(&config.driver_name, pool)?)))
        .collect::<Result<BTreeMap<_, _>, Error>>()?;
    let metrics = config.metrics.clone();
    let opened = tokio::task::spawn_blocking(move || {
        // Before any of them is opened, which changes what is in it.
        apart::look(&pools).into_iter().collect::<Result<(), Error>>()?;
        pools
            .iter()
            .map(|pool| {
                let held = |error: &Error| matches!(error, Error::PoolInUse(_));
                let opened = forks::outlast(|| Pool::open(pool, &runner, &metrics), held)?;
                Ok((pool.name.clone(), opened))
            })
            .collect::<Result<BTreeMap<_, _>, Error>>()
    });
    let pools = opened.await.map_err(|error| Error::Lost(error.to_string()))??;
    Ok(Driver {
        name: config.driver_name.clone(),
        node_id: config.node_id.clone(),
        attach: config.attach,
        pools,
        memory,
        guards: Guards::default(),
    })
}

/// Frees what is deleted in one pool, and what a former driver deleted there and did not free.
/// Each pool has its own: one that hangs keeps the others from nothing.
async fn empty_trash(driver: Arc<Driver>, pool: String, stop: CancellationToken) {
    loop {
        let (emptying, name, stopped) = (driver.clone(), pool.clone(), stop.clone());
        let emptied = tokio::task::spawn_blocking(move || {
            if let Some(pool) = emptying.pools.get(&name) {
                pool.empty_trash(&|| stopped.is_cancelled());
            }
        });
        if let Err(error) = emptied.await {
            tracing::warn!(%pool, %error, "freeing deleted volumes ended badly");
        }
        let Some(opened) = driver.pools.get(&pool) else { return };
        tokio::select! {
            () = stop.cancelled() => return,
            () = opened.something_deleted() => {}
            () = tokio::time::sleep(TRASH_PERIOD) => {}
        }
    }
}
