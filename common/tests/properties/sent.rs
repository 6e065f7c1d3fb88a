//! Valid packets: who sends what to whom.

use proptest::prelude::*;

use crate::{
    cluster::{mac, pod, serving, underlay},
    invariants::{checksum, upper_checksum},
};

/// Where a packet comes from or goes to, seen from node 0.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// The node's first pod.
    Pod,
    /// Its second pod.
    OtherPod,
    /// An address in its pod CIDR that no pod has.
    Nobody,
    /// The pods' gateway.
    Gateway,
    /// A pod of the peer with a tunnel.
    PeerPod,
    /// That peer itself.
    Peer,
    /// A pod of the direct peer.
    DirectPod,
    /// Outside the cluster.
    Outside,
    /// A service: every other packet to it has its port.
    Service,
    /// The node itself, at the service's node port likewise.
    Node,
    /// A multicast group.
    Group,
}

impl Place {
    fn address(self, v6: bool) -> Vec<u8> {
        match self {
            Self::Pod => pod(v6, 0, 10),
            Self::OtherPod => pod(v6, 0, 11),
            Self::Nobody => pod(v6, 0, 99),
            Self::Gateway => pod(v6, 0, 1),
            Self::PeerPod => pod(v6, 1, 10),
            Self::Peer => underlay(v6, 1),
            Self::DirectPod => pod(v6, 2, 10),
            Self::Outside => pod(v6, 200, 1),
            Self::Service => serving::address(v6),
            Self::Node => underlay(v6, 0),
            Self::Group if v6 => vec![0xff, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0xfb],
            Self::Group => vec![224, 0, 0, 251],
        }
    }
}

/// A packet.
#[derive(Clone, Debug)]
pub struct Sent {
    /// Its family.
    pub v6: bool,
    /// Source.
    pub from: Place,
    /// Destination.
    pub to: Place,
    /// TTL or hop limit.
    pub ttl: u8,
    /// Type of service.
    pub tos: u8,
    /// IPv4 "don't fragment".
    pub dont_fragment: bool,
    /// IPv4 options, in words.
    pub options: usize,
    /// Offset in units of 8 bytes and "more fragments".
    pub fragment: Option<(u16, bool)>,
    /// Upper protocol.
    pub protocol: u8,
    /// First byte of the upper header: the type of an ICMP message.
    pub kind: u8,
    /// What follows the first byte.
    pub body: Vec<u8>,
    /// Type of service of a tunnel around it.
    pub outer_tos: u8,
}

/// Types of ICMP messages, of one family or the other, that are more than others.
const ICMP_TYPES: [u8; 10] = [0, 1, 2, 3, 8, 11, 128, 129, 133, 135];

/// Any of them.
pub fn sent() -> impl Strategy<Value = Sent> {
    let place = || {
        proptest::sample::select(vec![
            Place::Pod,
            Place::OtherPod,
            Place::Nobody,
            Place::Gateway,
            Place::PeerPod,
            Place::Peer,
            Place::DirectPod,
            Place::Outside,
            Place::Service,
            Place::Node,
            Place::Group,
        ])
    };
    let from =
        prop_oneof![6 => Just(Place::Pod), 3 => Just(Place::PeerPod), 2 => place(), 1 => Just(Place::Group)];
    let ttl = prop_oneof![Just(0), Just(1), Just(2), 3_u8..];
    let length = prop_oneof![8 => 20_usize..200, 1 => 1350_usize..1600];
    let upper = (
        proptest::sample::select(vec![1_u8, 6, 17, 58, 132, 47]),
        prop_oneof![3 => any::<u8>(), 1 => proptest::sample::select(ICMP_TYPES.to_vec())],
        length.prop_flat_map(|length| proptest::collection::vec(any::<u8>(), length)),
    );
    let ip = (ttl, any::<u8>(), any::<bool>(), 0_usize..=10);
    let fragment = proptest::option::weighted(0.2, (0_u16..4, any::<bool>()));
    (any::<bool>(), from, place(), ip, fragment, upper, any::<u8>()).prop_map(
        |(v6, from, to, (ttl, tos, dont_fragment, options), fragment, (protocol, kind, body), outer_tos)| {
            // ICMP is the family's own.
            let protocol = match (v6, protocol) {
                (true, 1) => 58,
                (false, 58) => 1,
                (_, protocol) => protocol,
            };
            Sent { v6, from, to, ttl, tos, dont_fragment, options, fragment, protocol, kind, body, outer_tos }
        },
    )
}

impl Sent {
    /// Whether it is an ICMP error.
    pub fn is_icmp_error(&self) -> bool {
        match (self.protocol, self.v6) {
            (1, false) => matches!(self.kind, 3 | 4 | 5 | 11 | 12),
            (58, true) => self.kind < 128,
            _ => false,
        }
    }

    /// Whether it is a fragment, but not the first.
    pub fn is_later_fragment(&self) -> bool {
        self.fragment.is_some_and(|(offset, _)| offset != 0)
    }

    /// The IP packet, every checksum right.
    pub fn ip(&self) -> Vec<u8> {
        let (source, destination) = (self.from.address(self.v6), self.to.address(self.v6));
        let mut upper = [&[self.kind][..], &self.body].concat();
        let port = match self.to {
            Place::Service => serving::PORT,
            Place::Node => serving::NODE_PORT,
            _ => 0,
        };
        if port != 0 && self.kind & 1 == 0 && matches!(self.protocol, 6 | 17 | 132) {
            upper[2..4].copy_from_slice(&port.to_be_bytes());
        }
        if let Some((at, pseudo)) = upper_checksum(self.protocol) {
            upper[at..at + 2].fill(0);
            let length = u16::try_from(upper.len()).unwrap_or(0).to_be_bytes();
            let pseudo = if pseudo {
                [&source[..], &destination, &[0, 0], &length, &[0, 0, 0, self.protocol]].concat()
            } else {
                Vec::new()
            };
            let checksum = checksum(&[&pseudo, &upper]);
            upper[at..at + 2].copy_from_slice(&checksum);
        }
        if self.v6 {
            self.packet6(&source, &destination, &upper)
        } else {
            self.packet4(&source, &destination, &upper)
        }
    }

    fn packet4(&self, source: &[u8], destination: &[u8], upper: &[u8]) -> Vec<u8> {
        let length = 20 + 4 * self.options;
        let mut header = vec![0x45, self.tos];
        header[0] += u8::try_from(self.options).unwrap_or(0);
        header.extend(u16::try_from(length + upper.len()).unwrap_or(0).to_be_bytes());
        let (offset, more) = self.fragment.unwrap_or_default();
        let flags = offset | u16::from(more) << 13 | u16::from(self.dont_fragment) << 14;
        header.extend([0x12, 0x34]);
        header.extend(flags.to_be_bytes());
        header.extend([self.ttl, self.protocol, 0, 0]);
        header.extend(source);
        header.extend(destination);
        header.extend(vec![1; 4 * self.options]);
        let checksum = checksum(&[&header]);
        header[10..12].copy_from_slice(&checksum);
        header.extend(upper);
        header
    }

    fn packet6(&self, source: &[u8], destination: &[u8], upper: &[u8]) -> Vec<u8> {
        let mut payload = Vec::new();
        let mut next = self.protocol;
        if let Some((offset, more)) = self.fragment {
            let [high, low] = (offset << 3 | u16::from(more)).to_be_bytes();
            payload.extend([next, 0, high, low, 0, 0, 0, 7]);
            next = 44;
        }
        payload.extend(upper);
        let mut header = vec![0x60 | self.tos >> 4, self.tos << 4, 0, 0];
        header.extend(u16::try_from(payload.len()).unwrap_or(0).to_be_bytes());
        header.extend([next, self.ttl]);
        header.extend(source);
        header.extend(destination);
        header.extend(payload);
        header
    }

    /// The packet as a pod sends it to its gateway.
    pub fn frame(&self) -> Vec<u8> {
        ethernet(mac(0), [0x0a, 0x58, 0, 0, 0, 10], self.v6, &self.ip())
    }

    /// The IP packet as it comes out of the tunnel: with the congestion met on the way (RFC 6040, figure 4).
    pub fn out_of_tunnel(&self) -> Vec<u8> {
        let tos = match (self.outer_tos & 3, self.tos & 3) {
            (3, 1 | 2) => self.tos | 3,
            (1, 2) => self.tos & !3 | 1,
            _ => self.tos,
        };
        Self { tos, ..self.clone() }.ip()
    }

    /// The packet as the peer sends it through the tunnel to node 0.
    pub fn in_tunnel(&self) -> Vec<u8> {
        let inner = ethernet(mac(0), mac(1), self.v6, &self.ip());
        let mut udp = vec![0xc0, 0];
        udp.extend(8472_u16.to_be_bytes());
        udp.extend(u16::try_from(16 + inner.len()).unwrap_or(0).to_be_bytes());
        udp.extend([0, 0, 8, 0, 0, 0, 0, 0, 1, 0]);
        udp.extend(inner);
        let around =
            Self { tos: self.outer_tos, ttl: 64, options: 0, fragment: None, protocol: 17, ..self.clone() };
        let (source, destination) = (underlay(false, 1), underlay(false, 0));
        ethernet([2, 0, 0, 0, 0, 2], [2, 0, 0, 0, 0, 1], false, &around.packet4(&source, &destination, &udp))
    }
}

fn ethernet(destination: [u8; 6], source: [u8; 6], v6: bool, packet: &[u8]) -> Vec<u8> {
    let ether_type = if v6 { [0x86, 0xdd] } else { [8, 0] };
    [&destination[..], &source, &ether_type, packet].concat()
}
