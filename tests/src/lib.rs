//! Clusters out of network namespaces, on one machine, with real packets: nodes that Podlane serves and nodes that the
//! kernel serves as flannel sets it up, pods on each, switches and routers between them; captures, raw frames and
//! checked traffic. The end-to-end suites, the benches and the demo are built from it.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use testbed::{cluster, traffic};
//!
//! let cluster = cluster::two_nodes().start()?;
//! let (here, there) = (&cluster.podlane[0].pods[0], &cluster.podlane[1].pods[0]);
//! traffic::ping(&here.netns, there.v4()?)?;
//! # Ok(())
//! # }
//! ```
//!
//! It needs root, and the tools `ip`, `bridge`, `ethtool` and `ping`. All that it makes goes when its value is dropped;
//! what a killed process leaves is recorded under `/run/podlane-testbed` and removed by `podlane-testbed clean`, which
//! every suite calls first (see [`setup`]).

pub mod address;
pub mod again;
pub mod assembly;
pub mod bed;
pub mod bench;
pub mod bpf;
pub mod bpf_map;
pub mod capture;
pub mod cluster;
pub mod command;
pub mod config;
pub mod connections;
pub mod counters;
pub mod demo;
pub mod flows;
pub mod foreign;
pub mod frame;
pub mod kernel_node;
pub mod loader;
pub mod netns;
pub mod outside;
pub mod packet;
pub mod pod;
pub mod podlane_node;
pub mod progrun;
pub mod registry;
pub mod setup;
pub mod sockopt;
pub mod spec;
pub mod traffic;
pub mod verifier;
pub mod wait;
pub mod wire;
