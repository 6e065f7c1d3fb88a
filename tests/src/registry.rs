//! What a test process has made and has to take away again, on disk: a process that is killed can't run its `Drop`s.
//!
//! Every process of the testbed has a directory `/run/podlane-testbed/<pid>`, with one empty file per namespace, child
//! process and node that it has made. [`clean`] removes what dead processes have left, by those files.

use std::{
    fs, io,
    path::{Path, PathBuf},
    process,
    sync::{Mutex, MutexGuard, OnceLock, PoisonError},
};

use anyhow::{Context as _, Result};
use nix::{
    sys::signal::{Signal, kill},
    unistd::Pid,
};

use crate::command;

const ROOT: &str = "/run/podlane-testbed";
const SCRATCH_ROOT: &str = "/run/podlane-testbed-scratch";
/// Where a node keeps things outside its namespace, in a directory of its name each.
const NODE_ROOTS: [&str; 2] = ["/sys/fs/bpf/podlane", "/run/podlane"];
/// A process that leaves its namespaces up on purpose (`demo --keep`) says so by this file.
const KEEP: &str = "keep";
const START_TIME: &str = "start-time";

/// What kind of thing an [`Entry`] stands for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    /// A named network namespace.
    Netns,
    /// A child process, by id.
    Process,
    /// A Podlane node, by name: it has pins and runtime state.
    Node,
    /// A directory with configuration files and logs, by name.
    Scratch,
}

impl Kind {
    /// In the order in which to take things down: loaders first, the namespaces under them last.
    const ALL: [Self; 4] = [Self::Process, Self::Node, Self::Netns, Self::Scratch];

    const fn directory(self) -> &'static str {
        match self {
            Self::Netns => "netns",
            Self::Process => "process",
            Self::Node => "node",
            Self::Scratch => "scratch",
        }
    }
}

/// One thing that exists; dropping it says that it is gone.
#[derive(Debug)]
pub struct Entry(Option<PathBuf>);

impl Entry {
    /// Records that this process has made `name`. Call it before making the thing.
    pub fn new(kind: Kind, name: &str) -> Result<Self> {
        let _alone = one_thread_at_a_time();
        let directory = own_directory()?.join(kind.directory());
        make_directory(&directory)?;
        let path = directory.join(name);
        fs::write(&path, "").with_context(|| format!("write {}", path.display()))?;
        Ok(Self(Some(path)))
    }

    /// For what somebody else has on record.
    #[must_use]
    pub const fn none() -> Self {
        Self(None)
    }

    /// Leaves the thing on record although this process lets go of it.
    pub fn keep(&mut self) {
        self.0 = None;
    }
}

impl Drop for Entry {
    fn drop(&mut self) {
        if let Some(path) = self.0.take() {
            let _alone = one_thread_at_a_time();
            let _gone = fs::remove_file(&path);
            // The last entry takes the directories with it.
            for directory in path.ancestors().skip(1).take_while(|at| at.starts_with(ROOT)) {
                let only_start_time = fs::read_dir(directory)
                    .is_ok_and(|entries| entries.flatten().all(|entry| entry.file_name() == START_TIME));
                if only_start_time {
                    let _none = fs::remove_file(directory.join(START_TIME));
                }
                if fs::remove_dir(directory).is_err() {
                    break;
                }
            }
        }
    }
}

/// Says that what this process has made is to outlive it, until `clean --all`.
pub fn keep() -> Result<()> {
    let _alone = one_thread_at_a_time();
    fs::write(own_directory()?.join(KEEP), "").context("mark the testbed as kept")
}

/// Directory for this process's configuration files and logs, made on demand.
pub fn scratch(name: &str) -> Result<(PathBuf, Entry)> {
    let entry = Entry::new(Kind::Scratch, name)?;
    let path = Path::new(SCRATCH_ROOT).join(name);
    make_directory(&path)?;
    Ok((path, entry))
}

/// Removes such a directory.
pub fn remove_scratch(name: &str) {
    remove_directory(&Path::new(SCRATCH_ROOT).join(name));
}

/// Removes what processes that are gone have left; with `all`, also what was left up on purpose. Returns what it removed.
pub fn clean(all: bool) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    let processes = match fs::read_dir(ROOT) {
        Ok(processes) => processes,
        Err(error) if error.kind() == io::ErrorKind::NotFound => return Ok(removed),
        Err(error) => return Err(error).context(format!("read {ROOT}")),
    };
    for process in processes {
        let directory = process.with_context(|| format!("read {ROOT}"))?.path();
        let kept = directory.join(KEEP).exists();
        if is_alive(&directory) || (kept && !all) {
            continue;
        }
        removed.extend(clean_directory(&directory)?);
    }
    Ok(removed)
}

/// Removes what this process has made, at once and whoever still holds it: for the last moment of a process.
pub fn clean_own() -> Result<()> {
    let _alone = one_thread_at_a_time();
    clean_directory(own_directory()?).map(drop)
}

fn clean_directory(directory: &Path) -> Result<Vec<String>> {
    let mut removed = Vec::new();
    for kind in Kind::ALL {
        for name in names(&directory.join(kind.directory())) {
            remove(kind, &name);
            removed.push(format!("{} {name}", kind.directory()));
        }
    }
    match fs::remove_dir_all(directory) {
        // Somebody else has cleaned, too.
        Err(error) if error.kind() == io::ErrorKind::NotFound => {}
        outcome => outcome.with_context(|| format!("remove {}", directory.display()))?,
    }
    let _others_are_there = fs::remove_dir(ROOT);
    Ok(removed)
}

/// Takes away all that a Podlane node has outside its namespace.
pub fn remove_node(name: &str) {
    for root in NODE_ROOTS {
        remove_directory(&Path::new(root).join(name));
    }
}

fn remove(kind: Kind, name: &str) {
    match kind {
        Kind::Netns => {
            let _gone = command::run(&["ip", "netns", "del", name]);
        }
        Kind::Process => end_loader(name),
        Kind::Node => remove_node(name),
        Kind::Scratch => remove_scratch(name),
    }
}

/// Ends a process that is recorded, if its id has not gone to some other program since.
fn end_loader(pid: &str) {
    let ours = fs::read(format!("/proc/{pid}/cmdline"))
        .is_ok_and(|line| String::from_utf8_lossy(&line).contains("podlane-testbed-scratch"));
    if let (true, Ok(pid)) = (ours, pid.parse()) {
        let _gone = kill(Pid::from_raw(pid), Signal::SIGKILL);
    }
}

fn own_directory() -> Result<&'static Path> {
    static DIRECTORY: OnceLock<PathBuf> = OnceLock::new();
    let directory = DIRECTORY.get_or_init(|| Path::new(ROOT).join(process::id().to_string()));
    if !directory.join(START_TIME).exists() {
        make_directory(directory)?;
        let started = start_time(&process::id().to_string()).unwrap_or_default();
        fs::write(directory.join(START_TIME), started).context("write the start time")?;
    }
    Ok(directory)
}

/// An entry makes directories and then a file in them, and the last one takes them away.
fn one_thread_at_a_time() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(PoisonError::into_inner)
}

/// With its parents, which another process may remove as long as they are empty.
fn make_directory(path: &Path) -> Result<()> {
    loop {
        match fs::create_dir_all(path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => {}
            made => return made.with_context(|| format!("create {} (are you root?)", path.display())),
        }
    }
}

/// With what is in it, and its parent if nothing else is there.
fn remove_directory(path: &Path) {
    let _gone = fs::remove_dir_all(path);
    if let Some(parent) = path.parent() {
        let _others_are_there = fs::remove_dir(parent);
    }
}

fn is_alive(directory: &Path) -> bool {
    let pid = directory.file_name().unwrap_or_default().to_string_lossy().into_owned();
    let recorded = fs::read_to_string(directory.join(START_TIME)).unwrap_or_default();
    // A process that has no start time on record yet is about to write it.
    start_time(&pid).is_some_and(|started| started == recorded || recorded.is_empty())
}

/// When a process was started, in clock ticks since boot: tells it from a later one with the same id.
fn start_time(pid: &str) -> Option<String> {
    let stat = fs::read_to_string(format!("/proc/{pid}/stat")).ok()?;
    // The second field, the name, may contain anything; the fields after it begin behind its closing bracket.
    let (_, fields) = stat.rsplit_once(')')?;
    fields.split_whitespace().nth(19).map(str::to_owned)
}

fn names(directory: &Path) -> Vec<String> {
    let entries = fs::read_dir(directory).into_iter().flatten().flatten();
    entries.map(|entry| entry.file_name().to_string_lossy().into_owned()).collect()
}
