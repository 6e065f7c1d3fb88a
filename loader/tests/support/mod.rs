//! What the tests that need root share: network namespaces that exist only as open files, and go with them.

use std::{fs::File, os::fd::AsRawFd as _, panic, path::PathBuf, process, thread};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::geteuid,
};

/// Whether the test can run; says so if not.
pub fn can_run() -> bool {
    let root = geteuid().is_root();
    if !root {
        println!("SKIPPED: {}: it needs root", thread::current().name().unwrap_or("a test"));
    }
    root
}

/// Runs `work` in a thread with a network namespace of its own.
pub fn in_new_netns<T: Send>(work: impl FnOnce() -> T + Send) -> T {
    let inside = || {
        unshare(CloneFlags::CLONE_NEWNET).unwrap();
        work()
    };
    let outcome = thread::scope(|scope| scope.spawn(inside).join());
    outcome.unwrap_or_else(|payload| panic::resume_unwind(payload))
}

/// A network namespace, and a path to it: the file descriptor that keeps it.
pub struct Netns {
    file: File,
}

impl Netns {
    pub fn new() -> Self {
        Self { file: in_new_netns(|| File::open("/proc/thread-self/ns/net").unwrap()) }
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/fd/{}", process::id(), self.file.as_raw_fd()).into()
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        loader::device::Netns::open(&self.path()).unwrap().unwrap().run(work).unwrap()
    }
}
