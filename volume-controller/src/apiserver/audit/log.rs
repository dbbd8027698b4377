//! The file: lines that are appended by a thread of their own, and moved aside by size.
//!
//! A slow disk slows requests down, once the queue has many lines or large ones; nothing is left out for speed. What
//! cannot be written is lost, counted and told: the API goes on where a full disk would else be
//! the end of it, as upstream's default mode has it.

use std::fs::{self, File, OpenOptions};
use std::io::{self, Write};
use std::os::unix::fs::OpenOptionsExt;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::AtomicU64;

use jiff::Timestamp;
use prometheus_client::metrics::counter::Counter;
use tokio::sync::{OwnedSemaphorePermit, Semaphore, mpsc, oneshot};

/// Lines that may wait.
const QUEUE: usize = 10_000;
/// Bytes that may wait, in these units. One line that has more waits alone.
const UNITS: u32 = 32 * 1024;
const UNIT: usize = 1024;
/// Lines that are written at once, at most.
const AT_ONCE: usize = 512;

enum Message {
    /// With its share of the bytes that may wait.
    Line(Vec<u8>, OwnedSemaphorePermit),
    End(oneshot::Sender<()>),
}

/// Where lines go.
pub(super) struct Log {
    queue: mpsc::Sender<Message>,
    room: Arc<Semaphore>,
}

struct Writer {
    path: PathBuf,
    file: File,
    written: u64,
    max_bytes: u64,
    max_backups: usize,
    lost: Counter<u64, AtomicU64>,
}

impl Log {
    /// Opens the file, for its owner only, to append to it.
    pub(super) fn open(
        path: &Path,
        max_bytes: u64,
        max_backups: usize,
        lost: Counter<u64, AtomicU64>,
    ) -> io::Result<Self> {
        let file = append(path)?;
        let written = file.metadata()?.len();
        let writer = Writer { path: path.to_owned(), file, written, max_bytes, max_backups, lost };
        let (queue, messages) = mpsc::channel(QUEUE);
        std::thread::Builder::new().name("audit".to_owned()).spawn(move || writer.run(messages))?;
        Ok(Self { queue, room: Arc::new(Semaphore::new(UNITS as usize)) })
    }

    /// Appends a line, after waiting for room in the queue.
    pub(super) async fn put(&self, line: Vec<u8>) {
        let units = u32::try_from(line.len() / UNIT + 1).unwrap_or(UNITS).min(UNITS);
        // Nobody closes it.
        let Ok(room) = self.room.clone().acquire_many_owned(units).await else { return };
        // An error means that the log was ended.
        let _ = self.queue.send(Message::Line(line, room)).await;
    }

    /// Waits until every line is in the file, and the file on the disk.
    pub(super) async fn end(&self) {
        let (done, ended) = oneshot::channel();
        if self.queue.send(Message::End(done)).await.is_ok() {
            let _ = ended.await;
        }
    }
}

fn append(path: &Path) -> io::Result<File> {
    OpenOptions::new().append(true).create(true).mode(0o600).open(path)
}

impl Writer {
    fn run(mut self, mut messages: mpsc::Receiver<Message>) {
        let mut batch = Vec::with_capacity(AT_ONCE);
        while messages.blocking_recv_many(&mut batch, AT_ONCE) > 0 {
            let (mut lines, mut count, mut ended, mut shares) = (Vec::new(), 0, Vec::new(), Vec::new());
            for message in batch.drain(..) {
                match message {
                    Message::Line(line, share) => {
                        lines.extend_from_slice(&line);
                        lines.push(b'\n');
                        count += 1;
                        shares.push(share);
                    }
                    Message::End(done) => ended.push(done),
                }
            }
            if let Err(error) = self.write(&lines) {
                self.lost.inc_by(count);
                tracing::error!(%error, path = %self.path.display(), count, "audit events are lost");
            }
            drop(shares);
            if !ended.is_empty() {
                if let Err(error) = self.file.sync_all() {
                    tracing::error!(%error, path = %self.path.display(), "the audit log is not on the disk");
                }
                for done in ended {
                    // An error means that nobody waits any more.
                    let _ = done.send(());
                }
            }
        }
    }

    fn write(&mut self, lines: &[u8]) -> io::Result<()> {
        let more = u64::try_from(lines.len()).unwrap_or(u64::MAX);
        if self.written > 0 && self.written.saturating_add(more) > self.max_bytes {
            self.rotate()?;
        }
        if let Err(error) = self.file.write_all(lines) {
            // Half a line would spoil the next one.
            let _ = self.file.set_len(self.written);
            return Err(error);
        }
        self.written += more;
        Ok(())
    }

    /// Moves the file aside under the time of now, and removes the oldest beyond the number.
    fn rotate(&mut self) -> io::Result<()> {
        self.file.sync_all()?;
        let (stem, end) = self.parts();
        let time = Timestamp::now().strftime("%Y-%m-%dT%H-%M-%S.%6f");
        fs::rename(&self.path, self.path.with_file_name(format!("{stem}-{time}{end}")))?;
        self.file = append(&self.path)?;
        self.written = 0;
        let mut old = self.aside()?;
        // By the time in the name.
        old.sort();
        let more = old.len().saturating_sub(self.max_backups);
        old.into_iter().take(more).try_for_each(fs::remove_file)
    }

    /// `audit` and `.log` of `audit.log`.
    fn parts(&self) -> (String, String) {
        let text = |part: Option<&std::ffi::OsStr>| part.unwrap_or_default().to_string_lossy().into_owned();
        let end = self.path.extension().map(|end| format!(".{}", end.to_string_lossy())).unwrap_or_default();
        (text(self.path.file_stem()), end)
    }

    /// The files that were moved aside: only names that this made.
    fn aside(&self) -> io::Result<Vec<PathBuf>> {
        let (stem, end) = self.parts();
        let folder = self.path.parent().filter(|folder| !folder.as_os_str().is_empty());
        let mut found = Vec::new();
        for entry in fs::read_dir(folder.unwrap_or(Path::new(".")))? {
            let entry = entry?;
            let name = entry.file_name().to_string_lossy().into_owned();
            let time = name.strip_prefix(&stem).and_then(|rest| rest.strip_prefix('-'));
            let time = time.and_then(|rest| rest.strip_suffix(&end));
            let is_time = |time: &str| {
                time.len() == 26 && time.chars().all(|c| c.is_ascii_digit() || matches!(c, '-' | 'T' | '.'))
            };
            if time.is_some_and(is_time) {
                found.push(entry.path());
            }
        }
        Ok(found)
    }
}

#[cfg(test)]
mod tests {
    use std::io::Read;
    use std::sync::atomic::Ordering;
    use std::time::Duration;

    use super::*;

    #[tokio::test]
    async fn moved_aside_by_size_and_nothing_lost() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("audit.log");
        fs::write(folder.path().join("audit-mine.log"), "somebody else's").unwrap();
        let lost = Counter::default();
        let log = Log::open(&path, 50, 2, lost.clone()).unwrap();
        let mut whole = Vec::new();
        for number in 0..30 {
            log.put(format!("line {number:02} {}", "x".repeat(20)).into_bytes()).await;
            log.end().await;
        }
        let mut names: Vec<PathBuf> =
            fs::read_dir(folder.path()).unwrap().map(|e| e.unwrap().path()).collect();
        names.sort();
        assert_eq!(names.len(), 4, "{names:?}");
        for name in names.iter().filter(|name| !name.ends_with("audit-mine.log")) {
            whole.push(fs::read_to_string(name).unwrap());
        }
        assert!(whole.concat().contains("line 29") && !whole.concat().contains("line 10"));
        assert_eq!(lost.get(), 0);
    }

    #[tokio::test]
    async fn a_full_disk_is_counted_and_does_not_stop_it() {
        let lost = Counter::default();
        let log = Log::open(Path::new("/dev/full"), u64::MAX, 1, lost.clone()).unwrap();
        log.put(b"a".to_vec()).await;
        log.put(b"b".to_vec()).await;
        log.end().await;
        assert_eq!(lost.get(), 2);
    }

    /// The disk is a pipe that nobody reads.
    #[tokio::test]
    async fn large_lines_wait_before_there_are_many() {
        let folder = tempfile::tempdir().unwrap();
        let path = folder.path().join("pipe");
        rustix::fs::mknodat(
            rustix::fs::CWD,
            &path,
            rustix::fs::FileType::Fifo,
            rustix::fs::Mode::RUSR | rustix::fs::Mode::WUSR,
            0,
        )
        .unwrap();
        let mut reader = OpenOptions::new().read(true).write(true).open(&path).unwrap();
        let log = Arc::new(Log::open(&path, u64::MAX, 1, Counter::default()).unwrap());
        let (line, taken) = (vec![b'x'; 1 << 20], Arc::new(AtomicU64::new(0)));
        let task = tokio::spawn({
            let (log, line, taken) = (log.clone(), line.clone(), taken.clone());
            async move {
                for _ in 0..100 {
                    log.put(line.clone()).await;
                    taken.fetch_add(1, Ordering::Relaxed);
                }
            }
        });
        let all = UNITS as usize * UNIT / line.len();
        let full = async {
            while log.room.available_permits() > 2 * line.len() / UNIT {
                tokio::time::sleep(Duration::from_millis(5)).await;
            }
        };
        tokio::time::timeout(Duration::from_secs(20), full).await.expect("they take no room");
        let waiting = taken.load(Ordering::Relaxed);
        assert!(waiting <= all as u64, "{waiting} lines of 1 MiB wait");
        // Once it is read again, all come.
        let drained = tokio::task::spawn_blocking(move || {
            let mut buffer = vec![0; 1 << 16];
            let mut left = 100 * ((1 << 20) + 1);
            while left > 0 {
                left -= reader.read(&mut buffer).unwrap();
            }
        });
        task.await.unwrap();
        drained.await.unwrap();
        // A line that is larger than all the room waits alone.
        drop(log.room.acquire_many(UNITS).await.unwrap());
    }
}
