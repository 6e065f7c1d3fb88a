//! Every packet is accounted for: received = forwarded + passed + dropped, at each hook, under one named reason.

use bytemuck::{Pod, Zeroable};

/// Where a packet was seen.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Hook {
    /// TC ingress of a pod's host-side veth: what the pod sends.
    FromPod = 0,
    /// TC egress of a pod's host-side veth: what reaches a pod through the node's own stack or the gateway device.
    ToPod = 1,
    /// TC ingress of an uplink: what the underlay sends.
    FromUplink = 2,
    /// TC egress of the gateway device: what the node's own stack sends to pods.
    FromHost = 3,
    /// XDP of an uplink: the same packets as `FromUplink`, before the kernel has made anything of them.
    UplinkXdp = 4,
    /// The cgroup: sockets that connect to a service, and datagrams that sockets send to one; counted without bytes.
    Sock = 5,
}

impl Hook {
    /// Every hook, by number.
    pub const ALL: [Self; 6] =
        [Self::FromPod, Self::ToPod, Self::FromUplink, Self::FromHost, Self::UplinkXdp, Self::Sock];

    /// The hooks at which there are packets.
    pub const OF_PACKETS: [Self; 5] =
        [Self::FromPod, Self::ToPod, Self::FromUplink, Self::FromHost, Self::UplinkXdp];

    /// The hooks that are TC's.
    pub const TC: [Self; 4] = [Self::FromPod, Self::ToPod, Self::FromUplink, Self::FromHost];

    /// Name of the program, as `bpftool prog` and `loader counters` show it; of `Sock` what its programs' names start with.
    #[must_use]
    pub const fn name(self) -> &'static str {
        match self {
            Self::FromPod => "from_pod",
            Self::ToPod => "to_pod",
            Self::FromUplink => "from_uplink",
            Self::FromHost => "from_host",
            Self::UplinkXdp => "uplink_xdp",
            Self::Sock => "sock",
        }
    }
}

/// What became of a packet, in general.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Outcome {
    /// Podlane sent it on or turned it round.
    Forwarded,
    /// Left to the node's own stack.
    Passed,
    /// Discarded.
    Dropped,
    /// Not received at all: a packet that Podlane made, on top of the one that it answers.
    Generated,
}

/// Packets and bytes of one reason at one hook. Bytes count from the Ethernet header on, as received.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Counter {
    /// Packets, a GSO packet being one.
    pub packets: u64,
    /// Bytes.
    pub bytes: u64,
}

/// Defines [`Reason`] and [`HookCounters`] from one table, so that the counter of a reason can't go missing.
macro_rules! reasons {
    ($($(#[doc = $doc:literal])+ $variant:ident, $field:ident, $outcome:ident;)+) => {
        /// What became of a packet, exactly.
        #[repr(u8)]
        #[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
        pub enum Reason {
            $($(#[doc = $doc])+ $variant,)+
        }

        impl Reason {
            /// Every reason, in the order of the fields of [`HookCounters`].
            pub const ALL: &'static [Self] = &[$(Self::$variant,)+];

            /// Name, as the field of [`HookCounters`] and as `loader counters` shows it.
            #[must_use]
            pub const fn name(self) -> &'static str {
                match self { $(Self::$variant => stringify!($field),)+ }
            }

            /// One line for a person.
            #[must_use]
            pub fn describe(self) -> &'static str {
                match self { $(Self::$variant => concat!($($doc,)+).trim_start(),)+ }
            }

            /// What it means for the packet.
            #[must_use]
            #[inline(always)]
            pub const fn outcome(self) -> Outcome {
                match self { $(Self::$variant => Outcome::$outcome,)+ }
            }
        }

        /// All counters of one hook, on one CPU: the value of the `counters` map.
        #[repr(C)]
        #[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
        pub struct HookCounters {
            $($(#[doc = $doc])+ pub $field: Counter,)+
        }
    };
}

reasons! {
    /// Delivered to a pod of this node.
    ToPod, to_pod, Forwarded;
    /// Sent to a peer in VXLAN.
    ToOverlay, to_overlay, Forwarded;
    /// Sent to a peer without encapsulation.
    ToDirect, to_direct, Forwarded;
    /// Sent to a client outside the cluster: the answer of a service.
    ToClient, to_client, Forwarded;
    /// Sent outside the cluster under the node's address.
    Masqueraded, masqueraded, Forwarded;
    /// An ICMP echo request to a service address, answered.
    EchoReply, echo_reply, Forwarded;
    /// An ARP request for the gateway, answered.
    ArpReply, arp_reply, Forwarded;
    /// A neighbour solicitation for the gateway, answered.
    NdpReply, ndp_reply, Forwarded;
    /// A socket's call of a service, resolved to a backend: its packets need no translation.
    Resolved, resolved, Forwarded;
    /// Decided at XDP, and counted there under its reason: sent on as that said.
    FromXdp, from_xdp, Forwarded;

    /// For the node itself: its addresses and the gateway.
    ToHost, to_host, Passed;
    /// For an address outside the cluster: left to the node's routing.
    ToOutside, to_outside, Passed;
    /// Not Podlane's: left untouched.
    Foreign, foreign, Passed;
    /// Larger than the path takes and allowed to be fragmented: left to the node's stack, which fragments it.
    ToFragment, to_fragment, Passed;
    /// Left untouched for TC to decide: a packet that XDP can't finish.
    ToTc, to_tc, Passed;
    /// A socket's call of a service, left to be translated packet by packet.
    ToPackets, to_packets, Passed;

    /// A header that contradicts itself or ends too early.
    Malformed, malformed, Dropped;
    /// A VLAN tag from a pod: pods have no VLANs.
    Vlan, vlan, Dropped;
    /// Neither IPv4, IPv6 nor ARP.
    NotIp, not_ip, Dropped;
    /// ARP or neighbour discovery that does not ask for the gateway.
    NeighbourIgnored, neighbour_ignored, Dropped;
    /// Multicast or broadcast: pods have none.
    Multicast, multicast, Dropped;
    /// A source address that is neither the pod's own nor allowed to it, or a packet of the nodes' tunnels from a pod.
    Spoofed, spoofed, Dropped;
    /// An address in this node's pod CIDR that no pod has.
    NoSuchPod, no_such_pod, Dropped;
    /// Time to live ran out.
    TtlExceeded, ttl_exceeded, Dropped;
    /// Larger than the path takes and not allowed to be fragmented.
    TooBig, too_big, Dropped;
    /// VXLAN with our VNI from an address that is no peer's.
    UnknownVtep, unknown_vtep, Dropped;
    /// VXLAN with our VNI whose inner frame is not addressed to this node's VTEP.
    NotOurMac, not_our_mac, Dropped;
    /// For no pod, peer or address that this node knows.
    NoRoute, no_route, Dropped;
    /// Congestion marked on the outer header of a packet that can't carry the mark (RFC 6040, section 4.2).
    Ecn, ecn, Dropped;
    /// The node has no route to the peer's underlay address, or to a client outside.
    NoUnderlayRoute, no_underlay_route, Dropped;
    /// To a service address, but no service's port or protocol.
    NoSuchService, no_such_service, Dropped;
    /// To a service that has no backend.
    NoBackend, no_backend, Dropped;
    /// To a service that has no backend on this node, where its traffic policy asks for one.
    NoLocalBackend, no_local_backend, Dropped;
    /// From a client that is not in the service's source ranges.
    SourceRange, source_range, Dropped;
    /// Of a TCP connection to a backend that is gone.
    BackendGone, backend_gone, Dropped;
    /// A later fragment of a packet whose first one has not been seen.
    FragmentUnknown, fragment_unknown, Dropped;
    /// A new connection for which the connection table has no room.
    ConntrackFull, conntrack_full, Dropped;
    /// A new connection for which no source port is free.
    PortsExhausted, ports_exhausted, Dropped;
    /// A kernel helper refused; `helper_errors` says which and why.
    HelperFailed, helper_failed, Dropped;

    /// An ICMP error sent to the source of a packet that was dropped.
    IcmpError, icmp_error, Generated;
    /// A TCP reset sent to the source of a packet that was dropped.
    TcpReset, tcp_reset, Generated;
    /// An ICMP error or TCP reset that was due but not sent: the allowance was used up, or the packet was an error, a reset or a
    /// fragment.
    IcmpWithheld, icmp_withheld, Generated;
}

impl HookCounters {
    /// How many reasons there are.
    pub const COUNT: usize = size_of::<Self>() / size_of::<Counter>();

    /// The counter of one reason.
    #[must_use]
    pub fn get(&self, reason: Reason) -> Counter {
        let counters: &[Counter; Self::COUNT] = bytemuck::cast_ref(self);
        counters[reason as usize]
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding and valid for any bits, which `bytemuck::Pod` has checked.
unsafe impl aya::Pod for HookCounters {}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_reason_has_its_own_counter() {
        assert_eq!(HookCounters::COUNT, Reason::ALL.len());
        for (index, reason) in Reason::ALL.iter().enumerate() {
            assert_eq!(*reason as usize, index);
            let mut counters = [Counter::default(); HookCounters::COUNT];
            counters[index].packets = 7;
            let counters: HookCounters = bytemuck::cast(counters);
            assert_eq!(counters.get(*reason).packets, 7, "{}", reason.name());
        }
    }
}
