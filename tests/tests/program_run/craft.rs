//! Packets that the testbed's builder has no words for, and what is expected of answers.

use std::net::IpAddr;

use testbed::{
    frame::{self, Ip},
    progrun::{Family, NODE_MAC, PORT, Peer, UPLINK_MAC, VNI, mac_of, underlay},
};

/// Length of an Ethernet header.
pub const ETH: usize = 14;

/// Every upper protocol that a pod might send, as packets of that family.
pub fn flows(ip: &Ip) -> Vec<Vec<u8>> {
    vec![
        ip.udp((4000, 53), b"a question"),
        ip.udp_without_checksum((4000, 53), b"odd"),
        ip.tcp((40000, 80), 2),
        ip.echo(7, 1, b"ping"),
        ip.packet(132, &[0x0f, 0xa0, 0, 80, 0, 0, 0, 0, 0, 0, 0, 0]),
        ip.packet(47, b"anything"),
        ip.packet(59, b""),
    ]
}

/// A fragment: `offset` in units of 8 bytes. Its payload is cut out of a datagram as it is.
pub fn fragment(ip: &Ip, protocol: u8, offset: u16, more: bool, payload: &[u8]) -> Vec<u8> {
    if ip.source.is_ipv4() {
        let ip = Ip { dont_fragment: false, ..ip.clone() };
        let mut packet = ip.packet(protocol, payload);
        let word = offset | if more { 0x2000 } else { 0 };
        packet[6..8].copy_from_slice(&word.to_be_bytes());
        fix_header_checksum(&mut packet);
        packet
    } else {
        let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
        let header = [protocol, 0, high, low, 0, 0, 0x12, 0x34];
        ip.packet(44, &[&header[..], payload].concat())
    }
}

/// Writes the checksum of an IPv4 header anew.
pub fn fix_header_checksum(packet: &mut [u8]) {
    let length = usize::from(packet[0] & 0x0f) * 4;
    packet[10..12].fill(0);
    let checksum = !frame::sum(&packet[..length.min(packet.len())], 0);
    packet[10..12].copy_from_slice(&checksum.to_be_bytes());
}

/// The packet after some hops.
pub fn hops_taken(packet: &[u8], hops: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[8] -= hops;
        fix_header_checksum(&mut packet);
    } else {
        packet[7] -= hops;
    }
    packet
}

/// With another type of service.
pub fn marked(packet: &[u8], tos: u8) -> Vec<u8> {
    let mut packet = packet.to_vec();
    if packet[0] >> 4 == 4 {
        packet[1] = tos;
        fix_header_checksum(&mut packet);
    } else {
        packet[0] = 0x60 | tos >> 4;
        packet[1] = tos << 4 | (packet[1] & 0x0f);
    }
    packet
}

/// An ICMP error about a packet, as an IP packet.
pub fn icmp_error(from: IpAddr, to: IpAddr, (kind, code): (u8, u8), info: u32, about: &[u8]) -> Vec<u8> {
    let quote = &about[..about.len().min(common::icmp::QUOTE)];
    let body = [&info.to_be_bytes(), quote].concat();
    Ip { id: 0, dont_fragment: false, ..Ip::new(from, to) }.icmp(kind, code, &body)
}

/// Types and codes of ICMP errors.
pub struct Icmp;

impl Icmp {
    /// Time exceeded in transit.
    pub const fn time_exceeded(family: Family) -> (u8, u8) {
        match family {
            Family::V4 => (11, 0),
            Family::V6 => (3, 0),
        }
    }

    /// Host, or address, unreachable.
    pub const fn unreachable(family: Family) -> (u8, u8) {
        match family {
            Family::V4 => (3, 1),
            Family::V6 => (1, 3),
        }
    }

    /// Fragmentation needed, or packet too big.
    pub const fn too_big(family: Family) -> (u8, u8) {
        match family {
            Family::V4 => (3, 4),
            Family::V6 => (2, 0),
        }
    }
}

/// A VXLAN packet from a peer to this node around a packet for one of its pods: inner TTL as it left the peer.
pub struct Tunnel {
    /// The outer header.
    pub outer: Ip,
    /// The outer ports.
    pub ports: (u16, u16),
    /// The VNI.
    pub vni: u32,
    /// The inner destination MAC.
    pub inner_mac: [u8; 6],
    /// Whether the outer UDP checksum is computed.
    pub checksum: bool,
}

impl Tunnel {
    /// As `peer` sends it.
    pub fn from(peer: &Peer) -> Self {
        Self {
            outer: Ip::new(peer.address(), underlay(peer.underlay, 20)),
            ports: (50000, PORT),
            vni: VNI,
            inner_mac: NODE_MAC,
            checksum: false,
        }
    }

    /// Around that packet.
    pub fn around(&self, peer: &Peer, packet: &[u8]) -> Vec<u8> {
        self.around_frame(&frame::ethernet(peer.vtep_mac(), self.inner_mac, packet))
    }

    /// Around that frame.
    pub fn around_frame(&self, inner: &[u8]) -> Vec<u8> {
        self.with_payload(&frame::vxlan(self.vni, inner))
    }

    /// With that UDP payload.
    pub fn with_payload(&self, payload: &[u8]) -> Vec<u8> {
        let packet = if self.checksum {
            self.outer.udp(self.ports, payload)
        } else {
            self.outer.udp_without_checksum(self.ports, payload)
        };
        on_wire(&packet)
    }
}

/// A frame from the router to the node's uplink.
pub fn on_wire(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(mac_of(1), UPLINK_MAC, packet)
}

/// The frame in which a peer sends a pod's packet to this node.
pub fn from_peer(peer: &Peer, packet: &[u8]) -> Vec<u8> {
    let inner = frame::ethernet(peer.vtep_mac(), NODE_MAC, packet);
    let outer = Ip { id: 0, ..Ip::new(peer.address(), underlay(peer.underlay, 20)) };
    let tunnel = outer.udp((40000, PORT), &frame::vxlan(VNI, &inner));
    frame::ethernet(peer.next_mac(), UPLINK_MAC, &tunnel)
}

/// The frame in which this node sends a packet to the underlay's router.
pub fn to_router(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(UPLINK_MAC, mac_of(1), packet)
}

/// The frame in which the node's stack hands a packet to the gateway device.
pub fn from_stack(packet: &[u8]) -> Vec<u8> {
    frame::ethernet(NODE_MAC, NODE_MAC, packet)
}
