//! The registry folder: which sockets lie in it, and a notification when that may have changed.

use std::{
    collections::BTreeMap,
    fs, io,
    mem::MaybeUninit,
    os::{
        fd::OwnedFd,
        unix::fs::{FileTypeExt, MetadataExt},
    },
    path::PathBuf,
};

use rustix::fs::inotify::{self, CreateFlags, WatchFlags};
use tokio::io::unix::AsyncFd;

use crate::error::Error;

/// Tells a socket from a later one under the same name.
#[derive(Debug, Clone, Copy, PartialEq, Eq)]
pub(crate) struct SocketId {
    device: u64,
    inode: u64,
    changed: (i64, i64),
}

/// Folders deeper than this are not looked into; kubelet's plugins use one level at most.
const DEPTH: usize = 3;

/// The watched folder.
pub(crate) struct Registry {
    folder: PathBuf,
    inotify: AsyncFd<OwnedFd>,
}

impl Registry {
    pub(crate) fn open(folder: PathBuf) -> Result<Self, Error> {
        let io_error = |source| Error::Io { what: "watch", path: folder.clone(), source };
        let fd =
            inotify::init(CreateFlags::CLOEXEC | CreateFlags::NONBLOCK).map_err(|e| io_error(e.into()))?;
        inotify::add_watch(&fd, &folder, Self::flags()).map_err(|e| io_error(e.into()))?;
        #[expect(deprecated, reason = "an OwnedFd keeps the promise that the new, unsafe way asks for")]
        let inotify = AsyncFd::new(fd).map_err(io_error)?;
        Ok(Self { folder, inotify })
    }

    fn flags() -> WatchFlags {
        WatchFlags::CREATE
            | WatchFlags::DELETE
            | WatchFlags::MOVED_TO
            | WatchFlags::MOVED_FROM
            | WatchFlags::ATTRIB
    }

    /// The sockets below the folder. Names that begin with a dot are left out, as kubelet does.
    pub(crate) fn sockets(&mut self) -> Result<BTreeMap<PathBuf, SocketId>, Error> {
        let mut found = BTreeMap::new();
        let mut folders = vec![(self.folder.clone(), 0)];
        while let Some((folder, depth)) = folders.pop() {
            let entries = fs::read_dir(&folder).map_err(Error::io("read the folder", &folder))?;
            for entry in entries {
                let entry = entry.map_err(Error::io("read the folder", &folder))?;
                if entry.file_name().as_encoded_bytes().starts_with(b".") {
                    continue;
                }
                let path = entry.path();
                let meta = match fs::symlink_metadata(&path) {
                    Ok(meta) => meta,
                    Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
                    Err(error) => return Err(Error::io("look at", &path)(error)),
                };
                if meta.is_dir() && depth < DEPTH {
                    // Adding a watch again is free; the periodic rescan covers the moment before.
                    inotify::add_watch(self.inotify.get_ref(), &path, Self::flags())
                        .map_err(|e| Error::io("watch", &path)(e.into()))?;
                    folders.push((path, depth + 1));
                } else if meta.file_type().is_socket() {
                    let id = SocketId {
                        device: meta.dev(),
                        inode: meta.ino(),
                        changed: (meta.ctime(), meta.ctime_nsec()),
                    };
                    found.insert(path, id);
                }
            }
        }
        Ok(found)
    }

    /// Waits until something in the folder may have changed. What changed is not looked at: the
    /// next [`Registry::sockets`] reads the whole truth.
    pub(crate) async fn changed(&mut self) -> Result<(), Error> {
        let failed = |source| Error::Io { what: "watch", path: self.folder.clone(), source };
        loop {
            let mut ready = self.inotify.readable().await.map_err(failed)?;
            let drained = ready.try_io(|fd| {
                let mut buffer = [MaybeUninit::uninit(); 4096];
                let mut reader = inotify::Reader::new(fd.get_ref(), &mut buffer);
                let mut any = false;
                loop {
                    match reader.next() {
                        Ok(_) => any = true,
                        Err(rustix::io::Errno::WOULDBLOCK) if any => return Ok(()),
                        Err(error) => return Err(error.into()),
                    }
                }
            });
            match drained {
                Ok(result) => return result.map_err(failed),
                Err(_would_block) => {}
            }
        }
    }
}
