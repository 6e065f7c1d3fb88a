//! The loop: bring the node to the desired state, and again when the file changes.
//!
//! One thread that waits with `poll`: no async runtime, so that entering a network namespace can't surprise another task.

use std::path::PathBuf;

use crate::paths::NodePaths;

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

/// Runs the loader until it is told to stop.
pub fn run(options: &RunOptions) -> anyhow::Result<()> {
    anyhow::bail!("`run` with {} is not there yet", options.config.display())
}

/// Takes the node's dataplane away: links, programs, maps, devices, runtime state.
pub fn cleanup(paths: &NodePaths) -> anyhow::Result<()> {
    anyhow::bail!("`cleanup` of {} is not there yet", paths.node())
}
