//! Image files that were made elsewhere: what is in them, and a copy of them.

use rustix::fs::{self as rfs, FileType, OFlags};

use super::{IMAGE, format, identity, room::resize, superblock};
use crate::{
    command::{Runner, Tool},
    error::{Error, Tried as _},
    kernel::{reflink, sparse},
    pool::{Appraisal, Import, Original, Progress, VolumeFolder, Watcher},
    size::Bytes,
    step,
    volume::{Content, FsType, Volume},
};

/// What a volume made of the file holds, by what is found in it.
pub(super) fn appraise(runner: &Runner, original: &Original, import: &Import) -> Result<Appraisal, Error> {
    let path = original.place.path().display();
    let invalid = |why: String| Err(Error::Invalid(format!("{path} {why}")));
    if original.seen.kind != FileType::RegularFile {
        return invalid(
            "is a folder, and this pool has images; use a pool with backend = \"directory\"".to_owned(),
        );
    }
    let file = original.open()?;
    let stat = rfs::fstat(&file).tried(|| format!("looking at {path}"))?;
    if stat.st_nlink > 1 && !import.copy {
        return invalid(format!(
            "has {} names (hard links); remove the others, or use --copy",
            stat.st_nlink
        ));
    }
    let length = u64::try_from(stat.st_size).unwrap_or(0);
    if length == 0 {
        return invalid("is empty".to_owned());
    }
    let content = if import.raw_block {
        Content::Block
    } else {
        Content::Filesystem(file_system(runner, original, import.fs_type.as_deref(), length)?)
    };
    let occupied = u64::try_from(stat.st_blocks).unwrap_or(0).saturating_mul(512);
    Ok(Appraisal { content, least: length, occupied })
}

fn file_system(
    runner: &Runner,
    original: &Original,
    wanted: Option<&str>,
    length: u64,
) -> Result<FsType, Error> {
    let path = original.place.path().display();
    let invalid = |why: String| Err(Error::Invalid(format!("{path} {why}")));
    // The open file is the tool's standard input: what is probed is what is imported.
    let args = ["-p", "-o", "export", "-s", "TYPE", "-s", "PTTYPE", "/dev/stdin"];
    let probed = runner.run_on(Tool::BLKID, &args, &[0, format::BLKID_NOTHING], original.open()?.into())?;
    let value = |key: &str| probed.stdout.lines().find_map(|line| line.strip_prefix(key));
    let found = match (value("TYPE="), value("PTTYPE=")) {
        (_, Some(table)) => {
            return invalid(format!(
                "has a partition table ({table}); take the partition's file system out of it, or import it with \
                 --raw-block"
            ));
        }
        (Some(found), None) => found,
        (None, None) => {
            return invalid(
                "holds nothing that blkid knows; import it with --raw-block, or make a file system"
                    .to_owned(),
            );
        }
    };
    let Some(fs) = FsType::parse(found) else {
        return invalid(format!(
            "holds {found}, and only ext4, xfs and btrfs can be mounted; use --raw-block"
        ));
    };
    if let Some(wanted) = wanted
        && wanted != fs.as_str()
    {
        return invalid(format!("holds {fs}, not {wanted}"));
    }
    match superblock::in_file(fs, &original.open()?)? {
        None => {
            invalid(format!("holds an {fs} whose superblock cannot be read; check it with its own tools"))
        }
        Some(bytes) if bytes > length => invalid(format!(
            "was cut off: its {fs} has {} ({bytes} bytes), the file {length} bytes",
            Bytes(bytes)
        )),
        Some(_) => Ok(fs),
    }
}

/// Copies the file into the folder, durably. Whoever writes into it meanwhile is found out.
pub(super) fn copy_in(
    runner: &Runner,
    original: &Original,
    folder: &VolumeFolder,
    volume: &Volume,
    watcher: Watcher<'_>,
) -> Result<(), Error> {
    let source = original.open()?;
    let look = || rfs::fstat(&source).tried(|| format!("looking at {}", original.place.path().display()));
    let before = look()?;
    let image = folder.open_child(IMAGE, OFlags::RDWR | OFlags::CREATE | OFlags::EXCL)?;
    rfs::fsync(&source).tried(|| "syncing what is copied".to_owned())?;
    if !reflink::clone_file(&source, &image)? {
        let total = sparse::data(&source)?;
        sparse::copy(&source, &image, |done| watcher(Progress { done, total }))?;
    }
    step::passed("image copied");
    let after = look()?;
    let same = |a: &rfs::Stat, b: &rfs::Stat| {
        (a.st_size, a.st_mtime, a.st_mtime_nsec) == (b.st_size, b.st_mtime, b.st_mtime_nsec)
    };
    if !same(&before, &after) {
        return Err(Error::Precondition(format!(
            "{} was written to while it was copied; stop who uses it and try again",
            original.place.path().display()
        )));
    }
    resize(&image, volume.capacity)?;
    drop(image);
    // It can be mounted beside the original then.
    match volume.content {
        Content::Filesystem(fs) => identity::rewrite(runner, folder, IMAGE, fs),
        Content::Block | Content::Folder => Ok(()),
    }
}
