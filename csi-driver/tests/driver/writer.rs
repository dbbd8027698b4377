//! Somebody who writes into volumes while they are copied, and what has to be found then.

use std::{
    fs::{self, File},
    os::unix::fs::FileExt as _,
    path::{Path, PathBuf},
    sync::{
        Arc,
        atomic::{AtomicBool, AtomicU64, Ordering},
    },
    thread::JoinHandle,
};

use holdfast_proto::csi::{VolumeCapability, volume_capability::access_mode::Mode};

use crate::harness::{Driver, block, until};

/// How long a record of the writers is: no whole number of blocks, so that one lies in two.
pub(crate) const RECORD: usize = 1000;
/// The same for a raw device, whose blocks are its unit.
pub(crate) const SECTOR: usize = 4096;

fn record(number: u64, length: usize) -> Vec<u8> {
    let mut bytes = vec![(number % 251) as u8; length];
    bytes[..8].copy_from_slice(&number.to_le_bytes());
    bytes
}

/// Writes numbered records, each synced before the next, into one file or into several, one
/// after the other.
pub(crate) struct Writer {
    stop: Arc<AtomicBool>,
    /// The records that were begun, and those that are safe in every file.
    pub(crate) begun: Arc<AtomicU64>,
    pub(crate) safe: Arc<AtomicU64>,
    thread: Option<JoinHandle<()>>,
}

impl Writer {
    pub(crate) fn start(files: Vec<File>, length: usize) -> Self {
        Self::writing(files, move |file, number| {
            file.write_all_at(&record(number, length), number * length as u64).unwrap();
            file.sync_data().unwrap();
        })
    }

    /// One that syncs nothing: it writes the number of its round over that of the last one, as fast
    /// as it can, so that what is not held still while it is copied differs.
    pub(crate) fn counting(files: Vec<File>) -> Self {
        Self::writing(files, |file, number| {
            file.write_all_at(&(number + 1).to_le_bytes(), 0).unwrap();
            std::thread::yield_now();
        })
    }

    fn writing(files: Vec<File>, write: impl Fn(&File, u64) + Send + 'static) -> Self {
        let (stop, begun, safe) =
            (Arc::new(AtomicBool::new(false)), Arc::new(AtomicU64::new(0)), Arc::new(AtomicU64::new(0)));
        let (stopped, begins, saves) = (stop.clone(), begun.clone(), safe.clone());
        let thread = std::thread::spawn(move || {
            for number in 0.. {
                if stopped.load(Ordering::SeqCst) {
                    return;
                }
                begins.store(number + 1, Ordering::SeqCst);
                for file in &files {
                    write(file, number);
                }
                saves.store(number + 1, Ordering::SeqCst);
            }
        });
        Self { stop, begun, safe, thread: Some(thread) }
    }

    pub(crate) async fn goes_on(&self) {
        let now = self.safe.load(Ordering::SeqCst);
        until("the writer goes on", || self.safe.load(Ordering::SeqCst) > now + 20).await;
    }

    pub(crate) fn end(mut self) {
        self.stop.store(true, Ordering::SeqCst);
        self.thread.take().unwrap().join().unwrap();
    }
}

impl Drop for Writer {
    fn drop(&mut self) {
        self.stop.store(true, Ordering::SeqCst);
    }
}

/// How far a counting writer had come in a file.
pub(crate) fn counted(file: &str) -> u64 {
    fs::read(file).unwrap().try_into().map_or(0, u64::from_le_bytes)
}

/// How many whole records there are. What comes after them must be nothing at all.
pub(crate) fn records(file: &Path, length: usize) -> u64 {
    let bytes = fs::read(file).unwrap();
    let whole = |number: &u64| {
        let at = *number as usize * length;
        bytes.get(at..at + length).is_some_and(|found| found == record(*number, length))
    };
    let count = (0..).take_while(whole).count();
    assert!(bytes[count * length..].iter().all(|byte| *byte == 0), "something after {count} whole records");
    count as u64
}

pub(crate) fn open_for_writing(path: &str) -> File {
    File::options().write(true).create(true).truncate(false).open(path).unwrap()
}

/// Where the writer writes in a published volume.
pub(crate) fn log_of(driver: &Driver, target: &str, capability: &VolumeCapability) -> PathBuf {
    let path = PathBuf::from(driver.path(target));
    if is_block(capability) { path } else { path.join("log") }
}

pub(crate) fn is_block(capability: &VolumeCapability) -> bool {
    *capability == block(Mode::SingleNodeMultiWriter)
}

/// Of two files written one after the other, the second is never ahead, nor more than one
/// behind; both have what was written before the copy, and not what was written after.
#[track_caller]
pub(crate) fn assert_in_step(before: u64, found: &[u64], after: u64) {
    let [a, b] = *found else { panic!("two files") };
    assert!(b <= a && a <= b + 1, "A has {a} and B {b}");
    assert!(before <= b && a <= after, "{before} <= {b}, {a} <= {after}");
}
