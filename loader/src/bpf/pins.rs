//! Files in the BPF file system. It knows no names with a dot, and rename replaces as everywhere.

use std::{
    fs::{self, DirBuilder},
    io,
    os::unix::fs::DirBuilderExt as _,
    path::{Path, PathBuf},
};

use aya::maps::MapData;

use super::{BpfError, hash_map::errno};
use crate::{paths::NodePaths, sync::Shared};

/// What the pin of something new is called until it replaces what is there.
const NEXT: &str = "_next";
/// What the pin of something is called that was to replace what is there, and is not what is wanted any more.
const ASIDE: &str = "_aside";

/// Makes the directories of a node's pins.
pub(super) fn make_directories(paths: &NodePaths) -> Result<(), BpfError> {
    for path in [paths.maps(), paths.programs(), paths.links()] {
        make_directory(&path).map_err(failed("mkdir", &path))?;
    }
    Ok(())
}

/// With its parents, one of which another node's cleanup may remove because it is empty for a moment.
fn make_directory(path: &Path) -> io::Result<()> {
    loop {
        match DirBuilder::new().recursive(true).mode(0o700).create(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            outcome => return outcome,
        }
    }
}

/// Where the successor of `path` is pinned.
pub(super) fn next(path: &Path) -> PathBuf {
    beside(path, NEXT)
}

/// Where one that was to be the successor of `path` is pinned until nothing of it is needed any more.
pub(super) fn aside(path: &Path) -> PathBuf {
    beside(path, ASIDE)
}

fn beside(path: &Path, suffix: &str) -> PathBuf {
    let mut name = path.as_os_str().to_owned();
    name.push(suffix);
    name.into()
}

/// Puts the successor of `path` in its place, in one step.
pub(super) fn advance(path: &Path) -> Result<(), BpfError> {
    rename(&next(path), path)
}

/// Gives a pin another name; what has that name is replaced.
pub(super) fn rename(from: &Path, to: &Path) -> Result<(), BpfError> {
    fs::rename(from, to).map_err(failed("rename to", to))
}

/// Whether something is pinned there.
pub(super) fn is_there(path: &Path) -> Result<bool, BpfError> {
    path.try_exists().map_err(failed("stat", path))
}

/// Names of what is pinned in a directory; none without one.
pub(super) fn list(directory: &Path) -> Result<Vec<String>, BpfError> {
    match fs::read_dir(directory) {
        Ok(entries) => {
            Ok(entries.flatten().filter_map(|entry| entry.file_name().into_string().ok()).collect())
        }
        Err(error) if error.kind() == io::ErrorKind::NotFound => Ok(Vec::new()),
        Err(error) => Err(failed("readdir", directory)(error)),
    }
}

/// Removes a pin; one that is gone already is as good.
pub(super) fn remove(path: &Path) -> Result<(), BpfError> {
    match fs::remove_file(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("unlink", path)(error)),
        _ => Ok(()),
    }
}

/// The memory of a pinned array, to be read.
pub fn pinned_array(paths: &NodePaths, map: &'static str, value_size: usize) -> io::Result<Shared> {
    let data = MapData::from_pin(paths.map(map)).map_err(errno)?;
    let elements = data.info().map_err(errno)?.max_entries();
    Shared::map_read_only(data.fd(), elements, value_size)
}

/// Removes all of a node's pins, links first, and what is then empty. Returns how many, and what went wrong.
#[must_use]
pub fn remove_pins(paths: &NodePaths) -> (usize, Vec<BpfError>) {
    let mut removed = 0;
    let mut errors = Vec::new();
    for directory in [paths.links(), paths.programs(), paths.maps()] {
        match list(&directory) {
            Ok(names) => {
                for name in names {
                    match remove(&directory.join(name)) {
                        Ok(()) => removed += 1,
                        Err(error) => errors.push(error),
                    }
                }
            }
            Err(error) => errors.push(error),
        }
        errors.extend(remove_directory(&directory).err());
    }
    let revisions = paths.revisions();
    errors.extend([remove(&revisions), remove(&next(&revisions))].into_iter().filter_map(Result::err));
    errors.extend(remove_directory(paths.pins()).err());
    if let Some(all_nodes) = paths.pins().parent() {
        // Other nodes may be there.
        let _ = fs::remove_dir(all_nodes);
    }
    (removed, errors)
}

fn remove_directory(path: &Path) -> Result<(), BpfError> {
    match fs::remove_dir(path) {
        Err(error) if error.kind() != io::ErrorKind::NotFound => Err(failed("rmdir", path)(error)),
        _ => Ok(()),
    }
}

pub(super) fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> BpfError {
    move |source| {
        let hint = match source.raw_os_error() {
            Some(libc::EPERM | libc::EACCES) => "; run as root (CAP_BPF and CAP_NET_ADMIN)",
            _ => "",
        };
        BpfError::File { call, path: path.to_owned(), source, hint }
    }
}
