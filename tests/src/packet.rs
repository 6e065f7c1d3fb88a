//! A captured packet and what is in it.

use std::net::{IpAddr, SocketAddr};

use etherparse::{NetSlice, SlicedPacket, TransportSlice};

use crate::address::Mac;

/// UDP header, VXLAN header.
const VXLAN_LENGTH: usize = 8;

/// A packet as a device saw it, from its Ethernet header on.
#[derive(Clone, Debug)]
pub struct Packet {
    /// The whole frame.
    pub bytes: Vec<u8>,
    /// Sent out of the device, rather than received by it.
    pub outgoing: bool,
    /// The transport checksum is not filled in yet: the device would do it.
    pub checksum_pending: bool,
    /// VLAN tag that the kernel has taken out of the frame.
    pub vlan: Option<u16>,
}

/// What the IP and transport headers say.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Headers {
    /// Ethernet source.
    pub source_mac: Mac,
    /// Ethernet destination.
    pub destination_mac: Mac,
    /// IP source.
    pub source: IpAddr,
    /// IP destination.
    pub destination: IpAddr,
    /// Time to live or hop limit.
    pub ttl: u8,
    /// TOS or traffic class: DSCP and ECN.
    pub tos: u8,
    /// Length that the IP header gives the packet.
    pub ip_length: usize,
    /// IPv4 identification.
    pub id: Option<u16>,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// Any fragment, the first included.
    pub fragment: bool,
    /// Source and destination ports of TCP or UDP.
    pub ports: Option<(u16, u16)>,
    /// IP protocol number of the transport header.
    pub protocol: u8,
    /// UDP checksum field.
    pub udp_checksum: Option<u16>,
    /// What follows the transport header; for ICMP, what follows its first four bytes.
    pub payload: Vec<u8>,
    /// Type and code of ICMP.
    pub icmp: Option<(u8, u8)>,
}

/// VXLAN's header and the frame inside.
#[derive(Clone, Debug)]
pub struct Vxlan {
    /// The headers around it.
    pub outer: Headers,
    /// The eight bytes of the VXLAN header.
    pub header: [u8; VXLAN_LENGTH],
    /// The frame inside.
    pub inner: Packet,
}

impl Vxlan {
    /// Network identifier.
    #[must_use]
    pub const fn vni(&self) -> u32 {
        let [_, _, _, _, high, middle, low, _] = self.header;
        u32::from_be_bytes([0, high, middle, low])
    }
}

impl Packet {
    /// Reads the headers; nothing if they are not IP or don't hold together.
    #[must_use]
    pub fn headers(&self) -> Option<Headers> {
        let (destination_mac, rest) = self.bytes.split_first_chunk::<6>()?;
        let (source_mac, _) = rest.split_first_chunk::<6>()?;
        let sliced = SlicedPacket::from_ethernet(&self.bytes).ok()?;
        let mut headers = Headers {
            source_mac: *source_mac,
            destination_mac: *destination_mac,
            source: IpAddr::from([0; 4]),
            destination: IpAddr::from([0; 4]),
            ttl: 0,
            tos: 0,
            ip_length: 0,
            id: None,
            dont_fragment: false,
            fragment: false,
            ports: None,
            protocol: 0,
            udp_checksum: None,
            payload: Vec::new(),
            icmp: None,
        };
        match sliced.net? {
            NetSlice::Ipv4(ip) => {
                let header = ip.header();
                headers.source = header.source_addr().into();
                headers.destination = header.destination_addr().into();
                headers.ttl = header.ttl();
                headers.tos = header.slice()[1];
                headers.ip_length = header.total_len().into();
                headers.id = Some(header.identification());
                headers.dont_fragment = header.dont_fragment();
                headers.fragment = header.is_fragmenting_payload();
                headers.protocol = header.protocol().0;
                headers.payload = ip.payload().payload.to_vec();
            }
            NetSlice::Ipv6(ip) => {
                let header = ip.header();
                headers.source = header.source_addr().into();
                headers.destination = header.destination_addr().into();
                headers.ttl = header.hop_limit();
                headers.tos = header.traffic_class();
                headers.ip_length = 40 + usize::from(header.payload_length());
                headers.fragment = ip.is_payload_fragmented();
                headers.protocol = ip.payload().ip_number.0;
                headers.payload = ip.payload().payload.to_vec();
            }
            NetSlice::Arp(_) => return None,
        }
        match sliced.transport {
            Some(TransportSlice::Udp(udp)) => {
                headers.ports = Some((udp.source_port(), udp.destination_port()));
                headers.udp_checksum = Some(udp.checksum());
                headers.payload = udp.payload().to_vec();
            }
            Some(TransportSlice::Tcp(tcp)) => {
                headers.ports = Some((tcp.source_port(), tcp.destination_port()));
                headers.payload = tcp.payload().to_vec();
            }
            Some(TransportSlice::Icmpv4(icmp)) => {
                headers.icmp = Some((icmp.type_u8(), icmp.code_u8()));
                headers.payload = icmp.slice()[4..].to_vec();
            }
            Some(TransportSlice::Icmpv6(icmp)) => {
                headers.icmp = Some((icmp.type_u8(), icmp.code_u8()));
                headers.payload = icmp.slice()[4..].to_vec();
            }
            Some(TransportSlice::Igmp(_)) | None => {}
        }
        Some(headers)
    }

    /// Reads VXLAN for a UDP port.
    #[must_use]
    pub fn vxlan(&self, port: u16) -> Option<Vxlan> {
        let outer = self.headers()?;
        if outer.fragment || outer.ports?.1 != port || outer.udp_checksum.is_none() {
            return None;
        }
        let (header, inner) = outer.payload.split_first_chunk::<VXLAN_LENGTH>()?;
        let (header, bytes) = (*header, inner.to_vec());
        let inner =
            Packet { bytes, outgoing: self.outgoing, checksum_pending: self.checksum_pending, vlan: None };
        Some(Vxlan { outer, header, inner })
    }

    /// `EtherType` of the frame.
    #[must_use]
    pub fn ether_type(&self) -> Option<u16> {
        Some(u16::from_be_bytes([*self.bytes.get(12)?, *self.bytes.get(13)?]))
    }

    /// Whether the checksums of the IPv4 header and of TCP, UDP or ICMP are right. A UDP checksum of zero over IPv4 is.
    #[must_use]
    pub fn checksums_hold(&self) -> bool {
        let Ok(sliced) = SlicedPacket::from_ethernet(&self.bytes) else { return false };
        let Some(net) = sliced.net else { return false };
        let (pseudo, protocol, payload, fragment) = match net {
            NetSlice::Ipv4(ip) => {
                if crate::frame::sum(ip.header().slice(), 0) != 0xffff {
                    return false;
                }
                let addresses = [ip.header().source(), ip.header().destination()].concat();
                (
                    addresses,
                    ip.payload().ip_number.0,
                    ip.payload().payload.to_vec(),
                    ip.is_payload_fragmented(),
                )
            }
            NetSlice::Ipv6(ip) => {
                let addresses = [ip.header().source(), ip.header().destination()].concat();
                (
                    addresses,
                    ip.payload().ip_number.0,
                    ip.payload().payload.to_vec(),
                    ip.is_payload_fragmented(),
                )
            }
            NetSlice::Arp(_) => return true,
        };
        let no_udp_checksum = protocol == 17 && payload.get(6..8) == Some(&[0, 0]);
        if fragment || no_udp_checksum {
            return true;
        }
        let pseudo = match protocol {
            1 => 0,
            6 | 17 | 58 => crate::frame::pseudo_sum(&pseudo, protocol, payload.len()),
            _ => return true,
        };
        crate::frame::sum(&payload, pseudo) == 0xffff
    }
}

impl Headers {
    /// Whether the packet goes from one address to another.
    #[must_use]
    pub fn goes(&self, from: IpAddr, to: IpAddr) -> bool {
        self.source == from && self.destination == to
    }

    /// Where it goes, with the port.
    #[must_use]
    pub fn to(&self) -> Option<SocketAddr> {
        Some(SocketAddr::new(self.destination, self.ports?.1))
    }
}
