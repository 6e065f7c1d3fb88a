//! The BPF programs run one packet at a time (`BPF_PROG_TEST_RUN`) on a node with pods and peers, and compared with what the
//! same decisions come to in memory.
//!
//! ```no_run
//! # fn main() -> anyhow::Result<()> {
//! use testbed::{frame, progrun::{self, Family}};
//!
//! progrun::on_node(|node| {
//!     let [here, there] = node.pods();
//!     let packet = frame::Ip::new(here.address(Family::V4), there.address(Family::V4)).udp((1, 2), b"hello");
//!     let outcome = node.from_pod(here, &here.sends(&packet))?;
//!     assert_eq!(outcome.reason, common::counters::Reason::ToPod);
//!     Ok(())
//! })
//! # }
//! ```
//!
//! Every run is differential: the verdict, the bytes, what is counted and for whom have to be the same in the kernel and
//! in [`common::memory::Memory`] with the same tables; a difference is an error that shows both.

mod devices;
mod kept;
mod maps;
mod model;
mod plan;
mod program;
mod rig;
mod seen;
mod services;
mod tables;
mod totals;

pub use self::{
    plan::{
        Family, GATEWAY_MTU, NODE_MAC, PEERS, PORT, Peer, Pod, UPLINK_MAC, VNI, excluded, mac_of, outside,
        peer, underlay,
    },
    program::{object, runs, small},
    rig::{Input, Outcome, Rig, on_node, on_node_serving, on_node_timed, on_node_with},
    seen::Seen,
    services::Exposure,
    tables::{Room, any_node as node, way_to},
};
