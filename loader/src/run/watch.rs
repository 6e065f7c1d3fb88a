//! Watches the configuration file, through its directory: an editor replaces a file, and Kubernetes the directory that a
//! `ConfigMap`'s file is a link into, so the file itself is the wrong thing to watch.

use std::{
    fs, io,
    os::fd::{AsFd as _, BorrowedFd},
    path::{Path, PathBuf},
};

use nix::sys::inotify::{AddWatchFlags, InitFlags, Inotify, WatchDescriptor};

/// A file that may change.
pub(super) struct FileWatch {
    inotify: Inotify,
    /// Of the directory.
    watch: WatchDescriptor,
    path: PathBuf,
    content: Option<Vec<u8>>,
}

impl FileWatch {
    /// Starts watching the file at `path`.
    pub(super) fn open(path: &Path) -> io::Result<Self> {
        let inotify = Inotify::init(InitFlags::IN_NONBLOCK | InitFlags::IN_CLOEXEC)?;
        let watch = watch_directory(&inotify, path)?;
        Ok(Self { inotify, watch, path: path.to_owned(), content: fs::read(path).ok() })
    }

    /// Readable when something in the directory has changed.
    pub(super) fn fd(&self) -> BorrowedFd<'_> {
        self.inotify.as_fd()
    }

    /// Whether the file is another than when this was last asked. One that is gone has not changed: there is nothing to
    /// read. If another directory has taken the place of the file's, which no event tells of, it is that one's that is
    /// watched from then on.
    pub(super) fn has_changed(&mut self) -> bool {
        // The same directory has the same watch.
        if let Ok(watch) = watch_directory(&self.inotify, &self.path)
            && watch != self.watch
        {
            // A directory that is gone has taken its watch along.
            let _ = self.inotify.rm_watch(self.watch);
            self.watch = watch;
        }
        while self.inotify.read_events().is_ok_and(|events| !events.is_empty()) {}
        let Ok(content) = fs::read(&self.path) else { return false };
        let changed = self.content.as_ref() != Some(&content);
        self.content = Some(content);
        changed
    }
}

fn watch_directory(inotify: &Inotify, path: &Path) -> io::Result<WatchDescriptor> {
    let directory = match path.parent() {
        Some(parent) if !parent.as_os_str().is_empty() => parent,
        _ => Path::new("."),
    };
    Ok(inotify.add_watch(directory, AddWatchFlags::IN_CLOSE_WRITE | AddWatchFlags::IN_MOVED_TO)?)
}

#[cfg(test)]
mod tests {
    use std::os::unix::fs::symlink;

    use nix::poll::{PollFd, PollFlags, PollTimeout, poll};

    use super::*;

    fn has_event(watch: &FileWatch) -> bool {
        poll(&mut [PollFd::new(watch.fd(), PollFlags::POLLIN)], PollTimeout::ZERO).unwrap() > 0
    }

    #[test]
    fn a_directory_that_takes_the_place_of_another_is_watched_once_it_is_seen() {
        let directory = tempfile::tempdir().unwrap();
        let at = |path: &str| directory.path().join(path);
        for (name, content) in [("first", "a"), ("second", "b")] {
            fs::create_dir(at(name)).unwrap();
            fs::write(at(name).join("node.toml"), content).unwrap();
        }
        symlink("first", at("etc")).unwrap();
        let mut watch = FileWatch::open(&at("etc/node.toml")).unwrap();
        symlink("second", at("next")).unwrap();
        fs::rename(at("next"), at("etc")).unwrap();
        assert!(!has_event(&watch), "nothing tells of it");
        assert!(watch.has_changed() && !watch.has_changed());
        fs::write(at("second/node.toml"), "c").unwrap();
        assert!(has_event(&watch) && watch.has_changed());
        fs::write(at("first/node.toml"), "d").unwrap();
        assert!(!has_event(&watch) && !watch.has_changed());
    }

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
