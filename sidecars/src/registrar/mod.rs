//! Announces the driver to the node agent (or kubelet) through a socket in its registry folder.
//!
//! Source: "Device and CSI plugin registration" in Kubernetes (pluginregistration v1): the
//! node agent watches the folder, calls GetInfo on every socket that appears, and tells
//! what became of it with NotifyRegistrationStatus. It registers a driver anew when its
//! socket appears anew, so a failed registration is repeated by making a new socket.

mod service;

use std::{
    io,
    os::unix::fs::{MetadataExt, PermissionsExt},
    path::{Path, PathBuf},
    time::Duration,
};

use holdfast_proto::registration::registration_server::RegistrationServer;
use tokio::{net::UnixListener, sync::mpsc, time::Instant};
use tokio_stream::wrappers::UnixListenerStream;
use tokio_util::sync::CancellationToken;
use tracing::{info, warn};

use self::service::{Answer, Service};
use crate::queue::Backoff;

/// How often the socket is looked for: a node agent that starts may empty its folder.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// What the registrar announces, and where.
#[derive(Debug, Clone)]
pub(crate) struct Announcement {
    pub driver: String,
    /// The CSI socket as the node agent sees it.
    pub endpoint: PathBuf,
    /// The node agent's `plugins_registry` folder.
    pub folder: PathBuf,
}

/// The registration could not be served.
#[derive(Debug, thiserror::Error)]
pub(crate) enum RegistrarError {
    #[error("cannot {what} {path}: {source}")]
    Io { what: &'static str, path: PathBuf, source: io::Error },
    #[error("serving {path} failed: {source}")]
    Serve { path: PathBuf, source: tonic::transport::Error },
}

/// How one round of serving ended.
enum Ended {
    Cancelled,
    /// The socket is not there any more, or another took its place.
    Vanished,
    /// The node agent refused the driver.
    Refused(String),
}

impl Announcement {
    pub(crate) fn socket(&self) -> PathBuf {
        self.folder.join(format!("{}-reg.sock", self.driver))
    }
}

/// Serves the registration until cancelled, and removes the socket then.
pub(crate) async fn run(
    announcement: Announcement,
    backoff: Backoff,
    cancel: CancellationToken,
) -> Result<(), RegistrarError> {
    let mut refusals = 0;
    loop {
        let begun = Instant::now();
        match serve(&announcement, &cancel).await? {
            Ended::Cancelled => return Ok(()),
            Ended::Vanished => {
                let path = announcement.socket();
                info!(socket = %path.display(), "the registration socket was removed: making it again");
            }
            Ended::Refused(error) => {
                // A registration that held for a while and then failed begins a new count.
                refusals = if begun.elapsed() > Duration::from_secs(600) { 1 } else { refusals + 1 };
                warn!(
                    driver = announcement.driver,
                    error, "the node agent refused the driver: registering again"
                );
                tokio::select! {
                    () = cancel.cancelled() => return Ok(()),
                    () = tokio::time::sleep(backoff.delay(refusals)) => {}
                }
            }
        }
    }
}

async fn serve(announcement: &Announcement, cancel: &CancellationToken) -> Result<Ended, RegistrarError> {
    let path = announcement.socket();
    let (listener, inode) = bind(&announcement.folder, &path)?;
    let (answers, mut heard) = mpsc::channel(8);
    let service = Service::new(announcement, answers);
    let stop = CancellationToken::new();
    let server = tonic::transport::Server::builder()
        .add_service(RegistrationServer::new(service))
        .serve_with_incoming_shutdown(UnixListenerStream::new(listener), stop.clone().cancelled_owned());
    let mut server = Box::pin(server);
    info!(socket = %path.display(), driver = announcement.driver, "announcing the driver");
    let mut look = tokio::time::interval(LOOK_EVERY);
    let ended = loop {
        tokio::select! {
            served = &mut server => {
                served.map_err(|source| RegistrarError::Serve { path: path.clone(), source })?;
                break Ended::Vanished;
            }
            () = cancel.cancelled() => break Ended::Cancelled,
            _ = look.tick() => if inode_of(&path) != Some(inode) {
                break Ended::Vanished;
            },
            Some(answer) = heard.recv() => match answer {
                Answer::Registered => info!(driver = announcement.driver, "the node agent registered the driver"),
                Answer::Refused(error) => break Ended::Refused(error),
            },
        }
    };
    stop.cancel();
    // A caller that keeps its connection open must not keep us: the answer in flight has a moment.
    let _ = tokio::time::timeout(Duration::from_secs(1), server).await;
    if inode_of(&path) == Some(inode) {
        remove(&path)?;
    }
    Ok(ended)
}

fn inode_of(path: &Path) -> Option<u64> {
    std::fs::symlink_metadata(path).ok().map(|meta| meta.ino())
}

fn remove(path: &Path) -> Result<(), RegistrarError> {
    match std::fs::remove_file(path) {
        Err(source) if source.kind() != io::ErrorKind::NotFound => {
            Err(RegistrarError::Io { what: "remove", path: path.to_owned(), source })
        }
        _ => Ok(()),
    }
}

/// Binds the socket, in the place of one that a crash may have left. Only its owner may
/// talk to it.
fn bind(folder: &Path, path: &Path) -> Result<(UnixListener, u64), RegistrarError> {
    let failed = |what, path: &Path| {
        let path = path.to_owned();
        move |source| RegistrarError::Io { what, path, source }
    };
    std::fs::create_dir_all(folder).map_err(failed("make folder", folder))?;
    remove(path)?;
    let listener = UnixListener::bind(path).map_err(failed("bind", path))?;
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o600))
        .map_err(failed("protect", path))?;
    let inode = std::fs::symlink_metadata(path).map_err(failed("look at", path))?.ino();
    Ok((listener, inode))
}

#[cfg(test)]
mod tests;
