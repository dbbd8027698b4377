//! The way in for the parts of this very process: the same router with all its checks, and no connection.
//! TLS between two ends in one memory keeps nothing from anybody, and costs more than most requests.

use std::panic::AssertUnwindSafe;
use std::pin::Pin;
use std::task::{Context, Poll};

use axum::Router;
use axum::body::{Body, HttpBody};
use axum::response::Response;
use bytes::Bytes;
use futures::FutureExt;
use http::{HeaderValue, Request, header};
use thiserror::Error;
use tower::{BoxError, Service, ServiceExt};

use super::peer::Peer;

/// The API as a service, for a client in the same process. Whoever holds it is the user that runs the process, as
/// over the unix socket, and may do everything.
///
/// A request runs in the task that asks, and ends with it; what has been handed to the store by then still happens.
#[derive(Debug, Clone)]
pub struct Within {
    router: Router,
    peer: Peer,
    agent: HeaderValue,
}

/// A defect: the request was not done to its end. What it was to write may have been written or not.
#[derive(Debug, Clone, Copy, PartialEq, Eq, Error)]
#[error("the API server crashed over a request")]
pub struct Crashed;

impl Within {
    /// `agent` is the name under which the server records which fields were written.
    pub(super) fn new(router: Router, agent: &'static str) -> Self {
        let owner = rustix::process::geteuid().as_raw();
        Self { router, peer: Peer::local(owner, owner), agent: HeaderValue::from_static(agent) }
    }
}

impl<B> Service<Request<B>> for Within
where
    B: HttpBody<Data = Bytes> + Send + 'static,
    B::Error: Into<BoxError>,
{
    type Response = Response;
    type Error = Crashed;
    type Future = Pin<Box<dyn Future<Output = Result<Response, Crashed>> + Send>>;

    fn poll_ready(&mut self, _: &mut Context<'_>) -> Poll<Result<(), Crashed>> {
        Poll::Ready(Ok(()))
    }

    fn call(&mut self, request: Request<B>) -> Self::Future {
        let mut request = request.map(Body::new);
        request.extensions_mut().insert(self.peer.clone());
        request.headers_mut().entry(header::USER_AGENT).or_insert_with(|| self.agent.clone());
        let answer = self.router.clone().oneshot(request);
        // Over a connection, a panic would end that connection and no more.
        Box::pin(AssertUnwindSafe(answer).catch_unwind().map(|answer| match answer {
            Ok(Ok(answer)) => Ok(answer),
            Ok(Err(never)) => match never {},
            Err(_) => Err(Crashed),
        }))
    }
}
