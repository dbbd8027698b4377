//! What a sidecar says of itself over HTTP, at upstream's paths.

use std::{path::PathBuf, sync::Arc, time::Duration};

use axum::{
    Router,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
    routing::get,
};
use prometheus_client::{encoding::text, registry::Registry};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;
use tracing::{error, warn};

use crate::{
    health::{Health, Unhealthy, probe},
    metrics::Metrics,
};

/// One HTTP server for diagnostics: what it serves.
#[derive(Debug, Clone, Default)]
pub struct Diagnostics {
    /// The metrics, and the path at which they are.
    pub metrics: Option<(Arc<Registry>, String)>,
    /// `/healthz` asks the driver behind this socket whether it is ready, as upstream's livenessprobe.
    pub liveness: Option<Liveness>,
    /// `/healthz` asks whether the driver is announced to kubelet within this time, as upstream's node-driver-registrar.
    pub registration: Option<(Health, Duration)>,
    /// `/healthz/leader-election` asks whether a lease was held beyond its time.
    pub election: Option<Health>,
}

/// Whose liveness is asked for.
#[derive(Debug, Clone)]
pub struct Liveness {
    /// The driver's CSI socket.
    pub socket: PathBuf,
    /// How long its answer may take.
    pub patience: Duration,
    /// Where the calls are counted.
    pub metrics: Metrics,
}

impl Diagnostics {
    /// Serves until cancelled.
    pub async fn serve(self, listener: TcpListener, cancel: CancellationToken) {
        let served =
            axum::serve(listener, self.router()).with_graceful_shutdown(cancel.cancelled_owned()).await;
        if let Err(error) = served {
            error!(%error, "the HTTP server for diagnostics ended");
        }
    }

    fn router(self) -> Router {
        let mut router = Router::new();
        if let Some((registry, path)) = self.metrics {
            router = router.route(&path, get(show).with_state(registry));
        }
        if let Some(health) = self.election {
            let check = move || std::future::ready(answer(health.election()));
            router = router.route("/healthz/leader-election", get(check));
        }
        if self.liveness.is_some() || self.registration.is_some() {
            router = router.route("/healthz", get(healthz).with_state((self.liveness, self.registration)));
        }
        router
    }
}

async fn show(State(registry): State<Arc<Registry>>) -> Response {
    let mut metrics = String::new();
    match text::encode(&mut metrics, &registry) {
        Ok(()) => {
            let kind = "application/openmetrics-text; version=1.0.0; charset=utf-8";
            ([(header::CONTENT_TYPE, kind)], metrics).into_response()
        }
        Err(error) => (StatusCode::INTERNAL_SERVER_ERROR, error.to_string()).into_response(),
    }
}

type Asked = (Option<Liveness>, Option<(Health, Duration)>);

async fn healthz(State((liveness, registration)): State<Asked>) -> Response {
    answer(ask(liveness.as_ref(), registration.as_ref()).await)
}

fn answer(checked: Result<(), Unhealthy>) -> Response {
    match checked {
        Ok(()) => "ok".into_response(),
        Err(why) => {
            warn!(%why, "the health check failed");
            let code = match why {
                Unhealthy::NoSocket => StatusCode::NOT_FOUND,
                _ => StatusCode::INTERNAL_SERVER_ERROR,
            };
            (code, why.to_string()).into_response()
        }
    }
}

async fn ask(
    liveness: Option<&Liveness>,
    registration: Option<&(Health, Duration)>,
) -> Result<(), Unhealthy> {
    if let Some(Liveness { socket, patience, metrics }) = liveness {
        probe(socket, *patience, metrics).await?;
    }
    if let Some((health, patience)) = registration {
        health.registration(*patience).await?;
    }
    Ok(())
}
