//! One loader per node.

use std::{
    fs::{self, File, Metadata, OpenOptions, Permissions},
    io::{self, Read as _, Seek as _, Write as _},
    os::unix::fs::{MetadataExt as _, OpenOptionsExt as _, PermissionsExt as _},
    path::{Path, PathBuf},
    process,
};

use nix::fcntl::{Flock, FlockArg};
use thiserror::Error;

use crate::paths::NodePaths;

/// Why the lock is not ours.
#[derive(Debug, Error)]
pub enum LockError {
    /// Another loader has it.
    #[error("a loader is running for node {node} already: pid {pid}; stop that one first (`kill {pid}`)")]
    Held {
        /// Name of the node.
        node: String,
        /// The other loader's process.
        pid: String,
    },
    /// The file can't be used.
    #[error("{call} {}: {source}; run as root", path.display())]
    File {
        /// System call.
        call: &'static str,
        /// Which file.
        path: PathBuf,
        /// The errno.
        source: io::Error,
    },
}

/// Held for as long as this is; the kernel releases it when the process ends, however it does.
#[derive(Debug)]
pub struct NodeLock {
    _file: Flock<File>,
}

impl NodeLock {
    /// Takes a node's lock and writes the own pid into it; makes the node's runtime directory if need be.
    pub fn take(paths: &NodePaths) -> Result<Self, LockError> {
        let path = paths.lock();
        loop {
            match open(paths.run(), &path) {
                // A cleanup has removed a directory that was just made.
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(failed("open", &path)(error)),
                Ok(file) => match Flock::lock(file, FlockArg::LockExclusiveNonblock) {
                    Err((file, nix::Error::EWOULDBLOCK)) => return Err(held(paths, file)),
                    Err((_, errno)) => return Err(failed("flock", &path)(errno.into())),
                    Ok(file) if !is_at(&file, &path) => {}
                    Ok(mut file) => {
                        write_pid(&mut file).map_err(failed("write", &path))?;
                        return Ok(Self { _file: file });
                    }
                },
            }
        }
    }
}

fn open(directory: &Path, path: &Path) -> io::Result<File> {
    // Whoever may read a file may lock it, and would keep loaders away.
    const OWN: u32 = 0o600;

    fs::create_dir_all(directory)?;
    let file = OpenOptions::new().read(true).write(true).create(true).truncate(false).mode(OWN).open(path)?;
    file.set_permissions(Permissions::from_mode(OWN))?;
    Ok(file)
}

/// Whether the locked file is still the one that others find: a cleanup that held the lock before us has deleted it.
fn is_at(file: &File, path: &Path) -> bool {
    let same =
        |(ours, theirs): (Metadata, Metadata)| ours.dev() == theirs.dev() && ours.ino() == theirs.ino();
    file.metadata().ok().zip(fs::metadata(path).ok()).is_some_and(same)
}

fn write_pid(file: &mut File) -> io::Result<()> {
    file.set_len(0)?;
    file.rewind()?;
    writeln!(file, "{}", process::id())
}

fn held(paths: &NodePaths, mut file: File) -> LockError {
    let mut pid = String::new();
    let read = file.read_to_string(&mut pid);
    let pid = match (read, pid.trim()) {
        (Ok(_), pid) if !pid.is_empty() => pid.to_owned(),
        _ => "unknown".to_owned(),
    };
    LockError::Held { node: paths.node().to_owned(), pid }
}

fn failed(call: &'static str, path: &Path) -> impl Fn(io::Error) -> LockError {
    move |source| LockError::File { call, path: path.to_owned(), source }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_second_is_told_the_first_ones_pid() {
        if !nix::unistd::geteuid().is_root() {
            println!("skipped: needs root for /run/podlane");
            return;
        }
        let paths = NodePaths::new(Path::new("/sys/fs/bpf"), &format!("lock-test-{}", process::id()));
        // As an earlier version has left it.
        fs::create_dir_all(paths.run()).unwrap();
        fs::write(paths.lock(), "").unwrap();
        fs::set_permissions(paths.lock(), Permissions::from_mode(0o644)).unwrap();
        let first = NodeLock::take(&paths).unwrap();
        assert_eq!(fs::metadata(paths.lock()).unwrap().mode() & 0o777, 0o600, "nobody else may lock it");
        let error = NodeLock::take(&paths).unwrap_err().to_string();
        assert!(error.contains(&format!("pid {}", process::id())), "{error}");
        drop(first);
        NodeLock::take(&paths).unwrap();
        fs::remove_dir_all(paths.run()).unwrap();
    }
}
