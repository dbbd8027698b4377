//! Addresses as Go writes them.

use anyhow::{Context, Result};
use tokio::net::TcpListener;

/// Listens on `host:port`; `:port` is all addresses, of both families where there are both.
pub(super) async fn listen(flag: &str, address: &str) -> Result<TcpListener> {
    let bound = match address.strip_prefix(':') {
        None => TcpListener::bind(address).await,
        Some(port) => match TcpListener::bind(format!("[::]:{port}")).await {
            Ok(listener) => Ok(listener),
            Err(_) => TcpListener::bind(format!("0.0.0.0:{port}")).await,
        },
    };
    bound.with_context(|| format!("--{flag}: cannot listen on {address}"))
}
