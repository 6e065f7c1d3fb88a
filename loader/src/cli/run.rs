//! `loader run`.

use std::path::PathBuf;

use clap::Args;

use crate::{
    paths::BPFFS,
    privilege::{self, Capability},
    run::{self, RunOptions},
};

const EXAMPLES: &str = "\
The file is read again on SIGHUP and when it changes; one with errors is refused whole, and the node stays as it is. \
The programs, their links and maps are pinned and go on forwarding when the loader ends, however it ends; `loader \
cleanup` takes them away.

PODLANE_LOG sets what is logged: error, warn, info (the default), debug, trace; or by module, as in \
`PODLANE_LOG=info,loader::bpf=debug`.

Examples:
  sudo loader run --config examples/single-node.toml
  sudo nsenter --net=/run/netns/worker-0 loader run --config worker-0.toml
  sudo loader run --config node.toml --object target/ebpf/podlane-trace.o";

/// Bring the node to what the configuration asks for, and keep it there
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct RunArgs {
    /// The configuration file
    #[arg(short, long, value_name = "FILE")]
    config: PathBuf,
    /// Load this BPF object instead of the one that the binary carries
    #[arg(long, value_name = "FILE")]
    object: Option<PathBuf>,
    /// Where the BPF file system is
    #[arg(long, value_name = "DIR", default_value = BPFFS)]
    bpffs: PathBuf,
}

impl RunArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let Self { config, object, bpffs } = self;
        privilege::require("run", Capability::ALL)?;
        run::run(&RunOptions { config, object, bpffs })
    }
}
