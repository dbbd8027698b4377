//! A client whose writes ask the fence once more when they are handed to the socket.

use http::Request;
use hyper_util::{client::legacy, rt::TokioExecutor};
use kube::{
    Client, Config,
    client::{Body, ConfigExt},
};
use tower::{BoxError, ServiceBuilder};

use super::Fence;

/// As `kube`'s own client of `config`, over connections of its own; besides that each request's body, without which no
/// server does a write, is behind `fence`.
pub(super) fn client(config: &Config, fence: Fence) -> Result<Client, kube::Error> {
    let https = config.rustls_https_connector()?;
    let http = legacy::Client::builder(TokioExecutor::new()).build(https);
    let service = ServiceBuilder::new()
        .layer(config.base_uri_layer())
        .option_layer(config.auth_layer()?)
        .layer(config.extra_headers_layer()?)
        .map_err(BoxError::from)
        .map_request(move |request: Request<Body>| {
            let fence = if request.method().is_safe() { Fence::open() } else { fence.clone() };
            request.map(|body| fence.guard(body))
        })
        .service(http);
    Ok(Client::new(service, config.default_namespace.clone()))
}
