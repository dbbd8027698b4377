//! Listening: the port that stays the same, the connections, and their end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use jiff::Timestamp;
use rustix::process::{Resource, getrlimit};
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::Semaphore;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;

use super::admit::Source;
use super::client_certificates::Believed;
use super::connection::{Conversation, handshake};
use super::durable;
use super::error::ServeError;
use super::local;
use super::tls::{Identity, RENEWAL};

/// How long requests under way have when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);

/// Files that connections leave alone, where that is not more than an eighth.
const OTHER_FILES: u64 = 512;

/// Listens on the address. Port 0 means the port of the last time, so that
/// kubeconfigs that people copied stay good; where somebody else took that port
/// meanwhile, or at the first time, a free one that is remembered from now on.
pub(crate) async fn bind(asked: SocketAddr, folder: &Path) -> Result<(TcpListener, SocketAddr), ServeError> {
    let listen = |address: SocketAddr| async move {
        let failed = |source| ServeError::Listen { address, source };
        let listener = TcpListener::bind(address).await.map_err(failed)?;
        let bound = listener.local_addr().map_err(failed)?;
        Ok((listener, bound))
    };
    if asked.port() != 0 {
        return listen(asked).await;
    }
    let path = folder.join("port");
    let file = |doing, source| ServeError::File { doing, path: path.clone(), source };
    let remembered = durable::read(&path).map_err(|source| file("read", source))?;
    if let Some(port) = remembered.and_then(|text| text.trim().parse().ok()).filter(|port| *port != 0u16) {
        match listen(SocketAddr::new(asked.ip(), port)).await {
            Err(ServeError::Listen { address, source }) if source.kind() == io::ErrorKind::AddrInUse => {
                tracing::warn!(%address, "the port of the last time is taken; copies of the kubeconfig must be renewed");
            }
            outcome => return outcome,
        }
    }
    let (listener, bound) = listen(asked).await?;
    durable::write(&path, bound.port().to_string().as_bytes()).map_err(|source| file("write", source))?;
    Ok((listener, bound))
}

/// The ways in.
pub(crate) struct Doors {
    pub(crate) network: TcpListener,
    pub(crate) acceptor: TlsAcceptor,
    pub(crate) identity: Arc<Identity>,
    pub(crate) clients: Believed,
    pub(crate) local: UnixListener,
}

/// How many connections over the network there may be. Of the files that the process may open, some are left for
/// everything else: the database, whoever is root on this machine.
fn places() -> usize {
    let files = getrlimit(Resource::Nofile).current.unwrap_or(u64::MAX);
    let places = files - (files / 8).min(OTHER_FILES);
    usize::try_from(places).unwrap_or(usize::MAX).min(Semaphore::MAX_PERMITS)
}

/// Serves until told to stop, then lets requests under way end.
pub(crate) async fn serve(doors: Doors, router: Router, stop: CancellationToken) {
    let Doors { network, acceptor, identity, clients, local } = doors;
    let connections = TaskTracker::new();
    // What is still open after the farewell is dropped.
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let conversation = Conversation::new(router, stop.clone());
    let places = Arc::new(Semaphore::new(places()));
    let mut renewal = tokio::time::interval(RENEWAL);
    renewal.tick().await;
    loop {
        let failed = tokio::select! {
            () = stop.cancelled() => break,
            _ = renewal.tick() => {
                if let Err(error) = identity.renew(Timestamp::now()) {
                    tracing::error!(%error, "the server's certificate was not renewed");
                }
                continue;
            }
            (place, accepted) = async {
                // Whoever connects while there is none waits in the kernel's queue. Nobody closes it.
                (places.clone().acquire_owned().await, network.accept().await)
            } => match accepted {
                Ok((stream, address)) => {
                    let source = Some(Source(address.ip()));
                    let (acceptor, clients) = (acceptor.clone(), clients.clone());
                    let conversation = conversation.clone();
                    connections.spawn(cut.clone().run_until_cancelled_owned(async move {
                        if let Some((stream, peer)) = handshake(&acceptor, &clients, stream).await {
                            conversation.hold(stream, peer, source).await;
                        }
                        drop(place);
                    }));
                    continue;
                }
                Err(error) => error,
            },
            accepted = local.accept() => match accepted {
                Ok((stream, _)) => {
                    let peer = local::peer(&stream);
                    let conversation = conversation.clone();
                    connections.spawn(cut.clone().run_until_cancelled_owned(async move {
                        conversation.hold(stream, peer, None).await;
                    }));
                    continue;
                }
                Err(error) => error,
            },
        };
        // Out of files, or a client gone before its turn: the next may succeed.
        tracing::warn!(error = %failed, "a connection was not accepted");
        sleep(Duration::from_millis(50)).await;
    }
    drop((network, local));
    connections.close();
    if timeout(FAREWELL, connections.wait()).await.is_err() {
        tracing::warn!("some requests were still under way when the server stopped");
    }
}
