//! What the tests that need root share: network namespaces that go with the test.

use std::{
    panic,
    path::PathBuf,
    process::{self, Command},
    sync::mpsc::{self, Sender},
    thread::{self, JoinHandle},
};

use nix::{
    sched::{CloneFlags, unshare},
    unistd::{Pid, geteuid, gettid},
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

/// Runs `ethtool` in this thread's network namespace and returns what it prints.
pub fn ethtool(arguments: &[&str]) -> String {
    let output = Command::new("ethtool").args(arguments).output().unwrap();
    assert!(output.status.success(), "ethtool {arguments:?}: {output:?}");
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// A network namespace, kept by a thread that is in it. So its path is never that of a later one: a file descriptor's would be, as the
/// next file gets its number, and a loader of another test that still waits for this namespace would find that one.
pub struct Netns {
    thread: Pid,
    keeper: Option<(Sender<()>, JoinHandle<()>)>,
}

impl Netns {
    pub fn new() -> Self {
        let (tell, told) = mpsc::channel();
        let (end, ended) = mpsc::channel();
        let keeper = thread::spawn(move || {
            unshare(CloneFlags::CLONE_NEWNET).unwrap();
            tell.send(gettid()).unwrap();
            // Nothing is ever sent: it ends as the other side is dropped.
            let _over = ended.recv();
        });
        Self { thread: told.recv().unwrap(), keeper: Some((end, keeper)) }
    }

    pub fn path(&self) -> PathBuf {
        format!("/proc/{}/task/{}/ns/net", process::id(), self.thread).into()
    }

    pub fn run<T: Send>(&self, work: impl FnOnce() -> T + Send) -> T {
        loader::device::Netns::open(&self.path()).unwrap().unwrap().run(work).unwrap()
    }
}

impl Drop for Netns {
    fn drop(&mut self) {
        let Some((end, keeper)) = self.keeper.take() else { return };
        drop(end);
        let _ended = keeper.join();
    }
}
