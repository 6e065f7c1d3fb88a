//! Where a node's pins and runtime state are: one place for every path.

use std::path::{Path, PathBuf};

/// Where a BPF file system usually is.
pub const BPFFS: &str = "/sys/fs/bpf";
/// Under which the nodes have their runtime state.
pub const RUN: &str = "/run/podlane";
/// Stands for a dot in the name of a node: a BPF file system takes no names with one, and no node's name has a colon.
const DOT: &str = ":";

/// Directory of all nodes' pins in the BPF file system at `bpffs`.
#[must_use]
pub fn all_pins(bpffs: &Path) -> PathBuf {
    bpffs.join("podlane")
}

/// Name of the node that has its pins in a directory of this name.
#[must_use]
pub fn node_of_pins(directory: &str) -> String {
    directory.replace(DOT, ".")
}

/// The paths of one node.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NodePaths {
    node: String,
    bpffs: PathBuf,
    pins: PathBuf,
    run: PathBuf,
}

impl NodePaths {
    /// Of the node `node`, whose pins are in the BPF file system at `bpffs`.
    #[must_use]
    pub fn new(bpffs: &Path, node: &str) -> Self {
        let pins = all_pins(bpffs).join(node.replace('.', DOT));
        Self { node: node.to_owned(), bpffs: bpffs.to_owned(), pins, run: Path::new(RUN).join(node) }
    }

    /// Name of the node.
    #[must_use]
    pub fn node(&self) -> &str {
        &self.node
    }

    /// The BPF file system that it is in.
    #[must_use]
    pub fn bpffs(&self) -> &Path {
        &self.bpffs
    }

    /// Everything that the node has pinned.
    #[must_use]
    pub fn pins(&self) -> &Path {
        &self.pins
    }

    /// Pinned maps.
    #[must_use]
    pub fn maps(&self) -> PathBuf {
        self.pins.join("maps")
    }

    /// One pinned map.
    #[must_use]
    pub fn map(&self, name: &str) -> PathBuf {
        self.maps().join(name)
    }

    /// Says which revisions the pinned maps are of.
    #[must_use]
    pub fn revisions(&self) -> PathBuf {
        self.pins.join("revisions")
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

    /// Says that the loopback device's `accept_local` was turned on by a loader.
    #[must_use]
    pub fn accept_local(&self) -> PathBuf {
        self.run.join("accept_local")
    }

    /// The services by number, see [`ServicesState`](crate::state::ServicesState).
    #[must_use]
    pub fn services(&self) -> PathBuf {
        self.run.join("services.json")
    }

    /// What connections that are forgotten have counted, see [`CollectorState`](crate::state::CollectorState).
    #[must_use]
    pub fn collector(&self) -> PathBuf {
        self.run.join("conntrack.json")
    }

    /// The [`State`](crate::state::State).
    #[must_use]
    pub fn state(&self) -> PathBuf {
        self.run.join("state.json")
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn pins_have_no_dots() {
        let paths = NodePaths::new(Path::new(BPFFS), "worker-0.example.org");
        assert_eq!(paths.pins(), Path::new("/sys/fs/bpf/podlane/worker-0:example:org"));
        assert_eq!(paths.link("from_pod", 7), paths.pins().join("links/from_pod_7"));
        assert_eq!(paths.state(), Path::new("/run/podlane/worker-0.example.org/state.json"));
        assert_eq!(node_of_pins("worker-0:example:org"), paths.node());
    }
}
