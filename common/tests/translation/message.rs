//! An IP packet as its ends see it, to bytes and back.

use std::net::IpAddr;

use etherparse::{
    IpHeaders, IpNumber, Ipv4Extensions, Ipv4Header, Ipv4Options, Ipv6Extensions, Ipv6FlowLabel, Ipv6Header,
    NetSlice, PacketBuilder, SlicedPacket, TcpHeader,
};
use proptest::prelude::*;

/// What it carries.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Upper {
    /// TCP, with flags as in its header's last byte of them.
    Tcp(u8),
    /// UDP; the family permitting, without a checksum.
    Udp {
        /// With one.
        checksum: bool,
    },
    /// SCTP; of its header only the ports are right.
    Sctp,
    /// ICMP echo; the port that is not zero is the identifier: of a request the source's.
    Echo,
}

/// Addresses, ports and payload.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Message {
    /// From whom.
    pub src: (IpAddr, u16),
    /// To whom.
    pub dst: (IpAddr, u16),
    /// How.
    pub upper: Upper,
    /// What.
    pub payload: Vec<u8>,
}

/// Flags of a TCP header.
pub mod flag {
    pub const FIN: u8 = 1;
    pub const SYN: u8 = 2;
    pub const RST: u8 = 4;
    pub const ACK: u8 = 16;
}

/// What may be carried.
pub fn upper() -> impl Strategy<Value = Upper> {
    prop_oneof![
        Just(Upper::Tcp(flag::SYN)),
        Just(Upper::Tcp(flag::ACK)),
        any::<bool>().prop_map(|checksum| Upper::Udp { checksum }),
        Just(Upper::Sctp),
    ]
}

impl Message {
    /// The answer with another payload.
    pub fn answer(&self, payload: &[u8]) -> Self {
        let upper = match self.upper {
            Upper::Tcp(_) => Upper::Tcp(flag::ACK),
            upper => upper,
        };
        Self { src: self.dst, dst: self.src, upper, payload: payload.to_vec() }
    }

    /// As an IP packet with so many words of options (IPv4's), every checksum right.
    pub fn packet(&self, ttl: u8, options: usize) -> Vec<u8> {
        let length = 4 * options;
        let ip = match (self.src.0, self.dst.0) {
            (IpAddr::V4(src), IpAddr::V4(dst)) => {
                let mut header = Ipv4Header::new(0, ttl, IpNumber::UDP, src.octets(), dst.octets()).unwrap();
                header.options = Ipv4Options::try_from(&[1; 40][..length]).unwrap();
                header.identification = 0x1234;
                header.dont_fragment = false;
                IpHeaders::Ipv4(header, Ipv4Extensions::default())
            }
            (IpAddr::V6(source), IpAddr::V6(destination)) => {
                let header = Ipv6Header {
                    traffic_class: 0,
                    flow_label: Ipv6FlowLabel::ZERO,
                    payload_length: 0,
                    next_header: IpNumber::UDP,
                    hop_limit: ttl,
                    source: source.octets(),
                    destination: destination.octets(),
                };
                IpHeaders::Ipv6(header, Ipv6Extensions::default())
            }
            _ => unreachable!("one family"),
        };
        let builder = PacketBuilder::ip(ip);
        let (source, destination) = (self.src.1, self.dst.1);
        let mut bytes = Vec::new();
        match self.upper {
            Upper::Tcp(flags) => {
                let mut header = TcpHeader::new(source, destination, 1, 0xffff);
                header.fin = flags & flag::FIN != 0;
                header.syn = flags & flag::SYN != 0;
                header.rst = flags & flag::RST != 0;
                header.ack = flags & flag::ACK != 0;
                builder.tcp_header(header).write(&mut bytes, &self.payload).unwrap();
            }
            Upper::Udp { checksum } => {
                builder.udp(source, destination).write(&mut bytes, &self.payload).unwrap();
                if !checksum && self.src.0.is_ipv4() {
                    bytes[26 + length..28 + length].fill(0);
                }
            }
            Upper::Sctp => {
                let [a, b] = source.to_be_bytes();
                let [c, d] = destination.to_be_bytes();
                let whole = [&[a, b, c, d, 0, 0, 0, 1, 0xde, 0xad, 0xbe, 0xef], &self.payload[..]].concat();
                builder.write(&mut bytes, IpNumber::SCTP, &whole).unwrap();
            }
            Upper::Echo => {
                let built = match (self.src.0.is_ipv4(), destination) {
                    (true, 0) => builder.icmpv4_echo_request(source, 1).write(&mut bytes, &self.payload),
                    (true, _) => builder.icmpv4_echo_reply(destination, 1).write(&mut bytes, &self.payload),
                    (_, 0) => builder.icmpv6_echo_request(source, 1).write(&mut bytes, &self.payload),
                    (_, _) => builder.icmpv6_echo_reply(destination, 1).write(&mut bytes, &self.payload),
                };
                built.unwrap();
            }
        }
        bytes
    }

    /// What an IP packet says, which is not a fragment.
    pub fn read(packet: &[u8]) -> Self {
        let sliced = SlicedPacket::from_ip(packet).unwrap();
        let net = sliced.net.unwrap();
        let (src, dst): (IpAddr, IpAddr) = match &net {
            NetSlice::Ipv4(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Ipv6(ip) => (ip.header().source_addr().into(), ip.header().destination_addr().into()),
            NetSlice::Arp(_) => unreachable!("an IP packet"),
        };
        let whole = net.ip_payload_ref().unwrap();
        let upper = whole.payload;
        let word = |at: usize| u16::from_be_bytes([upper[at], upper[at + 1]]);
        let (upper, ports, header) = match whole.ip_number {
            IpNumber::TCP => {
                (Upper::Tcp(upper[13] & 0x3f), [word(0), word(2)], usize::from(upper[12] >> 4) * 4)
            }
            IpNumber::UDP => (Upper::Udp { checksum: word(6) != 0 }, [word(0), word(2)], 8),
            IpNumber::SCTP => (Upper::Sctp, [word(0), word(2)], 12),
            _ if matches!(upper[0], 8 | 128) => (Upper::Echo, [word(4), 0], 8),
            _ => (Upper::Echo, [0, word(4)], 8),
        };
        let payload = whole.payload[header..].to_vec();
        Self { src: (src, ports[0]), dst: (dst, ports[1]), upper, payload }
    }
}
