//! The least that programs of this design can do: two nodes whose programs know one pod each and decide nothing.
//!
//! On one node a packet is redirected into the other pod. Between nodes it gets 50 bytes of room, a header that is ready but for its
//! lengths, and is redirected to the uplink; at the other end the 50 bytes are taken off and the rest is redirected into the pod.
//! No table, no check, no count, no TTL, no path MTU, no hash over flows. What Podlane is slower than this is what its work costs;
//! what this is slower than a bare wire, no program in this place can save.

mod program;

use anyhow::{Context as _, Result};

use self::program::{decapsulate, encapsulate, redirect};
use super::topology::{ENCAPSULATION, MTU, Underlay, pod};
use crate::{
    address::show_mac,
    foreign::Foreign,
    frame::Ip,
    netns::Netns,
    pod::{DEVICE, Pod},
    spec::Family,
    traffic, wire,
};

const UPLINK: &str = "eth0";

/// Both nodes, with their programs attached.
#[derive(Debug)]
pub struct Bare {
    /// Two pods of the first node.
    pub same_node: [Pod; 2],
    /// A pod of each node.
    pub other_node: [Pod; 2],
    _nodes: [Netns; 2],
    _programs: Vec<Foreign>,
}

impl Bare {
    /// Makes the namespaces and attaches the programs, which takes TCX.
    pub fn build() -> Result<Self> {
        let Underlay { specs, netns: nodes, .. } = Underlay::new("bare", Family::V4)?;
        let near = &nodes[0];
        let pod_of = |node: usize, number| pod(&specs[node], "bare", number);
        let same_node = [pod_of(0, 0)?, pod_of(0, 1)?];
        let other_node = [pod_of(0, 2)?, pod_of(1, 0)?];
        let [left, right] = &same_node;
        let (to_left, to_right) = (join(near, "left", left, right)?, join(near, "right", right, left)?);
        let mut programs = vec![
            Foreign::attach_made(near, "left", &redirect(to_right)?)?,
            Foreign::attach_made(near, "right", &redirect(to_left)?)?,
        ];
        for (own, other) in [(0, 1), (1, 0)] {
            let [node, peer] = [own, other].map(|number: usize| &nodes[number]);
            let device = join(node, "pod", &other_node[own], &other_node[other])?;
            let underlay = |number: usize| specs[number].underlay.first().context("no underlay address");
            let ip = Ip::new(underlay(own)?.addr(), underlay(other)?.addr());
            let out = encapsulate([node.mac(UPLINK)?, peer.mac(UPLINK)?], &ip, node.ifindex(UPLINK)?)?;
            programs.push(Foreign::attach_made(node, "pod", &out)?);
            programs.push(Foreign::attach_made(node, UPLINK, &decapsulate(device)?)?);
        }
        for [from, to] in [&same_node, &other_node] {
            to.ips().into_iter().try_for_each(|address| traffic::ping(&from.netns, address).map(drop))?;
        }
        Ok(Self { same_node, other_node, _nodes: nodes, _programs: programs })
    }
}

/// Joins a pod to its node, and tells it the way to one other pod; index of the node's device.
fn join(node: &Netns, device: &str, pod: &Pod, other: &Pod) -> Result<u32> {
    wire::wire((&pod.netns, DEVICE), (node, device), MTU - ENCAPSULATION)?;
    // Nobody answers for the neighbour.
    let mac = show_mac(node.mac(device)?);
    for own in &pod.addresses {
        wire::add_address(&pod.netns, DEVICE, own.addr().into())?;
    }
    for address in other.ips() {
        pod.netns.ip(&format!("route add {address} dev {DEVICE}"))?;
        pod.netns.ip(&format!("neigh add {address} lladdr {mac} dev {DEVICE} nud permanent"))?;
    }
    node.ifindex(device)
}
