//! Traffic of one kind each, and the programs that it passes.

use std::{net::IpAddr, path::PathBuf, time::Instant};

use anyhow::{Context as _, Result};

use super::{
    cores::{self, Cores},
    load::{self, Path, Sources, Window},
    topology::{self, Inner, Topologies},
};
use crate::{
    address::Mac,
    capture::Capture,
    foreign::Foreign,
    frame::{self, Ip},
    netns::Netns,
    pod::{DEVICE, Pod},
    podlane_node::PodlaneNode,
};

/// New connections in one go.
const FRESH: u16 = 10_000;

/// Whose run time is read.
#[derive(Debug)]
pub enum Program<'a> {
    /// One of Podlane's, by name and pin.
    Pinned(&'static str, PathBuf),
    /// One of two instructions.
    Empty(&'a Foreign),
}

/// Something that a program does for a packet.
#[derive(Debug)]
pub struct Task<'a> {
    /// What that is.
    pub does: &'static str,
    /// Which program.
    pub program: Program<'a>,
}

/// What is sent.
#[derive(Debug)]
pub enum Traffic<'a> {
    /// Small UDP datagrams, as many as go.
    Datagrams(Path<'a>),
    /// Single bytes back and forth on one TCP connection. The stack keeps them apart from their headers.
    RoundTrips(Path<'a>),
    /// One frame, as often as it goes, from a pod's device.
    Frames(&'a Netns, Vec<u8>),
    /// A frame of a new connection each time, from a pod's device.
    NewConnections(Fresh<'a>),
}

/// UDP datagrams, each from another port.
#[derive(Debug)]
pub struct Fresh<'a> {
    /// Who sends them.
    pub from: &'a Netns,
    /// MAC addresses of the sender's device and of its gateway.
    pub macs: (Mac, Mac),
    /// Addresses.
    pub ip: Ip,
    /// Where they go.
    pub port: u16,
}

/// Traffic, and what is done with each packet of it on its way.
#[derive(Debug)]
pub struct Flow<'a> {
    /// Family of the pods' packets.
    pub family: Inner,
    /// Among how many services, where there are any.
    pub services: Option<u16>,
    /// What is sent.
    pub traffic: Traffic<'a>,
    /// Who does what with it.
    pub tasks: Vec<Task<'a>>,
}

impl Traffic<'_> {
    /// Sends for as long as the window is.
    pub fn send(&self, window: Window, cores: Cores) -> Result<()> {
        match self {
            Self::Datagrams(path) => load::packets(*path, window, cores).map(drop),
            Self::RoundTrips(path) => load::tcp_round_trips(*path, window, cores).map(drop),
            Self::NewConnections(fresh) => fresh.send(cores),
            Self::Frames(netns, frame) => {
                let device = Capture::open(netns, DEVICE)?;
                netns.enter(|| {
                    cores::pin(cores.sender)?;
                    let begin = Instant::now();
                    while begin.elapsed() < window.length() {
                        device.inject(frame)?;
                    }
                    Ok(())
                })
            }
        }
    }
}

impl Fresh<'_> {
    /// A fixed number of them, few enough that a port rests until its connection is forgotten.
    fn send(&self, cores: Cores) -> Result<()> {
        let device = Capture::open(self.from, DEVICE)?;
        let sources = Sources::of(self.from.name());
        self.from.enter(|| {
            cores::pin(cores.sender)?;
            for _ in 0..FRESH {
                let packet = self.ip.udp((sources.next(), self.port), &[0; 64]);
                device.inject(&frame::ethernet(self.macs.0, self.macs.1, &packet))?;
            }
            Ok(())
        })
    }
}

/// All flows. `empty` is on the first pod's device, where it sees the packets that `from_pod` sees next.
pub fn all<'a>(topologies: &'a Topologies, empty: &'a Foreign) -> Result<Vec<Flow<'a>>> {
    let [node, peer] = topologies.podlane();
    let mut flows = Vec::new();
    for family in [Inner::V4, Inner::V6] {
        flows.extend(of_family(node, peer, empty, family)?);
    }
    let address = peer.spec.address();
    flows.push(Flow {
        family: Inner::V4,
        services: None,
        traffic: Traffic::Datagrams(Path::direct(&node.netns, &peer.netns, address)),
        tasks: vec![task(peer, "from_uplink", "foreign packet, left alone")],
    });
    Ok(flows)
}

fn of_family<'a>(
    node: &'a PodlaneNode,
    peer: &'a PodlaneNode,
    empty: &'a Foreign,
    family: Inner,
) -> Result<Vec<Flow<'a>>> {
    let [pod, neighbour] = node.pods.as_slice() else { anyhow::bail!("{} has not two pods", node.spec.name) };
    let far = peer.pods.first().with_context(|| format!("{} has no pod", peer.spec.name))?;
    let path = |from: &'a Netns, to: &'a Pod| -> Result<Path<'a>> {
        Ok(Path::direct(from, &to.netns, family.first_of(&to.addresses)?))
    };
    let own = family.first_of(&pod.addresses)?;
    let gateway = node.spec.gateway(own).context("no gateway")?;
    let flow = |traffic, tasks| Flow { family, services: None, traffic, tasks };
    Ok(vec![
        flow(
            Traffic::Datagrams(path(&pod.netns, neighbour)?),
            vec![
                Task { does: "nothing (the floor)", program: Program::Empty(empty) },
                task(node, "from_pod", "pod to pod, same node"),
            ],
        ),
        flow(
            Traffic::Datagrams(path(&pod.netns, far)?),
            vec![
                task(node, "from_pod", "pod to overlay peer: encapsulate"),
                task(peer, "from_uplink", "overlay peer to pod: decapsulate"),
            ],
        ),
        flow(
            Traffic::RoundTrips(path(&pod.netns, neighbour)?),
            vec![task(node, "from_pod", "pod to pod, same node; TCP")],
        ),
        flow(
            Traffic::RoundTrips(path(&pod.netns, far)?),
            vec![
                task(node, "from_pod", "pod to overlay peer: encapsulate; TCP"),
                task(peer, "from_uplink", "overlay peer to pod: decapsulate; TCP"),
            ],
        ),
        flow(
            Traffic::Datagrams(Path::direct(&pod.netns, &node.netns, gateway)),
            vec![task(node, "from_pod", "pod to its node: up the stack")],
        ),
        flow(Traffic::Datagrams(path(&node.netns, pod)?), vec![task(node, "from_host", "node to its pod")]),
        flow(
            Traffic::Datagrams(path(&node.netns, far)?),
            vec![task(node, "from_host", "node to overlay peer: encapsulate")],
        ),
        flow(
            Traffic::Frames(&pod.netns, spoofed(node, pod, own)?),
            vec![task(node, "from_pod", "spoofed source: drop")],
        ),
    ])
}

/// A task of one of Podlane's programs.
#[must_use]
pub fn task<'a>(node: &PodlaneNode, program: &'static str, does: &'static str) -> Task<'a> {
    Task { does, program: Program::Pinned(program, pin(node, program)) }
}

/// Where a program of a node is pinned.
#[must_use]
pub fn pin(node: &PodlaneNode, program: &str) -> PathBuf {
    node.pins().join("progs").join(program)
}

/// A frame to the pod's neighbour with a source address that is nobody's.
fn spoofed(node: &PodlaneNode, pod: &Pod, own: IpAddr) -> Result<Vec<u8>> {
    let neighbour = node.spec.gateway(own).context("no gateway")?;
    let packet = Ip::new(topology::nobodys(own), neighbour).udp((40_000, 40_000), &[0; 64]);
    Ok(frame::ethernet(pod.netns.mac(DEVICE)?, node.mac(), &packet))
}
