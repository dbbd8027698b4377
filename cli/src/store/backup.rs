//! `holdfast backup`: everything that the store has, in one file.

use std::{
    fs::{self, File, OpenOptions},
    io::{self, Write},
    os::unix::fs::OpenOptionsExt,
    path::{Path, PathBuf},
};

use anyhow::{Context, Result, bail, ensure};
use futures::{AsyncBufReadExt, AsyncRead, io::BufReader};
use holdfast_volume_controller::{
    apiserver::BACKUP_PATH,
    store::{BackupHeader, BackupReader},
};
use rustix::fs::{CWD, RenameFlags, renameat_with};

use super::{
    progress::Progress,
    target::{Target, TargetArgs},
};
use crate::signals::Signals;

/// What `holdfast backup` takes.
#[derive(clap::Args)]
pub(crate) struct BackupArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The file to write, which must not exist yet; `-` for standard output.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn main(args: BackupArgs) -> Result<()> {
    super::runtime()?.block_on(async {
        let mut signals = Signals::listen()?;
        tokio::select! {
            done = run(args) => done,
            // Half a file goes with it.
            () = signals.recv() => bail!("interrupted; there is no backup"),
        }
    })
}

#[expect(clippy::print_stderr, reason = "what was done; the backup itself may go to standard output")]
async fn run(args: BackupArgs) -> Result<()> {
    let is_standard = args.file == Path::new("-");
    let mut output = if is_standard { Output::Standard(io::stdout()) } else { Output::beside(&args.file)? };
    let header = match args.target.reach().await? {
        Target::Running(client) => {
            let request = http::Request::get(BACKUP_PATH).body(Vec::new())?;
            let text = client.request_stream(request).await.context("the server gave no backup")?;
            copy(Box::pin(text), &mut output).await?
        }
        Target::Idle(store, _root) => {
            let text = futures::stream::iter(store.snapshot().into_text());
            let copied = copy(futures::TryStreamExt::into_async_read(text), &mut output).await;
            store.close().await;
            copied?
        }
    };
    output.finish(&args.file)?;
    eprintln!("{} objects as of revision {}, taken at {}", header.objects, header.revision, header.taken);
    Ok(())
}

/// Copies a backup line by line, and makes sure that it is whole.
async fn copy(text: impl AsyncRead + Unpin, output: &mut Output) -> Result<BackupHeader> {
    let mut text = BufReader::with_capacity(256 << 10, text);
    let (mut reader, mut line) = (BackupReader::default(), Vec::new());
    let mut progress = Progress::new("backup");
    loop {
        line.clear();
        if text.read_until(b'\n', &mut line).await.context("the backup was cut off")? == 0 {
            return Ok(reader.finish()?);
        }
        reader.line(&line)?;
        progress.at(reader.bytes(), reader.header().map_or(0, |header| header.bytes));
        output.write(&line).context("cannot write the backup")?;
    }
}

/// Where the backup goes. A file gets its name when it is whole and on the disk.
enum Output {
    Standard(io::Stdout),
    File { partial: PathBuf, file: io::BufWriter<File>, is_done: bool },
}

impl Output {
    fn beside(path: &Path) -> Result<Self> {
        let exists = path.symlink_metadata().is_ok();
        ensure!(!exists, "{} exists already: choose another name, or remove it", path.display());
        let mut partial = path.as_os_str().to_owned();
        partial.push(format!(".{}.partial", std::process::id()));
        let partial = PathBuf::from(partial);
        let file = OpenOptions::new()
            .write(true)
            .create_new(true)
            .mode(0o600)
            .open(&partial)
            .with_context(|| format!("cannot make {}", partial.display()))?;
        Ok(Self::File { partial, file: io::BufWriter::new(file), is_done: false })
    }

    fn write(&mut self, bytes: &[u8]) -> io::Result<()> {
        match self {
            Self::Standard(output) => output.write_all(bytes),
            Self::File { file, .. } => file.write_all(bytes),
        }
    }

    fn finish(mut self, path: &Path) -> Result<()> {
        match &mut self {
            Self::Standard(output) => output.flush().context("cannot write the backup"),
            Self::File { partial, file, is_done } => {
                let failed = || format!("cannot write {}", path.display());
                file.flush().with_context(failed)?;
                file.get_ref().sync_all().with_context(failed)?;
                renameat_with(CWD, &*partial, CWD, path, RenameFlags::NOREPLACE).with_context(failed)?;
                *is_done = true;
                let folder = path.parent().filter(|folder| !folder.as_os_str().is_empty());
                File::open(folder.unwrap_or(Path::new(".")))
                    .and_then(|folder| folder.sync_all())
                    .with_context(failed)
            }
        }
    }
}

/// Half a backup is none.
impl Drop for Output {
    fn drop(&mut self) {
        if let Self::File { partial, is_done: false, .. } = self {
            let _ = fs::remove_file(partial);
        }
    }
}
