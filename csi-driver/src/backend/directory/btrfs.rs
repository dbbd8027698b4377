//! Subvolumes and their limits, by way of btrfs-progs.

use std::{
    collections::HashMap,
    ffi::OsStr,
    path::{Path, PathBuf},
};

use super::TOOL;
use crate::{command::Runner, error::Error};

/// The quotas of one pool's file system.
#[derive(Debug)]
pub(super) struct Quotas {
    runner: Runner,
    pool: PathBuf,
}

impl Quotas {
    pub(super) fn new(runner: Runner, pool: PathBuf) -> Self {
        Self { runner, pool }
    }

    pub(super) fn find_tool(&self) -> Result<(), Error> {
        self.runner.find(TOOL)?;
        Ok(())
    }

    pub(super) fn lacks(&self) -> Vec<String> {
        self.runner.missing(&[TOOL])
    }

    pub(super) fn make_subvolume(&self, path: &Path) -> Result<(), Error> {
        self.run(["subvolume", "create"], path).map(|_| ())
    }

    pub(super) fn delete_subvolume(&self, path: &Path) -> Result<(), Error> {
        self.run(["subvolume", "delete"], path).map(|_| ())
    }

    /// Switches quotas on, if they are off; they count what is there in the background.
    pub(super) fn enable(&self) -> Result<(), Error> {
        if self.run(["qgroup", "show"], &self.pool).is_ok() {
            return Ok(());
        }
        tracing::info!(pool = %self.pool.display(), "switching btrfs quotas on");
        self.run(["quota", "enable"], &self.pool).map(|_| ())
    }

    /// Holds the subvolume to so many bytes.
    pub(super) fn limit(&self, subvolume: &Path, bytes: u64) -> Result<(), Error> {
        let bytes = bytes.to_string();
        let args = ["qgroup", "limit", bytes.as_str()].map(OsStr::new);
        let args: Vec<&OsStr> = args.into_iter().chain([subvolume.as_os_str()]).collect();
        self.runner.run(TOOL, &args)?;
        // The limit is in the quota tree; a commit makes it outlive a power cut.
        self.run(["filesystem", "sync"], subvolume).map(|_| ())
    }

    /// How many bytes are written in the subvolume.
    pub(super) fn written(&self, subvolume: &Path) -> Result<u64, Error> {
        // What is not committed is not counted yet.
        self.run(["filesystem", "sync"], subvolume)?;
        let args = ["qgroup", "show", "--raw", "-r", "-f"].map(OsStr::new);
        let args: Vec<&OsStr> = args.into_iter().chain([subvolume.as_os_str()]).collect();
        let table = self.runner.run(TOOL, &args)?.stdout;
        referenced(&table).into_iter().next().map(|(_, bytes)| bytes).ok_or_else(|| Error::Corrupt {
            path: subvolume.to_owned(),
            reason: "btrfs shows no quota group for it".to_owned(),
        })
    }

    /// How many bytes are written in each volume below `volumes`, by volume id. A
    /// volume that is not in it counts as unwritten, which promises too little rather
    /// than too much.
    pub(super) fn written_below(&self, volumes: &Path) -> Result<HashMap<String, u64>, Error> {
        let args = ["qgroup", "show", "--raw", "-r"].map(OsStr::new);
        let args: Vec<&OsStr> = args.into_iter().chain([self.pool.as_os_str()]).collect();
        // Quotas are off until the first enforced volume: then nothing is written.
        let Ok(table) = self.runner.run(TOOL, &args) else { return Ok(HashMap::new()) };
        let by_group: HashMap<String, u64> = referenced(&table.stdout).into_iter().collect();
        // `-o`: those below this folder's own subvolume, with their paths.
        let list = self.run(["subvolume", "list"], volumes)?.stdout;
        Ok(subvolumes(&list)
            .into_iter()
            .filter_map(|(group, id)| by_group.get(&group).map(|bytes| (id, *bytes)))
            .collect())
    }

    fn run(&self, what: [&str; 2], path: &Path) -> Result<crate::command::Finished, Error> {
        let args = [OsStr::new(what[0]), OsStr::new(what[1]), path.as_os_str()];
        Ok(self.runner.run(TOOL, &args)?)
    }
}

/// `0/257   16384   16384   none …` under two lines of headings.
fn referenced(table: &str) -> Vec<(String, u64)> {
    table
        .lines()
        .filter_map(|line| {
            let mut fields = line.split_whitespace();
            let group = fields.next().filter(|group| group.starts_with("0/"))?;
            Some((group.to_owned(), fields.next()?.parse().ok()?))
        })
        .collect()
}

/// `ID 257 gen 9 top level 5 path pool/volumes/<id>/data`.
fn subvolumes(list: &str) -> Vec<(String, String)> {
    list.lines()
        .filter_map(|line| {
            let number = line.strip_prefix("ID ")?.split_whitespace().next()?;
            let (_, path) = line.split_once(" path ")?;
            let path = Path::new(path);
            (path.file_name()? == super::DATA).then_some(())?;
            let id = path.parent()?.file_name()?.to_str()?;
            Some((format!("0/{number}"), id.to_owned()))
        })
        .collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn tables_of_btrfs_progs_are_read() {
        let table = "Qgroupid    Referenced    Exclusive   Max referenced   Path \n\
                     --------    ----------    ---------   --------------   ---- \n\
                     0/5              16384        16384             none   <toplevel>\n\
                     0/257          1064960      1064960         10485760   volumes/p.a/data\n\
                     1/0             100000       100000             none   <0 member qgroups>\n";
        assert_eq!(referenced(table), [("0/5".to_owned(), 16384), ("0/257".to_owned(), 1_064_960)]);
        let list = "ID 257 gen 9 top level 5 path pool/volumes/p.a/data\n\
                    ID 258 gen 9 top level 5 path other\n\
                    ID 259 gen 9 top level 5 path volumes/p.b c/data\n";
        assert_eq!(
            subvolumes(list),
            [("0/257".to_owned(), "p.a".to_owned()), ("0/259".to_owned(), "p.b c".to_owned())]
        );
    }
}
