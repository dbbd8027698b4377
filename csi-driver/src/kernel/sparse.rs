//! Copying a file with its holes, where blocks cannot be shared.

use std::{
    fs::File,
    os::{
        fd::{AsFd, OwnedFd},
        unix::fs::FileExt as _,
    },
};

use rustix::{
    fs::{self as rfs, SeekFrom},
    io::Errno,
};

use crate::error::{Error, Tried as _};

/// How many bytes are copied between two words on how far it is.
const PIECE: u64 = 64 << 20;
/// How many go through this process's memory at once, where the kernel does not copy.
const BUFFER: usize = 1 << 20;

/// Copies what is written in `source` into the empty file `into`, which becomes as long;
/// holes stay holes. `progress` is told the bytes copied so far. Nobody may write into
/// `source` meanwhile. Not durable yet.
pub(crate) fn copy(source: &OwnedFd, into: &OwnedFd, mut progress: impl FnMut(u64)) -> Result<(), Error> {
    let length = rfs::fstat(source).tried(|| "reading the size of a file to copy".to_owned())?.st_size;
    let length = u64::try_from(length).unwrap_or(0);
    rfs::ftruncate(into, length).tried(|| format!("making a copy of {length} bytes"))?;
    let mut copied = 0;
    let mut at = 0;
    while let Some((start, end)) = next_data(source, at)? {
        at = start;
        while at < end {
            let done = copy_piece(source, into, at, (end - at).min(PIECE))?;
            at += done;
            copied += done;
            progress(copied);
        }
    }
    Ok(())
}

/// How many bytes of the file are no holes.
pub(crate) fn data(file: impl AsFd) -> Result<u64, Error> {
    let mut bytes = 0;
    let mut at = 0;
    while let Some((start, end)) = next_data(file.as_fd(), at)? {
        bytes += end - start;
        at = end;
    }
    Ok(bytes)
}

/// The next bytes from `at` on that are no hole (lseek(2), SEEK_DATA).
fn next_data(file: impl AsFd, at: u64) -> Result<Option<(u64, u64)>, Error> {
    let file = file.as_fd();
    let found = rfs::seek(file, SeekFrom::Data(at)).and_then(|start| {
        let end = rfs::seek(file, SeekFrom::Hole(start))?;
        Ok((start, end))
    });
    match found {
        Ok(range) => Ok(Some(range)),
        Err(Errno::NXIO) => Ok(None),
        Err(error) => Err(error).tried(|| "looking for data in a file to copy".to_owned()),
    }
}

/// Copies up to `length` bytes at `offset`; answers how many, one at least.
fn copy_piece(source: &OwnedFd, into: &OwnedFd, offset: u64, length: u64) -> Result<u64, Error> {
    let (mut from, mut to) = (offset, offset);
    let most = usize::try_from(length).unwrap_or(usize::MAX);
    match rfs::copy_file_range(source, Some(&mut from), into, Some(&mut to), most) {
        Ok(0) => {}
        Ok(done) => return Ok(done as u64),
        // Between two kinds of file system, and on kernels that cannot.
        Err(Errno::XDEV | Errno::OPNOTSUPP | Errno::INVAL | Errno::NOSYS) => {}
        Err(error) => return Err(error).tried(|| format!("copying {length} bytes at {offset}")),
    }
    let read_and_write = || -> std::io::Result<u64> {
        let (source, into) = (File::from(source.try_clone()?), File::from(into.try_clone()?));
        let mut buffer = vec![0; BUFFER.min(most)];
        source.read_exact_at(&mut buffer, offset)?;
        into.write_all_at(&buffer, offset)?;
        Ok(buffer.len() as u64)
    };
    read_and_write().tried(|| format!("copying {length} bytes at {offset}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_written_is_copied_and_holes_stay() {
        let scratch = tempfile::tempdir().unwrap();
        let open = |name: &str| {
            let path = scratch.path().join(name);
            File::options().read(true).write(true).create(true).truncate(true).open(path).unwrap()
        };
        let (source, into) = (open("source"), open("into"));
        source.set_len(300 << 20).unwrap();
        for at in [0_u64, 5 << 20, (200 << 20) + 7, (300 << 20) - 3] {
            source.write_all_at(b"abc", at).unwrap();
        }
        source.write_all_at(&vec![7; 70 << 20], 100 << 20).unwrap();
        let (source, into) = (OwnedFd::from(source), OwnedFd::from(into));
        let mut told = Vec::new();
        copy(&source, &into, |copied| told.push(copied)).unwrap();
        let (source, into) = (File::from(source), File::from(into));
        assert_eq!(into.metadata().unwrap().len(), 300 << 20);
        let same = |at: u64, length: usize| {
            let (mut a, mut b) = (vec![0; length], vec![1; length]);
            source.read_exact_at(&mut a, at).unwrap();
            into.read_exact_at(&mut b, at).unwrap();
            a == b
        };
        assert!((0..300).all(|mib| same(mib << 20, 1 << 20)));
        assert!(data(&into).unwrap() < 72 << 20, "holes were filled");
        assert_eq!(told.last().copied(), Some(data(&source).unwrap()));
        assert!(told.len() > 4, "{told:?}");
    }

    #[test]
    fn an_empty_file_and_one_hole() {
        let file = |length: u64| {
            let file = tempfile::tempfile().unwrap();
            file.set_len(length).unwrap();
            OwnedFd::from(file)
        };
        for length in [0, 1 << 30] {
            let into = file(0);
            copy(&file(length), &into, |_| panic!("there is nothing to copy")).unwrap();
            assert_eq!(
                (File::from(into.try_clone().unwrap()).metadata().unwrap().len(), data(&into).unwrap()),
                (length, 0)
            );
        }
    }
}
