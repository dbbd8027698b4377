//! The unix socket: taken over from a driver that died, never from one that lives.

use std::{
    fs, io,
    os::unix::fs::{FileTypeExt as _, MetadataExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
};

use tokio::net::{UnixListener, UnixStream};

use crate::error::{Error, Tried as _};

/// A bound socket; its file goes away with it.
#[derive(Debug)]
pub(crate) struct Socket {
    path: PathBuf,
    inode: u64,
}

impl Socket {
    /// Binds the socket. Only its owner, root, may connect.
    pub(crate) async fn bind(path: &Path) -> Result<(Self, UnixListener), Error> {
        remove_stale(path).await?;
        let listener = UnixListener::bind(path)
            .tried(|| format!("listening on {} (its folder has to exist)", path.display()))?;
        fs::set_permissions(path, fs::Permissions::from_mode(0o600))
            .tried(|| format!("protecting {}", path.display()))?;
        let inode = fs::symlink_metadata(path).tried(|| format!("looking at {}", path.display()))?.ino();
        Ok((Self { path: path.to_owned(), inode }, listener))
    }
}

impl Drop for Socket {
    fn drop(&mut self) {
        // Another driver's socket may be there by now: that one stays.
        let is_ours = fs::symlink_metadata(&self.path).is_ok_and(|metadata| metadata.ino() == self.inode);
        if is_ours && let Err(error) = fs::remove_file(&self.path) {
            tracing::warn!(path = %self.path.display(), %error, "cannot remove the socket");
        }
    }
}

async fn remove_stale(path: &Path) -> Result<(), Error> {
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
    match UnixStream::connect(path).await {
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
