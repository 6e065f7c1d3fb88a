//! Where a node's pins and runtime state are: one place for every path.

use std::path::{Path, PathBuf};

/// Where a BPF file system usually is.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Under which the nodes have their runtime state.
pub const RUN: &str = "/run/podlane";
/// Directory of all nodes' pins in a BPF file system.
const PINS: &str = "podlane";

/// The paths of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePaths {
    node: String,
    pins: PathBuf,
    run: PathBuf,
}

impl NodePaths {
    /// Of the node `node`, whose pins are in the BPF file system at `bpffs`.
    #[must_use]
    pub fn new(bpffs: &Path, node: &str) -> Self {
        Self { node: node.to_owned(), pins: bpffs.join(PINS).join(node), run: Path::new(RUN).join(node) }
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// Everything that the node has pinned.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Pinned maps; may be a symbolic name of the current generation.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.pins.join("maps")
    }

    /// One pinned map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Pinned programs.
    #[must_use]
    pub fn programs(&self) -> PathBuf {
        self.pins.join("progs")
    }

    /// One pinned program.
    #[must_use]
    pub fn program(&self, name: &str) -> PathBuf {
        self.programs().join(name)
    }

    /// Pinned links.
    #[must_use]
    pub fn links(&self) -> PathBuf {
        self.pins.join("links")
    }

    /// The pinned link of a program on a device.
    #[must_use]
    pub fn link(&self, program: &str, ifindex: u32) -> PathBuf {
        self.links().join(format!("{program}_{ifindex}"))
    }

    /// Everything of the node outside the BPF file system.
    #[must_use]
    pub fn run(&self) -> &Path {
        &self.run
    }

    /// Lock held by the running loader, which has its pid in it.
    #[must_use]
    pub fn lock(&self) -> PathBuf {
        self.run.join("lock")
    }

    /// The [`State`](crate::state::State).
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.run.join("state.json")
    }
}
