//! The open stream that came with an order. Somebody else is at its other end, who may read
//! or write slowly, or never; it is waited for no longer than anybody wants the transfer.

use std::{
    fs::File,
    io::{self, Read, Write},
    os::fd::OwnedFd,
};

use rustix::{
    event::{PollFd, PollFlags, Timespec, poll},
    fs::{FileType, fstat},
    io::Errno,
};
use tokio_util::sync::CancellationToken;

/// How soon the end is seen while nothing comes or goes.
const LOOK: Timespec = Timespec { tv_sec: 0, tv_nsec: 200_000_000 };
/// As much goes into a pipe that is ready for writing without waiting (`PIPE_BUF`, pipe(7)).
const AT_ONCE: usize = 4096;

/// One end of it.
#[derive(Debug)]
pub(crate) struct Peer {
    stream: File,
    /// A file takes what it is given.
    is_file: bool,
    /// Nobody wants the transfer any more.
    ended: CancellationToken,
}

impl Peer {
    pub(super) fn new(stream: OwnedFd, ended: CancellationToken) -> io::Result<Self> {
        let is_file = FileType::from_raw_mode(fstat(&stream)?.st_mode).is_file();
        Ok(Self { stream: stream.into(), is_file, ended })
    }

    /// Waits until there is something to do. What is found may be the other end's end.
    fn wait(&self, flags: PollFlags) -> io::Result<()> {
        while !self.ended.is_cancelled() {
            match poll(&mut [PollFd::new(&self.stream, flags)], Some(&LOOK)) {
                Ok(0) | Err(Errno::INTR) => {}
                Ok(_) => return Ok(()),
                Err(error) => return Err(error.into()),
            }
        }
        Err(io::Error::other("whoever does it is stopping, or whoever ordered it is gone; order it again"))
    }
}

/// Whether to wait again: the stream may be one that others made not to wait, or share.
fn in_vain(done: &io::Result<usize>) -> bool {
    done.as_ref().is_err_and(|error| error.kind() == io::ErrorKind::WouldBlock)
}

impl Read for Peer {
    fn read(&mut self, bytes: &mut [u8]) -> io::Result<usize> {
        loop {
            self.wait(PollFlags::IN)?;
            let done = self.stream.read(bytes);
            if !in_vain(&done) {
                return done;
            }
        }
    }
}

impl Write for Peer {
    fn write(&mut self, bytes: &[u8]) -> io::Result<usize> {
        let most = if self.is_file { bytes.len() } else { bytes.len().min(AT_ONCE) };
        loop {
            self.wait(PollFlags::OUT)?;
            let done = self.stream.write(bytes.get(..most).unwrap_or(bytes));
            if !in_vain(&done) {
                return done;
            }
        }
    }

    fn flush(&mut self) -> io::Result<()> {
        self.stream.flush()
    }
}
