//! What a run tells of its health, for whoever asks over HTTP.

use std::{
    collections::BTreeMap,
    path::{Path, PathBuf},
    sync::Arc,
    time::Duration,
};

use holdfast_proto::registration::{InfoRequest, registration_client::RegistrationClient};
use hyper_util::rt::TokioIo;
use parking_lot::Mutex;
use tokio::{net::UnixStream, time::timeout};
use tonic::transport::Endpoint;

use crate::{csi::CsiClient, election::Fence, metrics::Metrics};

/// As in upstream's `csi-lib-utils`.
const ELECTION_GRACE: Duration = Duration::from_secs(20);

/// Why something is not healthy.
#[derive(Debug, Clone, PartialEq, Eq, thiserror::Error)]
pub enum Unhealthy {
    /// The driver did not answer, or not in time.
    #[error("{0}")]
    NoAnswer(String),
    /// It answered, and is not ready to work.
    #[error("driver responded but is not ready")]
    NotReady,
    /// The driver is not announced: it was not there yet.
    #[error("the driver is not known yet, so nothing is announced")]
    NotYet,
    /// Somebody works with a lease that others may have taken.
    #[error("the lease {0} was not renewed, and its holder has not stopped")]
    HangsOn(String),
    /// The socket was there, and is gone.
    #[error("registration socket does not exist")]
    NoSocket,
}

/// The health of a run. Cheap to clone.
#[derive(Debug, Clone, Default)]
pub struct Health {
    announced: Arc<Mutex<Option<Announced>>>,
    /// By the lease's name: the last term of this process.
    terms: Arc<Mutex<BTreeMap<String, Fence>>>,
}

#[derive(Debug, Clone)]
struct Announced {
    driver: String,
    socket: PathBuf,
}

impl Health {
    pub(crate) fn announces(&self, driver: &str, socket: &Path) {
        *self.announced.lock() = Some(Announced { driver: driver.to_owned(), socket: socket.to_owned() });
    }

    pub(crate) fn leads(&self, lease: &str, fence: Fence) {
        self.terms.lock().insert(lease.to_owned(), fence);
    }

    /// Whether nobody holds on to a lease beyond its time, by upstream's grace.
    ///
    /// # Errors
    /// When somebody does: it hangs.
    pub fn election(&self) -> Result<(), Unhealthy> {
        let terms = self.terms.lock();
        let late = terms.iter().find(|(_, fence)| fence.is_overdue(ELECTION_GRACE));
        late.map_or(Ok(()), |(lease, _)| Err(Unhealthy::HangsOn(lease.clone())))
    }

    /// Whether the registration socket is there and answers for the driver within `patience`.
    ///
    /// # Errors
    /// When it is not, does not, or answers for another.
    pub async fn registration(&self, patience: Duration) -> Result<(), Unhealthy> {
        let announced = self.announced.lock().clone();
        let Some(Announced { driver, socket }) = announced else { return Err(Unhealthy::NotYet) };
        if !socket.exists() {
            return Err(Unhealthy::NoSocket);
        }
        let ask = async {
            let path = socket.clone();
            let connect = tower::service_fn(move |_: http::Uri| {
                let path = path.clone();
                async move { UnixStream::connect(path).await.map(TokioIo::new) }
            });
            let channel = Endpoint::from_static("http://localhost").connect_with_connector(connect).await;
            let mut client = RegistrationClient::new(channel.map_err(|error| error.to_string())?);
            let info = client.get_info(InfoRequest {}).await.map_err(|status| status.message().to_owned())?;
            Ok::<_, String>(info.into_inner().name)
        };
        let path = socket.display();
        match timeout(patience, ask).await {
            Ok(Ok(name)) if name == driver => Ok(()),
            Ok(Ok(name)) => Err(Unhealthy::NoAnswer(format!("{path} announces {name:?}, not {driver:?}"))),
            Ok(Err(why)) => Err(Unhealthy::NoAnswer(format!("{path} does not answer: {why}"))),
            Err(_) => Err(Unhealthy::NoAnswer(format!("{path} does not answer within {patience:?}"))),
        }
    }
}

/// Calls the driver's Probe over a new connection, as a client that has just come would.
///
/// # Errors
/// When it does not answer within `patience`, or is not ready.
pub async fn probe(socket: &Path, patience: Duration, metrics: &Metrics) -> Result<(), Unhealthy> {
    let client = CsiClient::new(socket.to_owned(), patience, metrics.clone());
    match client.probe().await {
        Ok(true) => Ok(()),
        Ok(false) => Err(Unhealthy::NotReady),
        Err(error) => Err(Unhealthy::NoAnswer(error.to_string())),
    }
}
