//! What a packet of a service costs at XDP when it is one of many flows.
//!
//! As "XDP, warm" of [`arrivals`](super::arrivals), with a source port that is drawn by lot for each packet: no packet finds what the
//! one before has left in the caches. A flow has to have some packets before it is remembered, and is for a moment only: so
//! there is a run before the one that counts.

use anyhow::{Context as _, Result};
use common::maps::capacity;
use serde::Serialize;

use super::arrivals::{ACK, TCP, on_wire};
use crate::{
    again::{Again, Flows},
    frame::Ip,
    progrun::{self, Exposure, Family, Pod, Rig, Room, object, outside, underlay},
};

/// How many flows: up to as many as there are ports.
pub const NUMBERS: [u32; 4] = [1, 1 << 10, 1 << 13, 1 << 16];
/// Those of a quick run.
pub const FEW: [u32; 2] = [1, 1 << 10];
/// Runs before those that count, for each flow: enough for it to be remembered.
const BEFORE: u32 = 30;
/// Runs for one figure, for each flow.
const RUNS: u32 = 40;
/// Runs for one figure, however few flows there are.
const LEAST: u32 = 500_000;
/// The service's node port.
const NODE_PORT: u16 = 30081;

/// What a packet takes of so many flows.
#[derive(Clone, Debug, Serialize)]
pub struct ManyFlows {
    /// How many.
    pub flows: u32,
    /// Nanoseconds in each round, less the way to the program, with `maps.flows` as it is by default.
    pub default: Vec<f64>,
    /// With twice as many places as there are flows.
    pub room: Vec<f64>,
}

/// Measures.
pub fn run(numbers: &[u32], rounds: usize) -> Result<Vec<ManyFlows>> {
    let new = |flows: &u32| ManyFlows { flows: *flows, default: Vec::new(), room: Vec::new() };
    let mut figures: Vec<_> = numbers.iter().map(new).collect();
    for _ in 0..rounds {
        for figure in &mut figures {
            let flows = figure.flows;
            let take = |places| {
                let room = Room { flows: places, connections: 4 * flows.max(1 << 10) };
                progrun::on_node_timed(&object("podlane.o")?, room, services, |node| nanoseconds(node, flows))
                    .with_context(|| format!("{flows} flows"))
            };
            figure.default.push(take(capacity::FLOWS)?);
            figure.room.push(take(capacity::FLOWS.max(2 * flows))?);
        }
    }
    Ok(figures)
}

fn nanoseconds(node: &mut Rig, number: u32) -> Result<f64> {
    let call = Ip::new(outside(Family::V4), underlay(Family::V4, 20));
    let frame = on_wire(&call.tcp((4000, NODE_PORT), ACK));
    let flows = if number == 1 { Flows::One } else { Flows::Many(number) };
    let ours = node.again(&frame, flows)?;
    ours.run((BEFORE * number).max(LEAST))?;
    let runs = (RUNS * number).max(LEAST);
    let ours = ours.run(runs)?;
    Ok(ours - Again::of_nothing(node.uplink(), &frame, flows)?.run(runs)?)
}

fn services(_: [Pod; 2]) -> Vec<Exposure> {
    let remote = [(Family::V4.pod(1, 10), 8080, 0)];
    vec![Exposure::node_port(underlay(Family::V4, 20), NODE_PORT, TCP, &remote)]
}
