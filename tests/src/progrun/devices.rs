//! The node's devices, neighbours and routes, in a namespace of its own.

use std::{collections::HashMap, net::IpAddr, sync::OnceLock};

use anyhow::{Context as _, Result, anyhow};
use common::{
    packet::{Failed, Helper},
    tables::{Neighbour, NextHop},
    wire::Mac as MacWords,
};
use serde_json::Value;

use super::plan::{
    Family, GATEWAY_MTU, LOST, NODE_MAC, PEERS, Peer, Pod, UPLINK_MAC, excluded, far, mac_of, outside,
    underlay,
};
use crate::{
    address::{parse_mac, show_mac},
    netns::Netns,
};

/// `BPF_FIB_LKUP_RET_PROHIBIT` of linux/bpf.h: what an unroutable destination gets here.
const PROHIBITED: i32 = 3;

/// Interface indices.
#[derive(Clone, Copy, Debug)]
pub struct Devices {
    /// The gateway device.
    pub gateway: u32,
    /// The uplink.
    pub uplink: u32,
    /// The pods.
    pub pods: [Pod; 2],
}

/// Where the kernel's routing leads, by underlay address.
pub type Hops = HashMap<IpAddr, Result<NextHop, Failed>>;

/// Where all that is.
pub struct Place {
    /// The namespace.
    pub netns: Netns,
    /// What is in it.
    pub devices: Devices,
    /// Ways out of it.
    pub hops: Hops,
}

/// The place of every test of this process: a packet that is run changes none of it, and making it takes fifty commands.
pub fn place() -> Result<&'static Place> {
    static PLACE: OnceLock<Result<Place, String>> = OnceLock::new();
    let place = PLACE.get_or_init(|| make_place().map_err(|error| format!("{error:#}")));
    place.as_ref().map_err(|error| anyhow!("make the node's devices: {error}"))
}

fn make_place() -> Result<Place> {
    let netns = Netns::new("programs")?;
    let devices = make(&netns)?;
    let hops = hops(&netns)?;
    Ok(Place { netns: netns.without_name()?, devices, hops })
}

/// Makes the devices.
fn make(netns: &Netns) -> Result<Devices> {
    netns.sysctl("net.ipv6.conf.default.accept_dad", "0")?;
    netns.ip(&format!("link add podlane0 address {} mtu {GATEWAY_MTU} type ifb", show_mac(NODE_MAC)))?;
    netns.ip(&format!("link add up0 address {} type veth peer name wire0", show_mac(UPLINK_MAC)))?;
    for pair in ["pla type veth peer name poda", "plb type veth peer name podb"] {
        netns.ip(&format!("link add {pair}"))?;
    }
    for device in ["podlane0", "up0", "wire0", "pla", "plb", "poda", "podb"] {
        netns.ip(&format!("link set {device} up"))?;
    }
    for family in ["ipv4", "ipv6"] {
        netns.sysctl(&format!("net/{family}/conf/podlane0/forwarding"), "1")?;
    }
    for (family, net) in [(Family::V4, 24), (Family::V6, 64)] {
        let flags = if family == Family::V6 { "nodad" } else { "" };
        netns.ip(&format!("addr add {}/{net} dev up0 {flags}", underlay(family, 20)))?;
        let router = underlay(family, 1);
        neighbour(netns, router, 1)?;
        netns.ip(&format!("route add {}/{net} via {router}", far(family, 0)))?;
        for there in [outside(family), excluded(family)] {
            netns.ip(&format!("route add {there} via {router}"))?;
        }
    }
    netns.ip(&format!("route add prohibit {}/32", far(Family::V4, LOST)))?;
    for peer in PEERS.iter().filter(|peer| peer.known && !peer.routed) {
        neighbour(netns, peer.address(), peer.host)?;
    }
    Ok(Devices {
        gateway: netns.ifindex("podlane0")?,
        uplink: netns.ifindex("up0")?,
        pods: [
            Pod { ifindex: netns.ifindex("pla")?, slot: 3, mac: [0x0a, 0x58, 10, 200, 0, 10], host: 10 },
            Pod { ifindex: netns.ifindex("plb")?, slot: 5, mac: [0x0a, 0x58, 10, 200, 0, 11], host: 11 },
        ],
    })
}

fn neighbour(netns: &Netns, address: IpAddr, host: u8) -> Result<()> {
    let mac = show_mac(mac_of(host));
    netns.ip(&format!("neigh add {address} lladdr {mac} nud permanent dev up0"))?;
    Ok(())
}

/// Asks the kernel for the way to every peer.
fn hops(netns: &Netns) -> Result<Hops> {
    let peers = PEERS.iter().map(Peer::address);
    peers
        .chain(Family::BOTH.map(outside))
        .chain(Family::BOTH.map(excluded))
        .map(|address| Ok((address, hop(netns, address)?)))
        .collect()
}

fn hop(netns: &Netns, address: IpAddr) -> Result<Result<NextHop, Failed>> {
    // `ip route get` fails where nothing leads there.
    let Ok(route) = netns.ip(&format!("-j route get {address}")) else {
        return Ok(Err(Failed { helper: Helper::FibLookup, code: PROHIBITED }));
    };
    let route: Value = serde_json::from_str(&route).context("what `ip -j route get` printed")?;
    let device = route[0]["dev"].as_str().context("a route without a device")?;
    let next = match route[0]["gateway"].as_str() {
        Some(router) => router.parse().context("a router's address")?,
        None => address,
    };
    let neighbours = netns.ip(&format!("-j neigh show to {next} dev {device}"))?;
    let neighbours: Value = serde_json::from_str(&neighbours).context("what `ip -j neigh` printed")?;
    let neighbour = match neighbours[0]["lladdr"].as_str() {
        Some(mac) => Neighbour::known(MacWords::load(&parse_mac(mac)?), MacWords::load(&netns.mac(device)?)),
        None => Neighbour::unknown(words(next), next.is_ipv6()),
    };
    Ok(Ok(NextHop { ifindex: netns.ifindex(device)?, neighbour }))
}

/// An address as it lies in a packet, IPv4 in the first word.
fn words(address: IpAddr) -> [u32; 4] {
    let mut bytes = [0; 16];
    match address {
        IpAddr::V4(address) => bytes[..4].copy_from_slice(&address.octets()),
        IpAddr::V6(address) => bytes = address.octets(),
    }
    let word = |at: usize| u32::from_ne_bytes([bytes[at], bytes[at + 1], bytes[at + 2], bytes[at + 3]]);
    [word(0), word(4), word(8), word(12)]
}
