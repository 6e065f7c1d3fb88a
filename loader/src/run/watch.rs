//! Watches the configuration file, through its directory: an editor replaces a file, and Kubernetes the directory that a
//! `ConfigMap`'s file is a link into, so the file itself is the wrong thing to watch.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify};

/// A file that may change.
pub(super) struct FileWatch {
    inotify: Inotify,
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl FileWatch {
    /// Starts watching the file at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let directory = match path.parent() {
            Some(parent) if !parent.as_os_str().is_empty() => parent,
            _ => Path::new("."),
        };
        inotify.add_watch(directory, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO)?;
        Ok(Self { inotify, path: path.to_owned(), content: fs::read(path).ok() })
    }

    /// Readable when something in the directory has changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether the file is another than when this was last asked. One that is gone has not changed: there is nothing to
    /// read.
    pub(super) fn has_changed(&mut self) -> bool {
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        let Ok(content) = fs::read(&self.path) else { return false };
        let changed = self.content.as_ref() != Some(&content);
        self.content = Some(content);
        changed
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sees_replacement_and_rewriting_but_not_neighbours() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("node.toml");
        fs::write(&path, "a").unwrap();
        let mut watch = FileWatch::open(&path).unwrap();
        assert!(!watch.has_changed());
        fs::write(directory.path().join("other"), "x").unwrap();
        assert!(!watch.has_changed());
        fs::write(&path, "b").unwrap();
        assert!(watch.has_changed());
        fs::write(directory.path().join("next"), "c").unwrap();
        fs::rename(directory.path().join("next"), &path).unwrap();
        assert!(watch.has_changed());
        fs::remove_file(&path).unwrap();
        assert!(!watch.has_changed());
    }
}
