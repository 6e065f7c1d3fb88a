//! The verbs about a node that is there: `status`, `counters`, `pods`, `peers`, `cleanup`.

use std::path::PathBuf;

use clap::Args;

use super::output::{OutputArgs, print};
use crate::{
    inspect::{self, SelectError},
    paths::{BPFFS, NodePaths},
    privilege::{self, Capability},
    report::{CountersReport, PeersReport, PodsReport, StatusReport},
    run,
};

const STATUS_EXAMPLES: &str = "\
Works while no loader runs, too: what forwards is in the kernel.

Examples:
  sudo loader status
  sudo loader status --node worker-0 -o json | jq .loader.running";

const COUNTERS_EXAMPLES: &str = "\
At each hook, received = forwarded + passed + dropped, each packet under one reason. Packets that Podlane \
makes, such as ICMP errors, are 'generated', on top of those that they answer.

Examples:
  sudo loader counters
  sudo loader counters --all
  sudo loader counters -o json | jq '.counters[] | select(.outcome == \"dropped\" and .packets > 0)'";

const PODS_EXAMPLES: &str = "\
RX is what the pod receives, TX what it sends.

Examples:
  sudo loader pods
  sudo loader pods -o json | jq -r '.pods[] | [.name, .device] | @tsv'";

const PEERS_EXAMPLES: &str = "\
RX is what comes from the peer, TX what goes to it, without the tunnel's headers.

Examples:
  sudo loader peers
  sudo loader peers -o json | jq '.peers[] | select(.route == \"direct\")'";

const CLEANUP_EXAMPLES: &str = "\
Takes away what `loader run` has made and left: links, programs, maps, veth pairs, the gateway device, \
runtime state. Pods lose their network. Stop the loader first. A node in a network namespace of its own is cleaned up from there.

Examples:
  sudo loader cleanup
  sudo nsenter --net=/run/netns/worker-0 loader cleanup --node worker-0";

/// Which node.
#[derive(Clone, Debug, Args)]
pub(super) struct NodeArgs {
    /// The node; the only one of this machine if left out
    #[arg(short, long, value_name = "NAME")]
    node: Option<String>,
    /// Where the BPF file system is
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    bpffs: PathBuf,
}

impl NodeArgs {
    fn select(&self) -> Result<NodePaths, SelectError> {
        inspect::select(&self.bpffs, self.node.as_deref())
    }

    pub(super) fn readable(&self, verb: &'static str) -> anyhow::Result<NodePaths> {
        privilege::require(verb, Capability::READ)?;
        Ok(self.select()?)
    }
}

/// Print what the node is, what is attached where, and how full the maps are
#[derive(Clone, Debug, Args)]
#[command(after_help = STATUS_EXAMPLES)]
pub(super) struct StatusArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl StatusArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let report = inspect::status(&self.node.readable("status")?)?;
        self.output.print(&report, StatusReport::table)
    }
}

/// Print what became of the packets, by hook and reason
#[derive(Clone, Debug, Args)]
#[command(after_help = COUNTERS_EXAMPLES)]
pub(super) struct CountersArgs {
    #[command(flatten)]
    node: NodeArgs,
    /// Also the reasons that have not occurred (JSON always has them)
    #[arg(short, long)]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
}

impl CountersArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let report = inspect::counters(&self.node.readable("counters")?)?;
        self.output.print(&report, |report: &CountersReport| report.table(self.all))
    }
}

/// Print the node's pods, their devices and their traffic
#[derive(Clone, Debug, Args)]
#[command(after_help = PODS_EXAMPLES)]
pub(super) struct PodsArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl PodsArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let report = inspect::pods(&self.node.readable("pods")?)?;
        self.output.print(&report, PodsReport::table)
    }
}

/// Print the node's peers, how they are reached, and the traffic with them
#[derive(Clone, Debug, Args)]
#[command(after_help = PEERS_EXAMPLES)]
pub(super) struct PeersArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl PeersArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let report = inspect::peers(&self.node.readable("peers")?)?;
        self.output.print(&report, PeersReport::table)
    }
}

/// Take the node's dataplane away
#[derive(Clone, Debug, Args)]
#[command(after_help = CLEANUP_EXAMPLES)]
pub(super) struct CleanupArgs {
    #[command(flatten)]
    node: NodeArgs,
}

impl CleanupArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        privilege::require("cleanup", Capability::ALL)?;
        let paths = match (self.node.select(), self.node.node) {
            (Ok(paths), _) => paths,
            // Devices may be left where pins and state are gone.
            (Err(SelectError::None { .. } | SelectError::Other { .. }), Some(node)) => {
                NodePaths::new(&self.node.bpffs, &node)
            }
            (Err(SelectError::None { .. }), None) => return print("nothing to clean up: no node is here\n"),
            (Err(error), _) => return Err(error.into()),
        };
        run::cleanup(&paths)
    }
}
