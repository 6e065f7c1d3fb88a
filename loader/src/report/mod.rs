//! What the verbs print: plain structures, serialised as they are for `-o json`, and each with a `table` for a person.

mod check;
mod counters;
mod grid;
mod status;
mod time;
mod traffic;

pub use self::{
    check::CheckReport,
    counters::{CounterRow, CountersReport, HelperErrorRow, HookSum},
    status::{Attached, LoaderStatus, MapUse, NodeFacts, Pins, StatusReport},
    traffic::{PeerRow, PeersReport, PodRow, PodsReport, TrafficRow},
};
