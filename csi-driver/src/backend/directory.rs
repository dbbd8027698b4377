//! The `directory` backend: folders on whatever file system the pool has.

use super::{
    Surroundings,
    folders::{Folders, sizes::Sizes},
};
use crate::{config::BackendKind, error::Error};

/// A backend for the pool.
pub(super) fn new(surroundings: Surroundings) -> Result<Folders, Error> {
    Ok(Folders {
        kind: BackendKind::Directory,
        fs_name: surroundings.fs_name.clone(),
        runner: surroundings.runner.clone(),
        sizes: Sizes::of(surroundings)?,
        copies: None,
    })
}
