//! What is on this node: read from the journals, the folders and the mount table, after a start
//! and now and then, so that a mount that somebody took away is seen.

use std::{
    fs, io,
    path::{Path, PathBuf},
};

use super::{
    journal::Journal,
    mountinfo::Mounts,
    view::{Actual, Device, Plugin, PodKey, Publication, PublicationId, State},
};
use crate::{
    error::Error,
    layout::{JOURNAL, Layout},
};

/// What a scan found.
#[derive(Debug, Default)]
pub(crate) struct Scan {
    pub(crate) actual: Actual,
    /// Folders without a journal and without a mount: leftovers of a crash, safe to `rmdir`.
    pub(crate) leftovers: Vec<PathBuf>,
    /// What is there but not understood; left alone and told.
    pub(crate) unknown: Vec<String>,
    trust_mounts: bool,
}

/// Reads everything. Anything that cannot be read makes the whole scan fail, except a journal
/// that is itself broken: that one is told, and what it stands for is left alone.
/// For volumes without a driver the mount table is all there is: `trust_mounts` takes it for
/// complete, which after a start it need not be (a crash may have come before `read-only`).
pub(crate) fn scan(layout: &Layout, boot_id: &str, trust_mounts: bool) -> Result<Scan, Error> {
    // The table first: what is mounted after this is found by its journal, as uncertain.
    let mounts = Mounts::read()?;
    let mut scan = Scan { trust_mounts, ..Scan::default() };
    scan.devices(layout, &mounts, boot_id)?;
    scan.block(layout, &mounts, boot_id)?;
    for (uid, pod) in children(&layout.pods())? {
        scan.pod_volumes(layout, &uid, &pod, &mounts, boot_id)?;
        scan.pod_devices(&uid, &pod)?;
    }
    Ok(scan)
}

impl Scan {
    /// `plugins/kubernetes.io/csi/<driver>/<hash>/`
    fn devices(&mut self, layout: &Layout, mounts: &Mounts, boot_id: &str) -> Result<(), Error> {
        for (driver, folder) in children(&layout.csi())? {
            if folder == layout.block() {
                continue;
            }
            for (hash, folder) in children(&folder)? {
                let mount = folder.join("globalmount");
                let Some(journal) = self.journal(&folder.join(JOURNAL)) else {
                    if !self.orphan(&[mount, folder], mounts) {
                        self.actual.unread.folders.insert((driver.clone(), hash));
                    }
                    continue;
                };
                let id = journal.volume();
                if id.driver != driver || !layout.device(&driver, &id.handle).ends_with(&hash) {
                    self.actual.unread.folders.insert((driver.clone(), hash));
                    self.unknown.push(format!("{}: its journal is of volume {id}", folder.display()));
                    continue;
                }
                let state = journal.state_now(boot_id, mounts.is_mounted(&mount));
                let device = Device { pv: journal.spec_vol_id.clone(), block: false, state };
                self.actual.devices.insert(id, device);
            }
        }
        Ok(())
    }

    /// `plugins/kubernetes.io/csi/volumeDevices/<volume>/data/`
    fn block(&mut self, layout: &Layout, mounts: &Mounts, boot_id: &str) -> Result<(), Error> {
        for (pv, folder) in children(&layout.block())? {
            for path in files(&folder.join("data"))? {
                if path.extension().is_none_or(|e| e != "json") {
                    continue;
                }
                let Some(journal) = self.journal(&path) else {
                    self.actual.unread.block = true;
                    continue;
                };
                let id = journal.volume();
                if path == layout.block_device_journal(&pv) {
                    let staged = mounts.is_mounted(&layout.block_staging(&pv));
                    let state = journal.state_now(boot_id, staged);
                    self.actual.devices.insert(id, Device { pv: pv.clone(), block: true, state });
                } else {
                    let owner = journal.owner();
                    let published = mounts.is_mounted(&layout.block_target(&pv, &owner.uid));
                    let state = journal.state_now(boot_id, published);
                    let key = PublicationId { pod: owner.uid.clone(), plugin: Plugin::Csi, name: pv.clone() };
                    let publication = Publication { volume: Some(id), block: true, state, owner };
                    self.actual.published.insert(key, publication);
                }
            }
        }
        Ok(())
    }

    /// `pods/<uid>/volumes/<plugin>/<name>/`
    fn pod_volumes(
        &mut self,
        layout: &Layout,
        uid: &str,
        pod: &Path,
        mounts: &Mounts,
        boot_id: &str,
    ) -> Result<(), Error> {
        for (folder_name, folder) in children(&pod.join("volumes"))? {
            let Some(plugin) = Plugin::ALL.into_iter().find(|p| p.folder() == folder_name) else {
                self.unknown.push(format!("{}: of no plugin that this version has", folder.display()));
                continue;
            };
            for path in entries(&folder)? {
                let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
                    continue;
                };
                let key = PublicationId { pod: uid.to_owned(), plugin, name };
                let publication = match plugin {
                    Plugin::Csi => {
                        let target = layout.csi_target(uid, &key.name);
                        let Some(journal) = self.journal(&path.join(JOURNAL)) else {
                            self.orphan(&[target, path], mounts);
                            continue;
                        };
                        let state = journal.state_now(boot_id, mounts.is_mounted(&target));
                        let owner = PodKey { uid: uid.to_owned(), ..journal.owner() };
                        Publication { volume: Some(journal.volume()), block: false, state, owner }
                    }
                    // The folder itself is the journal: it is made before the mount.
                    Plugin::HostPath | Plugin::Local => self.unmanaged(uid, false, mounts.is_mounted(&path)),
                    Plugin::EmptyDir => self.unmanaged(uid, false, true),
                };
                self.actual.published.insert(key, publication);
            }
        }
        Ok(())
    }

    /// `pods/<uid>/volumeDevices/<plugin>/<name>`: links to devices without a driver. Those of
    /// CSI volumes have their journals elsewhere.
    fn pod_devices(&mut self, uid: &str, pod: &Path) -> Result<(), Error> {
        for plugin in [Plugin::HostPath, Plugin::Local] {
            for path in entries(&pod.join("volumeDevices").join(plugin.folder()))? {
                let Some(name) = path.file_name().and_then(|n| n.to_str()).map(str::to_owned) else {
                    continue;
                };
                let key = PublicationId { pod: uid.to_owned(), plugin, name };
                let publication = self.unmanaged(uid, true, true);
                self.actual.published.insert(key, publication);
            }
        }
        Ok(())
    }

    /// A broken journal counts as unknown, and so does its folder: see [`Scan::orphan`].
    fn journal(&mut self, path: &Path) -> Option<Journal> {
        Journal::read(path).unwrap_or_else(|error| {
            self.unknown.push(error.to_string());
            None
        })
    }

    /// Folders without a readable journal, innermost first. With a journal file or a mount in
    /// them they are somebody's; else a crash before the first journal or after the last left
    /// them, and they are nobody's: then the answer is true.
    fn orphan(&mut self, folders: &[PathBuf], mounts: &Mounts) -> bool {
        let Some(outer) = folders.last() else { return true };
        if !matches!(fs::symlink_metadata(outer.join(JOURNAL)), Err(e) if e.kind() == io::ErrorKind::NotFound)
        {
            return false;
        }
        if let Some(mount) = mounts.below(outer).next() {
            self.unknown.push(format!("{} is mounted, but no journal says why", mount.display()));
            return false;
        }
        self.leftovers.extend(folders.iter().cloned());
        true
    }

    /// A publication without a driver. An uncertain one is mounted again, which checks everything.
    fn unmanaged(&self, uid: &str, block: bool, there: bool) -> Publication {
        let state = if self.trust_mounts && there { State::Done } else { State::Uncertain };
        let owner = PodKey { uid: uid.to_owned(), ..PodKey::default() };
        Publication { volume: None, block, state, owner }
    }
}

/// The folders in a folder, with their names; none when it is not there.
fn children(folder: &Path) -> Result<Vec<(String, PathBuf)>, Error> {
    let mut found = Vec::new();
    for path in entries(folder)? {
        let is_folder = match fs::symlink_metadata(&path) {
            Ok(meta) => meta.is_dir(),
            Err(error) if error.kind() == io::ErrorKind::NotFound => false,
            Err(error) => return Err(Error::io("look at", &path)(error)),
        };
        if let Some(name) = path.file_name().and_then(|n| n.to_str()).filter(|_| is_folder) {
            found.push((name.to_owned(), path.clone()));
        }
    }
    Ok(found)
}

fn files(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let hidden = |p: &PathBuf| p.file_name().is_some_and(|n| n.as_encoded_bytes().starts_with(b"."));
    Ok(entries(folder)?.into_iter().filter(|p| !hidden(p)).collect())
}

fn entries(folder: &Path) -> Result<Vec<PathBuf>, Error> {
    let listing = match fs::read_dir(folder) {
        Ok(listing) => listing,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(Vec::new()),
        Err(error) => return Err(Error::io("read the folder", folder)(error)),
    };
    let mut found = listing
        .map(|entry| entry.map(|e| e.path()))
        .collect::<Result<Vec<_>, _>>()
        .map_err(Error::io("read the folder", folder))?;
    found.sort();
    Ok(found)
}
