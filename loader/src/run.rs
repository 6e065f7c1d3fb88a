//! The loop: bring the node to the desired state, and again when the file changes.
//!
//! One thread that waits with `poll`: no async runtime, so that nothing else runs while a namespace is entered.
//!
//! | module | what it holds |
//! |---|---|
//! | `reconcile` | from the desired state to devices, maps and programs: all of it, in order, idempotent |
//! | `daemon` | the loop: reload, resync, record |
//! | `source` | the file, and what it asked for when it was read |
//! | `events` | what wakes the loop: signals, the file, links, mounts |
//! | `pace` | how soon news is acted on |
//! | `health` | answers to load balancers about local endpoints |
//! | `cleanup` | takes everything away |
//! | `lock`, `notify` | one loader per node; the service manager told |
//! | `descriptors` | as many open files as may be |

mod cleanup;
mod daemon;
mod descriptors;
mod events;
mod health;
mod lock;
mod notify;
mod pace;
mod reconcile;
mod source;
mod watch;

use std::path::PathBuf;

pub use self::{
    cleanup::cleanup,
    lock::{LockError, NodeLock},
};
use self::{daemon::Daemon, events::Events, reconcile::Reconciler, source::Source};
use crate::{bpf, causes::one_line, config::ConfigError, paths::NodePaths};

/// What `loader run` was asked for.
#[derive(Clone, Debug)]
pub struct RunOptions {
    /// Configuration file.
    pub config: PathBuf,
    /// BPF object to load instead of the one that the binary carries.
    pub object: Option<PathBuf>,
    /// Where the BPF file system is.
    pub bpffs: PathBuf,
}

/// Brings the node to the state that the configuration asks for and keeps it there until told to stop; the dataplane stays
/// when the loader goes.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    run_until_told(options).map_err(plain)
}

/// As one line, except for errors of the configuration, which have lines of their own.
fn plain(error: anyhow::Error) -> anyhow::Error {
    if error.is::<ConfigError>() { error } else { anyhow::Error::msg(one_line(error.as_ref())) }
}

fn run_until_told(options: &RunOptions) -> anyhow::Result<()> {
    // Errors of the file come first; then what is loaded is what is watched. A large file is read once, as a rule.
    let first = Source::read(&options.config)?;
    let events = Events::open(&options.config)?;
    let source = first.newer()?.unwrap_or(first);
    let paths = NodePaths::new(&options.bpffs, &source.desired.node.name);
    bpf::check_environment(&options.bpffs)?;
    let lock = NodeLock::take(&paths)?;
    descriptors::allow_all();
    let reconciler = Reconciler::new(paths.clone(), options.object.as_deref())?;
    let mut daemon = Daemon::new(source, paths, reconciler);
    daemon.start()?;
    notify::ready();
    log::info!("ready");
    daemon.serve(&events)?;
    drop(lock);
    Ok(())
}
