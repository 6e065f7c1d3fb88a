//! What the verbs print: plain structures, serialised as they are for `-o json`, and each with a `table` for a person.

mod check;
mod connections;
mod counters;
mod grid;
mod services;
mod status;
mod time;
mod traffic;

pub use self::{
    check::CheckReport,
    connections::{ConnectionRow, ConnectionsReport, FlushReport, TupleRow},
    counters::{CounterRow, CountersReport, HelperErrorRow, HookSum},
    services::{BackendRow, FrontendRow, ServiceRow, ServicesReport},
    status::{Attached, LoaderStatus, MapUse, NodeFacts, Pins, StatusReport, XdpStatus},
    traffic::{PeerRow, PeersReport, PodRow, PodsReport, TrafficRow},
};
