//! Whether a loader runs: whether someone holds the lock. Told by reading, for taking the lock even for a moment could
//! turn a loader away that starts in that moment.

use std::{fs, os::unix::fs::MetadataExt as _};

use nix::sys::stat::{major, minor};

use crate::paths::NodePaths;

/// The process that holds the node's lock, if any does.
pub(super) fn holder(paths: &NodePaths) -> Option<u32> {
    let lock = fs::metadata(paths.lock()).ok()?;
    let locks = fs::read_to_string("/proc/locks").ok()?;
    holder_of(&locks, lock.dev(), lock.ino())
}

/// The process that the lock's file names: the holder, or the last one.
pub(super) fn last_holder(paths: &NodePaths) -> Option<u32> {
    fs::read_to_string(paths.lock()).ok()?.trim().parse().ok()
}

/// Who holds the `flock` of a file, by lines such as `1: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF`.
fn holder_of(locks: &str, device: u64, inode: u64) -> Option<u32> {
    let file = format!("{:02x}:{:02x}:{inode}", major(device), minor(device));
    locks.lines().find_map(|line| {
        let fields: Vec<_> = line.split_whitespace().collect();
        match fields[..] {
            [_, "FLOCK", _, _, pid, locked, ..] if locked == file => pid.parse().ok(),
            _ => None,
        }
    })
}

#[cfg(test)]
mod tests {
    use nix::{
        fcntl::{Flock, FlockArg},
        sys::stat::makedev,
    };

    use super::*;

    #[test]
    fn finds_the_holder() {
        let locks = "1: POSIX  ADVISORY  WRITE 10 00:19:1234 0 EOF\n\
                     2: FLOCK  ADVISORY  WRITE 4711 00:19:1234 0 EOF\n\
                     2: -> FLOCK  ADVISORY  WRITE 4712 00:19:99 0 EOF\n";
        assert_eq!(holder_of(locks, makedev(0, 0x19), 1234), Some(4711));
        assert_eq!(holder_of(locks, makedev(0, 0x19), 99), None, "waits for it");
        assert_eq!(holder_of(locks, makedev(1, 0x19), 1234), None);
    }

    #[test]
    fn agrees_with_the_kernel() {
        let file = tempfile::tempfile().unwrap();
        let of = file.metadata().unwrap();
        let held = || holder_of(&fs::read_to_string("/proc/locks").unwrap(), of.dev(), of.ino());
        assert_eq!(held(), None);
        let lock = Flock::lock(file, FlockArg::LockExclusiveNonblock).unwrap();
        assert_eq!(held(), Some(std::process::id()));
        drop(lock);
        assert_eq!(held(), None);
    }
}
