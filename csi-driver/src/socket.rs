//! The unix socket: taken over from a driver that died, never from one that lives.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    time::Duration,
};

use tokio::{
    net::{UnixListener, UnixStream},
    sync::mpsc,
    task::JoinHandle,
    time::{Instant, interval, sleep},
};
use tokio_stream::wrappers::ReceiverStream;
use tokio_util::sync::CancellationToken;

use crate::{
    error::{Error, Tried as _},
    kernel::forks,
};

/// How often the socket's file is looked after.
const LOOK: Duration = Duration::from_secs(1);

/// A bound socket; its file goes away with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Binds the socket, with so much patience for one that somebody listens on. Only its owner,
    /// root, may connect.
    pub(crate) async fn bind(path: &Path, patience: Duration) -> Result<(Self, UnixListener), Error> {
        remove_stale(path, patience).await?;
        let listener = UnixListener::bind(path).tried(|| {
            format!(
                "listening on {} (its folder has to exist, and the path may have at most 107 bytes)",
                path.display()
            )
        })?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .tried(|| format!("protecting {}", path.display()))?;
        let inode = fs::symlink_metadata(path).tried(|| format!("looking at {}", path.display()))?.ino();
        Ok((Self { path: path.to_owned(), inode }, listener))
    }

    /// Whether the file at the path is this socket; `None` when that cannot be told.
    fn is_ours(&self) -> Option<bool> {
        match fs::symlink_metadata(&self.path) {
            Ok(metadata) => Some(metadata.ino() == self.inode),
            Err(error) if error.kind() == io::ErrorKind::NotFound => Some(false),
            Err(_) => None,
        }
    }

    /// Accepts connections until nobody takes them any more. A socket file that
    /// somebody removed is made again: without it no new client finds the driver.
    /// What another put in its place is left alone, and told. The task holds the socket
    /// until `stop` is cancelled.
    pub(crate) fn connections(
        mut self,
        mut listener: UnixListener,
        stop: CancellationToken,
    ) -> (ReceiverStream<io::Result<UnixStream>>, JoinHandle<()>) {
        let (sender, receiver) = mpsc::channel(1);
        let task = tokio::spawn(async move {
            let mut look = interval(LOOK);
            let mut told = false;
            loop {
                tokio::select! {
                    () = stop.cancelled() => break,
                    () = sender.closed() => {
                        stop.cancelled().await;
                        break;
                    }
                    accepted = listener.accept() => {
                        let connection = accepted.map(|(connection, _)| connection);
                        // Nobody takes it any more: the next turn sees that.
                        let _ = sender.send(connection).await;
                    }
                    _ = look.tick() => {
                        if self.is_ours() != Some(false) {
                            continue;
                        }
                        match Self::bind(&self.path, Duration::ZERO).await {
                            Ok((socket, again)) => {
                                tracing::warn!(socket = %self.path.display(), "the socket was removed; it is made again");
                                // The old value's file is gone: dropping it removes nothing.
                                (self, listener, told) = (socket, again, false);
                            }
                            Err(error) if !told => {
                                tracing::error!(%error, "the socket was removed and cannot be made again");
                                told = true;
                            }
                            Err(_) => {}
                        }
                    }
                }
            }
        });
        (ReceiverStream::new(receiver), task)
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another driver's socket may be there by now: that one stays.
        if self.is_ours() == Some(true)
            && let Err(error) = fs::remove_file(&self.path)
        {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

async fn remove_stale(path: &Path, patience: Duration) -> Result<(), Error> {
    let metadata = match fs::symlink_metadata(path) {
        Ok(metadata) => metadata,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(()),
        Err(error) => return Err(error).tried(|| format!("looking at {}", path.display())),
    };
    if !metadata.file_type().is_socket() {
        return Err(Error::Precondition(format!(
            "{} is there and is not a socket; remove it or give another path",
            path.display()
        )));
    }
    let begun = Instant::now();
    let mut connected = UnixStream::connect(path).await;
    // By its end a child of the former driver may hold the socket that nobody listens on.
    while connected.is_ok() && begun.elapsed() < patience {
        sleep(forks::PAUSE).await;
        connected = UnixStream::connect(path).await;
    }
    match connected {
        Ok(_) => Err(Error::Precondition(format!(
            "another process listens on {}; stop it or give another path",
            path.display()
        ))),
        // Nobody listens: its owner ended without removing it.
        Err(error) if error.kind() == io::ErrorKind::ConnectionRefused => {
            fs::remove_file(path).tried(|| format!("removing the stale socket {}", path.display()))
        }
        Err(error) => Err(error).tried(|| format!("trying whether someone listens on {}", path.display())),
    }
}
