//! The unix socket: for processes of this machine, known by what the kernel says of them.

use std::fs;
use std::io;
use std::os::unix::fs::PermissionsExt;
use std::path::{Path, PathBuf};

use tokio::net::{UnixListener, UnixStream};

use super::error::ServeError;
use super::peer::Peer;

/// The socket's name in the root folder.
const NAME: &str = "api.sock";

/// Listens on `api.sock` in `root`, which only the owner of this process and root can open. It is
/// made in `folder`, which is theirs alone, and moved into its place once it has its mode; one
/// that an earlier process left goes by that.
pub(crate) fn bind(root: &Path, folder: &Path) -> Result<(UnixListener, PathBuf), ServeError> {
    let path = root.join(NAME);
    let fresh = folder.join(NAME);
    let failed = |source| ServeError::File { doing: "listen on", path: path.clone(), source };
    match fs::remove_file(&fresh) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => return Err(failed(error)),
        _ => {}
    }
    let listener = UnixListener::bind(&fresh).map_err(failed)?;
    fs::set_permissions(&fresh, fs::Permissions::from_mode(0o600)).map_err(failed)?;
    fs::rename(&fresh, &path).map_err(failed)?;
    Ok((listener, path))
}

/// Who has connected. Without an answer of the kernel nobody in particular.
pub(crate) fn peer(stream: &UnixStream) -> Peer {
    match stream.peer_cred() {
        Ok(credentials) => Peer::local(credentials.uid(), rustix::process::geteuid().as_raw()),
        Err(error) => {
            tracing::warn!(%error, "the kernel does not tell who has connected");
            Peer::Unknown
        }
    }
}
