//! What a root folder still holds in the kernel and on disk.

use std::{
    fs,
    path::{Path, PathBuf},
};

/// The mount points below a folder, the deepest first.
#[must_use]
pub fn mounts(root: &Path) -> Vec<PathBuf> {
    let table = fs::read_to_string("/proc/self/mountinfo").unwrap_or_default();
    let mut found: Vec<PathBuf> = table
        .lines()
        .filter_map(|line| line.split(' ').nth(4))
        .map(PathBuf::from)
        .filter(|path| path.starts_with(root) && path != root)
        .collect();
    found.sort_by_key(|path| std::cmp::Reverse(path.components().count()));
    found
}

/// The loop devices whose backing file lies below a folder.
#[must_use]
pub fn loops(root: &Path) -> Vec<PathBuf> {
    fs::read_dir("/sys/block")
        .into_iter()
        .flatten()
        .flatten()
        .filter(|entry| {
            fs::read_to_string(entry.path().join("loop/backing_file"))
                .is_ok_and(|file| Path::new(file.trim_end()).starts_with(root))
        })
        .map(|entry| Path::new("/dev").join(entry.file_name()))
        .collect()
}

/// The image files in the default pool, its trash included.
#[must_use]
pub fn images(root: &Path) -> Vec<PathBuf> {
    let (mut found, mut folders) = (Vec::new(), vec![root.join("pools")]);
    while let Some(folder) = folders.pop() {
        for entry in fs::read_dir(&folder).into_iter().flatten().flatten() {
            let path = entry.path();
            if entry.file_type().is_ok_and(|kind| kind.is_dir()) {
                folders.push(path);
            } else if path.extension().is_some_and(|extension| extension == "img") {
                found.push(path);
            }
        }
    }
    found
}

/// The folders of pods below the node agent's root.
#[must_use]
pub fn pod_folders(root: &Path) -> Vec<PathBuf> {
    fs::read_dir(root.join("kubelet/pods"))
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .collect()
}

/// Everything at once, for an assertion that names what is left.
#[must_use]
pub fn all(root: &Path) -> Vec<PathBuf> {
    [mounts(root), loops(root), images(root), pod_folders(root)].concat()
}
