//! What a packet of the underlay costs at TC and at XDP, each the same packets.
//!
//! `BPF_PROG_TEST_RUN`, one run for each packet: a repeated run would find the packet as the one before has left it. The caches are
//! as a system call between two runs leaves them. At XDP also one run behind the other, a program in front making the packet what it
//! was ([`Again`]); less what that takes in front of one that does nothing.

use std::path::Path;

use anyhow::{Context as _, Result};
use common::{counters::Hook, maps::backend_flag};
use serde::Serialize;

use super::programs::Sample;
use crate::{
    again::{Again, Flows},
    foreign::{self, Empty},
    frame::{self, Ip},
    progrun::{
        self, Exposure, Family, Input, NODE_MAC, PORT, Peer, Pod, Rig, Room, UPLINK_MAC, VNI, mac_of, object,
        outside, peer, underlay,
    },
};

/// Runs for one figure.
const RUNS: u32 = 20_000;
/// Runs for one figure, one behind the other.
const WARM_RUNS: u32 = 500_000;
pub(super) const TCP: u8 = 6;
pub(super) const UDP: u8 = 17;
pub(super) const ACK: u8 = 0x10;

/// What one kind of packet takes.
#[derive(Clone, Debug, Default, Serialize)]
pub struct Arrival {
    /// What becomes of it.
    pub does: &'static str,
    /// Nanoseconds at TC in each round, the kernel's taking of the time included.
    pub tc: Vec<f64>,
    /// The same at XDP.
    pub xdp: Vec<f64>,
    /// At XDP, one run behind the other, less the way to the program; of the floor that way.
    pub warm: Vec<f64>,
    /// The same of the programs of another object file, if there is one.
    #[serde(skip_serializing_if = "Vec::is_empty")]
    pub before: Vec<f64>,
}

/// Measures, in turn with the programs of another object file if there is one.
pub fn run(rounds: usize, before: Option<&Path>) -> Result<Vec<Arrival>> {
    let _counting = foreign::count_runs()?;
    let empty = [Empty::new(false)?, Empty::new(true)?];
    let new = |does| Arrival { does, ..Arrival::default() };
    let mut arrivals: Vec<Arrival> = [new("nothing (the floor)")].into();
    for round in 0..rounds {
        progrun::on_node_timed(&object("podlane.o")?, Room::default(), services, |node| {
            let kinds = known(node)?;
            if round == 0 {
                arrivals.extend(kinds.iter().map(|(does, _)| new(does)));
            }
            let (floor, others) = arrivals.split_first_mut().context("a list of one at least")?;
            let (_, frame) = kinds.first().context("no packets")?;
            floor.tc.push(of_empty(&empty[0], frame)?);
            floor.xdp.push(of_empty(&empty[1], frame)?);
            floor.warm.push(Again::of_nothing(node.uplink(), frame, Flows::One)?.run(WARM_RUNS)?);
            for (arrival, (_, frame)) in others.iter_mut().zip(&kinds) {
                arrival.tc.push(at(node, Hook::FromUplink, frame)?);
                arrival.xdp.push(at(node, Hook::UplinkXdp, frame)?);
                arrival.warm.push(warm(node, frame)?);
            }
            Ok(())
        })?;
        if let Some(before) = before {
            progrun::on_node_timed(before, Room::default(), services, |node| {
                for (arrival, (does, frame)) in arrivals.iter_mut().skip(1).zip(known(node)?) {
                    arrival.before.push(warm(node, &frame).with_context(|| format!("{does}, before"))?);
                }
                Ok(())
            })?;
        }
    }
    Ok(arrivals)
}

/// The kinds of packets. What each is for is known already: a connection is made by its first packet.
fn known(node: &mut Rig) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let kinds = kinds(node)?;
    for (does, frame) in &kinds {
        node.from_uplink(frame).with_context(|| format!("try {does}"))?;
    }
    Ok(kinds)
}

/// Nanoseconds at XDP, one run behind the other, less the way to the program.
fn warm(node: &mut Rig, frame: &[u8]) -> Result<f64> {
    let nothing = Again::of_nothing(node.uplink(), frame, Flows::One)?;
    let (ours, way) = (node.again(frame, Flows::One)?.run(WARM_RUNS)?, nothing.run(WARM_RUNS)?);
    Ok(ours - way)
}

/// Nanoseconds per run of a hook's program.
fn at(node: &mut Rig, hook: Hook, frame: &[u8]) -> Result<f64> {
    let before = Sample::of(&node.info(hook)?);
    node.repeat(&Input::new(hook, node.uplink(), frame), RUNS)?;
    Ok(Sample::of(&node.info(hook)?).since(before).nanoseconds())
}

/// The same of an empty one.
fn of_empty(empty: &Empty, frame: &[u8]) -> Result<f64> {
    let before = Sample::of(&empty.info()?);
    for _ in 0..RUNS {
        empty.run(frame)?;
    }
    Ok(Sample::of(&empty.info()?).since(before).nanoseconds())
}

/// Node ports: one of a pod here, one of a pod of the peer, by TCP and UDP.
fn services([here, _]: [Pod; 2]) -> Vec<Exposure> {
    let node = underlay(Family::V4, 20);
    let local = [(here.address(Family::V4), 8080, backend_flag::LOCAL)];
    let remote = [(Family::V4.pod(1, 10), 8080, 0)];
    [TCP, UDP]
        .into_iter()
        .flat_map(|protocol| {
            [
                Exposure::node_port(node, 30080, protocol, &local),
                Exposure::node_port(node, 30081, protocol, &remote),
            ]
        })
        .collect()
}

fn kinds(node: &Rig) -> Result<Vec<(&'static str, Vec<u8>)>> {
    let [here, _] = node.pods();
    let (client, own) = (outside(Family::V4), underlay(Family::V4, 20));
    let (pod, far) = (here.address(Family::V4), Family::V4.pod(1, 10));
    let near = peer("near")?;
    let call = Ip::new(client, own);
    let answer = Ip::new(far, Family::V4.pod(0, 0));
    Ok(vec![
        ("foreign, left alone", on_wire(&call.udp((4000, 4000), b"data"))),
        (
            "tunnelled for another VTEP: drop",
            tunnelled(&near, [2; 6], &Ip::new(far, pod).udp((1, 2), b"data")),
        ),
        (
            "overlay peer to pod: decapsulate",
            tunnelled(&near, NODE_MAC, &Ip::new(far, pod).udp((1, 2), b"data")),
        ),
        ("NodePort, local backend; UDP", on_wire(&call.udp((4000, 30080), b"data"))),
        ("NodePort, local backend; TCP", on_wire(&call.tcp((4000, 30080), ACK))),
        ("NodePort, remote backend: encapsulate; UDP", on_wire(&call.udp((4000, 30081), b"data"))),
        ("NodePort, remote backend: encapsulate; TCP", on_wire(&call.tcp((4000, 30081), ACK))),
        ("its answer: decapsulate; UDP", tunnelled(&near, NODE_MAC, &answer.udp((8080, 4000), b"data"))),
        ("its answer: decapsulate; TCP", tunnelled(&near, NODE_MAC, &answer.tcp((8080, 4000), ACK))),
    ])
}

/// A frame from the router to the node.
pub(super) fn on_wire(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(mac_of(1), UPLINK_MAC, packet)
}

/// A frame in which a peer sends a packet to that VTEP.
fn tunnelled(peer: &Peer, vtep: [u8; 6], packet: &[u8]) -> Vec<u8> {
    let inner = frame::ethernet(peer.vtep_mac(), vtep, packet);
    let outer = Ip::new(peer.address(), underlay(peer.underlay, 20));
    on_wire(&outer.udp_without_checksum((40000, PORT), &frame::vxlan(VNI, &inner)))
}
