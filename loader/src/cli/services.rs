//! `loader services`.

use clap::Args;

use super::{node::NodeArgs, output::OutputArgs};
use crate::{inspect, report::ServicesReport};

const EXAMPLES: &str = "\
First where services are called, then who answers. CONNECTIONS are those that there are; packets and bytes are \
those of all connections that the backend has had, in both directions.

Examples:
  sudo loader services
  sudo loader services kube-dns
  sudo loader services -o json | jq '.services[] | select(.backends == [])'";

/// Print the services, their frontends and their backends
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ServicesArgs {
    /// Only services with this in their name
    #[arg(value_name = "NAME")]
    name: Option<String>,
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    output: OutputArgs,
}

impl ServicesArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        let report = inspect::services(&self.node.readable("services")?, self.name.as_deref())?;
        self.output.print(&report, ServicesReport::table)
    }
}
