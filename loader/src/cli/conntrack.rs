//! `loader conntrack list|flush`.

use std::net::{IpAddr, SocketAddr};

use clap::{ArgGroup, Args, Subcommand};
use ipnet::IpNet;

use super::{node::NodeArgs, output::OutputArgs};
use crate::{
    conntrack::{Filter, State},
    inspect::{self, ConnectionQuery},
    privilege::{self, Capability},
    report::{ConnectionsReport, FlushReport},
};

const EXAMPLES: &str = "\
A connection is here if its packets are translated: it calls a service, or leaves the cluster under the node's address.

Examples:
  sudo loader conntrack list --service default/web
  sudo loader conntrack list --protocol udp --state unanswered -o json
  sudo loader conntrack flush --backend 10.200.1.5";

const LIST_EXAMPLES: &str = "\
Criteria are joined by and. NEW SOURCE and NEW DESTINATION are what the packets become; '=' is what they were.

Examples:
  sudo loader conntrack list
  sudo loader conntrack list --source 10.200.0.0/24 --port 53
  sudo loader conntrack list -o json | jq '.connections | length'";

const FLUSH_EXAMPLES: &str = "\
The next packet of a flushed connection begins a new one, perhaps with another backend: TCP is then reset by it.

Examples:
  sudo loader conntrack flush --service default/web --protocol tcp
  sudo loader conntrack flush --all";

/// The criteria by name: a group can't be part of another.
const CRITERIA: [&str; 7] = ["source", "destination", "port", "protocol", "service", "backend", "state"];

/// Print or forget connections whose packets are translated
#[derive(Clone, Debug, Args)]
#[command(after_help = EXAMPLES)]
pub(super) struct ConntrackArgs {
    #[command(subcommand)]
    verb: Verb,
}

#[derive(Clone, Debug, Subcommand)]
enum Verb {
    List(ListArgs),
    Flush(FlushArgs),
}

/// Print connections
#[derive(Clone, Debug, Args)]
#[command(after_help = LIST_EXAMPLES)]
struct ListArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    filter: FilterArgs,
    #[command(flatten)]
    output: OutputArgs,
}

/// Forget connections
#[derive(Clone, Debug, Args)]
#[command(
    after_help = FLUSH_EXAMPLES,
    group = ArgGroup::new("which").args(CRITERIA).arg("all").multiple(true).required(true)
)]
struct FlushArgs {
    #[command(flatten)]
    node: NodeArgs,
    #[command(flatten)]
    filter: FilterArgs,
    /// All of them
    #[arg(short, long, conflicts_with = "criteria")]
    all: bool,
    #[command(flatten)]
    output: OutputArgs,
}

#[derive(Clone, Debug, Args)]
#[group(id = "criteria", multiple = true)]
struct FilterArgs {
    /// Source address or prefix, as whoever began it has it
    #[arg(short, long, value_name = "PREFIX", value_parser = prefix)]
    source: Option<IpNet>,
    /// Destination address or prefix, as it was called
    #[arg(short, long, value_name = "PREFIX", value_parser = prefix)]
    destination: Option<IpNet>,
    /// Destination port, as it was called or translated
    #[arg(short, long)]
    port: Option<u16>,
    /// tcp, udp, sctp, icmp, icmpv6 or a number
    #[arg(long, value_parser = protocol)]
    protocol: Option<u8>,
    /// Name of the service that was called, perhaps with `:port`
    #[arg(long, value_name = "NAME[:PORT]")]
    service: Option<String>,
    /// Address of the backend, perhaps with `:port`
    #[arg(long, value_name = "ADDRESS[:PORT]", value_parser = backend)]
    backend: Option<(IpAddr, Option<u16>)>,
    /// How far it has got
    #[arg(long, value_enum)]
    state: Option<State>,
}

impl ConntrackArgs {
    pub(super) fn run(self) -> anyhow::Result<()> {
        match self.verb {
            Verb::List(ListArgs { node, filter, output }) => {
                let report = inspect::connections(&node.readable("conntrack list")?, filter.query())?;
                output.print(&report, ConnectionsReport::table)
            }
            // One of the two is given: clap sees to that.
            Verb::Flush(FlushArgs { node, filter, all, output }) => {
                let query = if all { ConnectionQuery::default() } else { filter.query() };
                privilege::require("conntrack flush", Capability::ALL)?;
                let report = inspect::flush(&node.readable("conntrack flush")?, query)?;
                output.print(&report, FlushReport::table)
            }
        }
    }
}

impl FilterArgs {
    fn query(self) -> ConnectionQuery {
        let Self { source, destination, port, protocol, service, backend, state } = self;
        let filter = Filter { source, destination, port, protocol, services: None, backend, state };
        ConnectionQuery { filter, service }
    }
}

fn prefix(text: &str) -> Result<IpNet, String> {
    let address = text.parse::<IpAddr>().map(IpNet::from);
    address.or_else(|_| text.parse()).map_err(|_| "neither an IP address nor a prefix".to_owned())
}

fn backend(text: &str) -> Result<(IpAddr, Option<u16>), String> {
    let with_port = || text.parse::<SocketAddr>().map(|address| (address.ip(), Some(address.port())));
    let alone = text.parse::<IpAddr>().map(|address| (address, None));
    alone
        .or_else(|_| with_port())
        .map_err(|_| "not an address such as 10.0.0.1, 10.0.0.1:80 or [fd00::1]:80".to_owned())
}

fn protocol(text: &str) -> Result<u8, String> {
    match text.to_ascii_lowercase().as_str() {
        "tcp" => Ok(6),
        "udp" => Ok(17),
        "sctp" => Ok(132),
        "icmp" => Ok(1),
        "icmpv6" => Ok(58),
        number => number.parse().map_err(|_| "neither tcp, udp, sctp, icmp, icmpv6 nor a number".to_owned()),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn addresses_with_and_without() {
        assert_eq!(prefix("10.0.0.1"), Ok("10.0.0.1/32".parse().unwrap()));
        assert_eq!(prefix("fd00::/8"), Ok("fd00::/8".parse().unwrap()));
        assert!(prefix("web").is_err());
        assert_eq!(backend("fd00::1"), Ok(("fd00::1".parse().unwrap(), None)));
        assert_eq!(backend("[fd00::1]:80"), Ok(("fd00::1".parse().unwrap(), Some(80))));
        assert!(backend("10.0.0.1:").is_err());
        assert_eq!((protocol("TCP"), protocol("47")), (Ok(6), Ok(47)));
    }
}
