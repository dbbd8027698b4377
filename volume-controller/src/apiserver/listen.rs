//! Listening: the port that stays the same, the connections, and their end.

use std::io;
use std::net::SocketAddr;
use std::path::Path;
use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use jiff::Timestamp;
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::SetOnce;
use tokio::time::{sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;
use tokio_util::task::TaskTracker;
use tower::ServiceExt;

use super::durable;
use super::error::ServeError;
use super::tls::{Identity, RENEWAL};

/// Set on a connection once a request over it came from a user. One over which nobody is
/// known soon is closed, so that strangers cannot take all the files a process may open.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<SetOnce<()>>);

impl Known {
    pub(crate) fn set(&self) {
        // An error means that it was set before.
        let _ = self.0.set(());
    }
}

/// How long a client has for its part of the handshake, for the head of a request, or to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// How long requests under way have when the server stops.
const FAREWELL: Duration = Duration::from_secs(5);
/// Streams of one HTTP/2 connection: client-go runs all its watches over one.
const MAX_STREAMS: u32 = 1000;

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

/// Serves until told to stop, then lets requests under way end.
pub(crate) async fn serve(
    listener: TcpListener,
    acceptor: TlsAcceptor,
    identity: Arc<Identity>,
    router: Router,
    stop: CancellationToken,
) {
    let connections = TaskTracker::new();
    // What is still open after the farewell is dropped.
    let cut = CancellationToken::new();
    let _cut_at_the_end = cut.clone().drop_guard();
    let mut builder = auto::Builder::new(TokioExecutor::new());
    builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE);
    builder
        .http2()
        .timer(TokioTimer::new())
        .max_concurrent_streams(MAX_STREAMS)
        // A client that vanished without a word frees its watches within a minute.
        .keep_alive_interval(Duration::from_secs(30))
        .keep_alive_timeout(Duration::from_secs(20));
    let mut renewal = tokio::time::interval(RENEWAL);
    renewal.tick().await;
    loop {
        let stream = tokio::select! {
            () = stop.cancelled() => break,
            _ = renewal.tick() => {
                if let Err(error) = identity.renew(Timestamp::now()) {
                    tracing::error!(%error, "the server's certificate was not renewed");
                }
                continue;
            }
            accepted = listener.accept() => match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    // Out of files, or a client gone before its turn: the next may succeed.
                    tracing::warn!(%error, "a connection was not accepted");
                    sleep(Duration::from_millis(50)).await;
                    continue;
                }
            },
        };
        let (acceptor, router, builder) = (acceptor.clone(), router.clone(), builder.clone());
        let (stop, cut) = (stop.clone(), cut.clone());
        connections.spawn(cut.run_until_cancelled_owned(async move {
            let Some(stream) = handshake(&acceptor, stream).await else { return };
            let known = Known::default();
            let mark = known.clone();
            let service = router.map_request(move |mut request: http::Request<Incoming>| {
                request.extensions_mut().insert(mark.clone());
                request
            });
            let service = TowerToHyperService::new(service);
            let mut connection = pin!(builder.serve_connection(TokioIo::new(stream), service));
            let mut is_strange = pin!(async {
                if timeout(PATIENCE, known.0.wait()).await.is_ok() {
                    std::future::pending::<()>().await;
                }
            });
            let outcome = tokio::select! {
                outcome = connection.as_mut() => outcome,
                () = is_strange.as_mut() => {
                    tracing::debug!("nobody has made themselves known over a connection: it is closed");
                    return;
                }
                () = stop.cancelled() => {
                    connection.as_mut().graceful_shutdown();
                    connection.await
                }
            };
            if let Err(error) = outcome {
                tracing::debug!(%error, "a connection ended early");
            }
        }));
    }
    drop(listener);
    connections.close();
    if timeout(FAREWELL, connections.wait()).await.is_err() {
        tracing::warn!("some requests were still under way when the server stopped");
    }
}

async fn handshake(
    acceptor: &TlsAcceptor,
    stream: TcpStream,
) -> Option<tokio_rustls::server::TlsStream<TcpStream>> {
    // Without it, small events wait for the acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => Some(stream),
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            None
        }
        Err(_) => None,
    }
}
