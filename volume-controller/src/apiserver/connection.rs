//! One connection: the handshake, the requests over it, and its end.

use std::pin::pin;
use std::sync::Arc;
use std::time::Duration;

use axum::Router;
use hyper::body::Incoming;
use hyper_util::rt::{TokioExecutor, TokioIo, TokioTimer};
use hyper_util::server::conn::auto;
use hyper_util::service::TowerToHyperService;
use rustls::pki_types::UnixTime;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpStream;
use tokio::sync::SetOnce;
use tokio::time::timeout;
use tokio_rustls::TlsAcceptor;
use tokio_rustls::server::TlsStream;
use tokio_util::sync::CancellationToken;
use tower::ServiceExt;

use super::admit::Source;
use super::client_certificates::Believed;
use super::limits::{Limits, Permit};
use super::peer::Peer;
use super::status::ApiError;
use super::user::{MASTERS, User};

/// How long a client has for its part of the handshake, for the head of a request, or to say who it is.
const PATIENCE: Duration = Duration::from_secs(10);
/// Bytes of a request's head: the URL and all headers.
const MAX_HEAD: usize = 128 * 1024;
const MAX_HEAD_LIST: u32 = 128 * 1024;
/// Streams of one HTTP/2 connection: client-go runs all its watches over one.
const MAX_STREAMS: u32 = 1000;
/// Bytes of one stream that wait to be sent: each watch that is not read has so many.
const MAX_SENT: usize = 64 * 1024;

/// Set on a connection once a request over it came from a user. One over which nobody is
/// known soon is closed, so that strangers cannot take all the files a process may open; and nor can one user.
#[derive(Clone, Default)]
pub(crate) struct Known(Arc<SetOnce<Option<Permit>>>);

impl Known {
    /// Counts the connection as that of whoever first made themselves known over it. Refused where they have too
    /// many: it is then closed soon.
    pub(crate) fn set(&self, limits: &Limits, user: &User) -> Result<(), ApiError> {
        if self.0.initialized() {
            return Ok(());
        }
        let permit = if user.is_in(MASTERS) { None } else { Some(limits.connect(&user.name)?) };
        // An error means that another request was faster.
        let _ = self.0.set(permit);
        Ok(())
    }
}

/// How every connection is talked over.
#[derive(Clone)]
pub(crate) struct Conversation {
    builder: auto::Builder<TokioExecutor>,
    router: Router,
    stop: CancellationToken,
}

impl Conversation {
    pub(crate) fn new(router: Router, stop: CancellationToken) -> Self {
        let mut builder = auto::Builder::new(TokioExecutor::new());
        builder.http1().timer(TokioTimer::new()).header_read_timeout(PATIENCE).max_buf_size(MAX_HEAD);
        builder
            .http2()
            .timer(TokioTimer::new())
            .max_concurrent_streams(MAX_STREAMS)
            .max_header_list_size(MAX_HEAD_LIST)
            .max_send_buf_size(MAX_SENT)
            // A client that vanished without a word frees its watches within a minute.
            .keep_alive_interval(Duration::from_secs(30))
            .keep_alive_timeout(Duration::from_secs(20));
        Self { builder, router, stop }
    }

    /// Answers requests until the client has no more, or the server stops.
    pub(crate) async fn hold<S>(self, stream: S, peer: Peer, source: Option<Source>)
    where
        S: AsyncRead + AsyncWrite + Unpin + Send + 'static,
    {
        let Self { builder, router, stop } = self;
        let known = Known::default();
        let mark = known.clone();
        let service = router.map_request(move |mut request: http::Request<Incoming>| {
            request.extensions_mut().insert(mark.clone());
            request.extensions_mut().insert(peer.clone());
            if let Some(source) = source {
                request.extensions_mut().insert(source);
            }
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
    }
}

/// TLS over a new connection, and who is at its other end.
pub(crate) async fn handshake(
    acceptor: &TlsAcceptor,
    clients: &Believed,
    stream: TcpStream,
) -> Option<(TlsStream<TcpStream>, Peer)> {
    // Without it, small events wait for the acknowledgement of the ones before.
    if let Err(error) = stream.set_nodelay(true) {
        tracing::debug!(%error, "cannot set TCP_NODELAY");
    }
    let stream = match timeout(PATIENCE, acceptor.accept(stream)).await {
        Ok(Ok(stream)) => stream,
        Ok(Err(error)) => {
            tracing::debug!(%error, "a TLS handshake failed");
            return None;
        }
        Err(_) => return None,
    };
    let peer = match stream.get_ref().1.peer_certificates() {
        None => Peer::Unknown,
        Some(chain) => clients.who(chain, UnixTime::now()).map_or_else(
            |why| {
                tracing::debug!(why, "a client certificate is not believed");
                Peer::Disbelieved
            },
            Peer::Certified,
        ),
    };
    Some((stream, peer))
}
