//! Pools lie apart, none at the path of another and none in another: what is in a pool's folder is
//! the pool's, and its start frees what is in its trash.

use std::{
    collections::BTreeSet,
    fs, io,
    os::unix::fs::MetadataExt as _,
    path::{Path, PathBuf},
};

use crate::{
    config::{BackendKind, ConfigError, PoolConfig},
    error::Error,
};

/// Whether each of the pools lies apart from those before it; the error names both. Changes nothing.
pub(crate) fn look(pools: &[PoolConfig]) -> Vec<Result<(), Error>> {
    let mut before: Vec<Spot<'_>> = Vec::new();
    pools
        .iter()
        .map(|pool| {
            if pool.backend == BackendKind::Tmpfs {
                return Ok(());
            }
            let spot = Spot::of(pool).map_err(|error| {
                let advice = "make the folder, or mount what belongs there";
                wrong(&pool.name, format!("{}: {error}; {advice}", pool.path.display()))
            })?;
            let met = before.iter().find_map(|other| spot.meets(other).map(|how| (other, how)));
            let apart = met.map_or(Ok(()), |(other, how)| {
                Err(wrong(
                    spot.pool,
                    format!(
                        "{} {how} pool {:?}, {}; give every pool a folder of its own, none in another's",
                        spot.path.display(),
                        other.pool,
                        other.path.display()
                    ),
                ))
            });
            before.push(spot);
            apart
        })
        .collect()
}

fn wrong(pool: &str, reason: String) -> Error {
    Error::Config(ConfigError::value(format!("pool {pool:?}: path"), reason))
}

/// Device and inode.
type Identity = (u64, u64);

/// Where a pool lies, or is to be made.
#[derive(Debug)]
struct Spot<'a> {
    pool: &'a str,
    /// Without symbolic links.
    path: PathBuf,
    /// The pool's folder, if it is there: by a bind mount it has several paths.
    own: Option<Identity>,
    /// The pool's folder and those above it, as far as they are there.
    upwards: BTreeSet<Identity>,
}

impl<'a> Spot<'a> {
    fn of(pool: &'a PoolConfig) -> io::Result<Self> {
        let path = real_path(&pool.path)?;
        let own = identity(&path)?;
        let mut upwards = BTreeSet::new();
        for folder in path.ancestors() {
            upwards.extend(identity(folder)?);
        }
        Ok(Self { pool: &pool.name, path, own, upwards })
    }

    /// How its path stands to that of another, where the two do not lie apart.
    fn meets(&self, other: &Self) -> Option<&'static str> {
        if self.path == other.path || (self.own.is_some() && self.own == other.own) {
            Some("is also the path of")
        } else if self.is_in(other) {
            Some("lies in the path of")
        } else if other.is_in(self) {
            Some("holds the path of")
        } else {
            None
        }
    }

    fn is_in(&self, other: &Self) -> bool {
        self.path.starts_with(&other.path) || other.own.is_some_and(|own| self.upwards.contains(&own))
    }
}

/// What is at a path; `None` only when the file system says that there is nothing.
fn identity(path: &Path) -> io::Result<Option<Identity>> {
    match fs::metadata(path) {
        Ok(metadata) => Ok(Some((metadata.dev(), metadata.ino()))),
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(None),
        Err(error) => Err(error),
    }
}

/// The path without symbolic links, of what is there and of what would be made below that.
fn real_path(path: &Path) -> io::Result<PathBuf> {
    let mut missing = Vec::new();
    let mut there = path;
    let mut real = loop {
        let error = match fs::canonicalize(there) {
            Ok(real) => break real,
            Err(error) => error,
        };
        match (there.parent(), there.components().next_back()) {
            (Some(parent), Some(last)) if error.kind() == io::ErrorKind::NotFound => {
                missing.push(last);
                there = parent;
            }
            _ => return Err(error),
        }
    };
    for part in missing.into_iter().rev() {
        if part == std::path::Component::ParentDir {
            real.pop();
        } else {
            real.push(part);
        }
    }
    Ok(real)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use super::*;

    /// What is said of the second of two pools.
    fn second(first: &Path, second: &Path) -> Option<String> {
        let pools = [PoolConfig::image("a", first), PoolConfig::directory("b", second)];
        let mut found = look(&pools);
        let of_second = found.pop().unwrap();
        assert!(found.pop().unwrap().is_ok());
        of_second.err().map(|error| error.to_string())
    }

    #[test]
    fn one_in_another_is_named_with_it() {
        let folder = tempfile::tempdir().unwrap();
        let at = |path: &str| fs::canonicalize(folder.path()).unwrap().join(path);
        fs::create_dir_all(at("a/trash")).unwrap();
        symlink(at("a"), at("link")).unwrap();
        for (first, other, how) in [
            ("a", "a", "is also the path of"),
            ("a", "link", "is also the path of"),
            ("new", "./x/../new", "is also the path of"),
            ("a", "a/trash/b", "lies in the path of"),
            ("a", "a/volumes", "lies in the path of"),
            ("a", "link/trash/b", "lies in the path of"),
            ("new", "new/b", "lies in the path of"),
            ("a/trash/b", "a", "holds the path of"),
            ("a/trash", "link", "holds the path of"),
        ] {
            let said = second(&at(first), &at(other)).unwrap();
            assert!(said.starts_with("pool \"b\": path: "), "{said}");
            assert!(said.contains(&format!("{how} pool \"a\", {}", at(first).display())), "{other}: {said}");
            assert_eq!(said.lines().count(), 1, "{said}");
        }
        for (first, other) in [("a", "ab"), ("new", "a"), ("a", "a/../b"), ("a", "link/../b")] {
            assert_eq!(second(&at(first), &at(other)), None, "{first} and {other}");
        }
        assert!(!at("new").exists(), "looking made a folder");
    }

    #[test]
    fn an_error_is_no_answer() {
        let folder = tempfile::tempdir().unwrap();
        fs::write(folder.path().join("file"), "x").unwrap();
        let said = second(&folder.path().join("a"), &folder.path().join("file/b")).unwrap();
        assert!(said.contains("file/b: Not a directory"), "{said}");
    }
}
