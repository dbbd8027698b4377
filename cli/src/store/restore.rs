//! `holdfast restore`: a backup becomes the store of a root.

use std::{
    fs::File,
    io::{self, BufRead, BufReader},
    path::{Path, PathBuf},
};

use anyhow::{Context, Result};
use holdfast_volume_controller::store::{self, Backup};

use super::target::TargetArgs;
use crate::root::Root;

/// What `holdfast restore` takes.
#[derive(clap::Args)]
pub(crate) struct RestoreArgs {
    #[command(flatten)]
    target: TargetArgs,
    /// The backup; `-` for standard input.
    #[arg(value_name = "FILE")]
    file: PathBuf,
}

pub(crate) fn main(args: RestoreArgs) -> Result<()> {
    super::runtime()?.block_on(run(args))
}

#[expect(clippy::print_stdout, reason = "what was done is this command's output")]
async fn run(args: RestoreArgs) -> Result<()> {
    let shown = args.file.display();
    let input: Box<dyn BufRead> = match args.file == Path::new("-") {
        true => Box::new(io::stdin().lock()),
        false => {
            Box::new(BufReader::new(File::open(&args.file).with_context(|| format!("cannot open {shown}"))?))
        }
    };
    // To its end, before anything is made.
    let backup = Backup::read(input).with_context(|| format!("cannot restore {shown}"))?;
    let root = Root::take(&args.target.root)?;
    let place = super::place(root.path(), args.target.database()?, super::Purpose::Restore)?;
    let restored = store::restore(place.config.clone(), &backup).await;
    let restored = restored.map_err(|error| match error {
        store::RestoreError::Open(error) => place.explain(error),
        error => error.into(),
    })?;
    place.remember()?;
    println!(
        "{} objects of {} restored into {}; the store goes on at revision {}",
        restored.objects, backup.header.taken, place.config.location, restored.revision
    );
    Ok(())
}
