//! gRPC over a unix socket.

use std::path::Path;

use hyper_util::rt::TokioIo;
use tokio::net::UnixStream;
use tonic::transport::{Channel, Endpoint, Uri};
use tower::service_fn;

/// A channel to the socket. It connects at the first call and again whenever the other side
/// went away, so it outlives a restart of the driver.
pub(crate) fn unix_channel(socket: &Path) -> Channel {
    let socket = socket.to_owned();
    // The address is never looked up: the connector below ignores it.
    Endpoint::from_static("http://localhost").connect_with_connector_lazy(service_fn(move |_: Uri| {
        let socket = socket.clone();
        async move { UnixStream::connect(socket).await.map(TokioIo::new) }
    }))
}
