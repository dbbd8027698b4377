//! Open files that go along with bytes on a unix socket (unix(7), `SCM_RIGHTS`).

use std::{
    io::{self, IoSlice, IoSliceMut},
    mem::MaybeUninit,
    os::fd::{AsFd as _, OwnedFd},
};

use rustix::net::{
    RecvAncillaryBuffer, RecvAncillaryMessage, RecvFlags, SendAncillaryBuffer, SendAncillaryMessage,
    SendFlags, recvmsg, sendmsg,
};
use tokio::{io::Interest, net::UnixStream};

/// As much as is read at once: more than most orders have.
const FIRST: usize = 4096;

/// Writes as many of the bytes as go at once, one at least, with the open file; answers how many.
pub(super) async fn send(stream: &UnixStream, bytes: &[u8], file: Option<&OwnedFd>) -> io::Result<usize> {
    stream
        .async_io(Interest::WRITABLE, || {
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = SendAncillaryBuffer::new(&mut space);
            let files: Vec<_> = file.iter().map(|file| file.as_fd()).collect();
            if !files.is_empty() {
                control.push(SendAncillaryMessage::ScmRights(&files));
            }
            Ok(sendmsg(stream, &[IoSlice::new(bytes)], &mut control, SendFlags::NOSIGNAL)?)
        })
        .await
}

/// The first bytes that come, and the open file that came with them. Others that came are closed.
pub(super) async fn first(stream: &UnixStream) -> io::Result<(io::Cursor<Vec<u8>>, Option<OwnedFd>)> {
    stream
        .async_io(Interest::READABLE, || {
            let mut bytes = vec![0; FIRST];
            let mut space = [MaybeUninit::uninit(); rustix::cmsg_space!(ScmRights(1))];
            let mut control = RecvAncillaryBuffer::new(&mut space);
            let flags = RecvFlags::CMSG_CLOEXEC;
            let received = recvmsg(stream, &mut [IoSliceMut::new(&mut bytes)], &mut control, flags)?;
            bytes.truncate(received.bytes);
            let mut files = control.drain().filter_map(|message| match message {
                RecvAncillaryMessage::ScmRights(files) => Some(files),
                _ => None,
            });
            let file = files.by_ref().flatten().next();
            Ok((io::Cursor::new(bytes), file))
        })
        .await
}
