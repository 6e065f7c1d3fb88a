//! Frames built by hand, right and wrong ones.

use std::net::{IpAddr, Ipv4Addr, Ipv6Addr};

use crate::address::Mac;

/// `EtherType` of IPv4.
pub const IPV4: u16 = 0x0800;
/// `EtherType` of ARP.
pub const ARP: u16 = 0x0806;
/// `EtherType` of IPv6.
pub const IPV6: u16 = 0x86dd;
/// `EtherType` of a VLAN tag.
pub const VLAN: u16 = 0x8100;

/// An IP packet to be built; fields are as the wire has them.
#[derive(Clone, Debug)]
pub struct Ip {
    /// Source.
    pub source: IpAddr,
    /// Destination.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// TOS or traffic class.
    pub tos: u8,
    /// IPv4 identification.
    pub id: u16,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 options, a multiple of four bytes.
    pub options: Vec<u8>,
}

impl Ip {
    /// From one address to another, TTL 64, "don't fragment".
    #[must_use]
    pub fn new(source: IpAddr, destination: IpAddr) -> Self {
        Self { source, destination, ttl: 64, tos: 0, id: 0x1234, dont_fragment: true, options: Vec::new() }
    }

    /// The packet with a transport header and payload as they are.
    #[must_use]
    pub fn packet(&self, protocol: u8, transport: &[u8]) -> Vec<u8> {
        match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => {
                self.packet4(source, destination, protocol, transport)
            }
            (source, destination) => self.packet6(v6(source), v6(destination), protocol, transport),
        }
    }

    fn packet4(&self, source: Ipv4Addr, destination: Ipv4Addr, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let header_length = 20 + self.options.len();
        let mut header = vec![0x40 | byte(header_length / 4), self.tos];
        header.extend(be16(header_length + transport.len()));
        header.extend(self.id.to_be_bytes());
        header.extend([if self.dont_fragment { 0x40 } else { 0 }, 0, self.ttl, protocol, 0, 0]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(&self.options);
        let checksum = !sum(&header, 0);
        header[10..12].copy_from_slice(&checksum.to_be_bytes());
        header.extend(transport);
        header
    }

    fn packet6(&self, source: Ipv6Addr, destination: Ipv6Addr, protocol: u8, transport: &[u8]) -> Vec<u8> {
        let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        header.extend(be16(transport.len()));
        header.extend([protocol, self.ttl]);
        header.extend(source.octets());
        header.extend(destination.octets());
        header.extend(transport);
        header
    }

    /// UDP with a right checksum.
    #[must_use]
    pub fn udp(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut transport = Vec::from(ports.0.to_be_bytes());
        transport.extend(ports.1.to_be_bytes());
        transport.extend(be16(8 + payload.len()));
        transport.extend([0, 0]);
        transport.extend(payload);
        let checksum = match !self.transport_sum(17, &transport) {
            0 => 0xffff,
            checksum => checksum,
        };
        transport[6..8].copy_from_slice(&checksum.to_be_bytes());
        self.packet(17, &transport)
    }

    /// UDP with a zero checksum field.
    #[must_use]
    pub fn udp_without_checksum(&self, ports: (u16, u16), payload: &[u8]) -> Vec<u8> {
        let mut packet = self.udp(ports, payload);
        let header_length = if self.source.is_ipv4() { 20 + self.options.len() } else { 40 };
        packet[header_length + 6..header_length + 8].fill(0);
        packet
    }

    /// A TCP segment without data.
    #[must_use]
    pub fn tcp(&self, ports: (u16, u16), flags: u8) -> Vec<u8> {
        let mut transport = Vec::from(ports.0.to_be_bytes());
        transport.extend(ports.1.to_be_bytes());
        transport.extend([0, 0, 0, 1, 0, 0, 0, 0, 0x50, flags, 0xff, 0xff, 0, 0, 0, 0]);
        let checksum = !self.transport_sum(6, &transport);
        transport[16..18].copy_from_slice(&checksum.to_be_bytes());
        self.packet(6, &transport)
    }

    /// ICMP or `ICMPv6` of any type.
    #[must_use]
    pub fn icmp(&self, kind: u8, code: u8, body: &[u8]) -> Vec<u8> {
        let mut transport = vec![kind, code, 0, 0];
        transport.extend(body);
        let (protocol, checksum) = if self.source.is_ipv4() {
            (1, !sum(&transport, 0))
        } else {
            (58, !self.transport_sum(58, &transport))
        };
        transport[2..4].copy_from_slice(&checksum.to_be_bytes());
        self.packet(protocol, &transport)
    }

    /// An echo request.
    #[must_use]
    pub fn echo(&self, id: u16, sequence: u16, payload: &[u8]) -> Vec<u8> {
        let mut body = Vec::from(id.to_be_bytes());
        body.extend(sequence.to_be_bytes());
        body.extend(payload);
        self.icmp(if self.source.is_ipv4() { 8 } else { 128 }, 0, &body)
    }

    fn transport_sum(&self, protocol: u8, transport: &[u8]) -> u16 {
        let addresses = match (self.source, self.destination) {
            (IpAddr::V4(source), IpAddr::V4(destination)) => [source.octets(), destination.octets()].concat(),
            (source, destination) => [v6(source).octets(), v6(destination).octets()].concat(),
        };
        sum(transport, pseudo_sum(&addresses, protocol, transport.len()))
    }
}

/// Ethernet around an IP packet; the type follows from its version.
#[must_use]
pub fn ethernet(source: Mac, destination: Mac, packet: &[u8]) -> Vec<u8> {
    let version = packet.first().map_or(4, |byte| byte >> 4);
    ethernet_of_type(source, destination, if version == 6 { IPV6 } else { IPV4 }, packet)
}

/// Ethernet of any type around any bytes.
#[must_use]
pub fn ethernet_of_type(source: Mac, destination: Mac, ether_type: u16, payload: &[u8]) -> Vec<u8> {
    let mut frame = [destination, source].concat();
    frame.extend(ether_type.to_be_bytes());
    frame.extend(payload);
    frame
}

/// VXLAN's header with the I flag, before a frame.
#[must_use]
pub fn vxlan(vni: u32, inner: &[u8]) -> Vec<u8> {
    let mut payload = vec![0x08, 0, 0, 0];
    payload.extend((vni << 8).to_be_bytes());
    payload.extend(inner);
    payload
}

/// An ARP request or reply, in Ethernet.
#[must_use]
pub fn arp(operation: u16, sender: (Mac, Ipv4Addr), target: (Mac, Ipv4Addr), destination: Mac) -> Vec<u8> {
    let mut body = vec![0, 1, 8, 0, 6, 4];
    body.extend(operation.to_be_bytes());
    body.extend(sender.0);
    body.extend(sender.1.octets());
    body.extend(target.0);
    body.extend(target.1.octets());
    ethernet_of_type(sender.0, destination, ARP, &body)
}

/// Every station.
pub const BROADCAST: Mac = [0xff; 6];

/// A neighbour solicitation, in Ethernet: to the target itself, or to its solicited-node group.
#[must_use]
pub fn neighbour_solicitation(
    sender: (Mac, Ipv6Addr),
    target: Ipv6Addr,
    to: SolicitTo,
    with_option: bool,
) -> Vec<u8> {
    let (mac, destination) = match to {
        SolicitTo::Group => {
            let [.., high, middle, low] = target.octets();
            let group = Ipv6Addr::new(
                0xff02,
                0,
                0,
                0,
                0,
                1,
                0xff00 | u16::from(high),
                u16::from_be_bytes([middle, low]),
            );
            ([0x33, 0x33, 0xff, high, middle, low], group)
        }
        SolicitTo::Target(mac) => (mac, target),
    };
    let mut body = vec![0; 4];
    body.extend(target.octets());
    if with_option {
        body.extend([1, 1]);
        body.extend(sender.0);
    }
    let ip = Ip { ttl: 255, ..Ip::new(sender.1.into(), destination.into()) };
    ethernet(sender.0, mac, &ip.icmp(135, 0, &body))
}

/// Where a neighbour solicitation is sent.
#[derive(Clone, Copy, Debug)]
pub enum SolicitTo {
    /// The solicited-node multicast group, as for a first resolution.
    Group,
    /// The target itself, as for a reachability probe.
    Target(Mac),
}

/// One's complement sum of 16-bit words, on top of another.
#[must_use]
pub fn sum(bytes: &[u8], initial: u16) -> u16 {
    let words = bytes.chunks(2).map(|word| u16::from_be_bytes([word[0], word.get(1).copied().unwrap_or(0)]));
    let total = words.fold(u64::from(initial), |total, word| total + u64::from(word));
    fold(total)
}

/// Sum of the pseudo header of TCP, UDP and `ICMPv6`; `addresses` are both, one behind the other.
#[must_use]
pub fn pseudo_sum(addresses: &[u8], protocol: u8, length: usize) -> u16 {
    fold(u64::from(sum(addresses, 0)) + u64::from(protocol) + u64::try_from(length).unwrap_or(0))
}

fn fold(mut total: u64) -> u16 {
    while total > 0xffff {
        total = (total & 0xffff) + (total >> 16);
    }
    u16::try_from(total).unwrap_or(u16::MAX)
}

fn be16(length: usize) -> [u8; 2] {
    u16::try_from(length).unwrap_or(u16::MAX).to_be_bytes()
}

fn byte(value: usize) -> u8 {
    u8::try_from(value).unwrap_or(u8::MAX)
}

const fn v6(address: IpAddr) -> Ipv6Addr {
    match address {
        IpAddr::V4(address) => address.to_ipv6_mapped(),
        IpAddr::V6(address) => address,
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::packet::Packet;

    fn captured(bytes: Vec<u8>) -> Packet {
        Packet { bytes, outgoing: false, checksum_pending: false, vlan: None }
    }

    #[test]
    fn checksums_of_built_packets_hold() {
        for (from, to) in [("10.1.0.1", "10.2.0.1"), ("fd00::1", "fd00::2")] {
            let ip = Ip::new(from.parse().unwrap(), to.parse().unwrap());
            for packet in [ip.udp((1, 2), b"odd"), ip.tcp((1, 2), 2), ip.echo(1, 2, b"x")] {
                let frame = captured(ethernet([2; 6], [4; 6], &packet));
                assert!(frame.checksums_hold(), "{:?}", frame.headers());
                let mut broken = frame.clone();
                *broken.bytes.last_mut().unwrap() ^= 1;
                assert!(!broken.checksums_hold(), "{:?}", frame.headers());
            }
        }
    }

    #[test]
    fn vxlan_reads_back() {
        let inner =
            ethernet([2; 6], [4; 6], &Ip::new([1, 1, 1, 1].into(), [2, 2, 2, 2].into()).udp((5, 6), b"hi"));
        let outer =
            Ip::new([10, 0, 0, 1].into(), [10, 0, 0, 2].into()).udp((40000, 8472), &vxlan(77, &inner));
        let vxlan = captured(ethernet([1; 6], [3; 6], &outer)).vxlan(8472).unwrap();
        assert_eq!(vxlan.vni(), 77);
        assert_eq!(vxlan.inner.bytes, inner);
        assert_eq!(vxlan.inner.headers().unwrap().ports, Some((5, 6)));
    }
}
