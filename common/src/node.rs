//! The facts of this node that the programs are loaded with.

use bytemuck::{Pod, Zeroable};

/// Name of the program global that holds the [`Node`].
pub const GLOBAL: &str = "NODE";

/// What is fixed for as long as the programs are loaded.
///
/// It lies in the object's `.rodata`, which the loader fills and the kernel freezes before verification: the verifier
/// sees constants, so a feature that is off costs nothing.
#[repr(C)]
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq, Pod, Zeroable)]
pub struct Node {
    /// Interface index of the gateway device.
    pub gateway_ifindex: u32,
    /// Bits of [`feature`].
    pub features: u32,
    /// MAC of the gateway device, of every pod's host-side veth and of the VTEP: one address, so that a packet for the
    /// node is `PACKET_HOST` wherever it arrives.
    pub mac: [u8; 6],
    /// VXLAN's UDP destination port, network byte order.
    pub port: [u8; 2],
    /// VXLAN network identifier, network byte order.
    pub vni: [u8; 3],
    /// Zero.
    pub reserved: u8,
    /// Address that IPv4 pods have as their gateway; zero without IPv4 pods.
    pub gateway4: [u8; 4],
    /// Address that IPv6 pods have as their gateway; zero without IPv6 pods.
    pub gateway6: [u8; 16],
    /// The node's IPv4 address on the underlay; zero if it has none.
    pub underlay4: [u8; 4],
    /// The node's IPv6 address on the underlay; zero if it has none.
    pub underlay6: [u8; 16],
    /// IPv4 address that stands for a client whose answers would not come this way otherwise: a pod that calls itself, or
    /// whoever calls a backend of the node's own network.
    pub loopback4: [u8; 4],
    /// As `loopback4`, for IPv6.
    pub loopback6: [u8; 16],
    /// First of the ports that source translation may take, host byte order.
    pub ports_first: u16,
    /// Last of them, host byte order.
    pub ports_last: u16,
    /// First of the ports that answers to translated sources come to, host byte order: before the range above was changed, others
    /// may have been taken.
    pub answers_first: u16,
    /// Last of them, host byte order.
    pub answers_last: u16,
    /// Bytes of the longest frame that an uplink can receive: what is longer the kernel has put together.
    pub frame: u32,
    /// Elements of `flows4` and of `flows6`.
    pub flow_sets: u32,
}

/// Bits of [`Node::features`].
pub mod feature {
    /// Some peer is reached without encapsulation, so plain packets for pods are taken from the uplink.
    pub const DIRECT: u32 = 1;
    /// There are services.
    pub const SERVICES: u32 = 2;
    /// Pods leave the cluster under the node's address.
    pub const MASQUERADE: u32 = 4;
    /// ICMP echo requests to service addresses are answered.
    pub const SERVICE_ECHO: u32 = 8;
    /// Some uplink's packets are decided at XDP: TC carries out what that could not.
    pub const XDP: u32 = 16;
    /// Peers hand on to backends of this node whom somebody outside has called them for.
    pub const DSR: u32 = 32;
    /// Services are resolved for TCP sockets that connect.
    pub const SOCKETS: u32 = 64;
    /// And for UDP sockets, connected or not.
    pub const UDP_SOCKETS: u32 = 128;
}

impl Node {
    /// Whether all bits of `feature` are on.
    #[inline(always)]
    #[must_use]
    pub const fn has(&self, feature: u32) -> bool {
        self.features & feature == feature
    }

    /// Whether any bit of `features` is on.
    #[inline(always)]
    #[must_use]
    pub const fn has_any(&self, features: u32) -> bool {
        self.features & features != 0
    }
}

#[cfg(feature = "user")]
// SAFETY: `repr(C)` without padding and valid for any bits, which `bytemuck::Pod` has checked.
unsafe impl aya::Pod for Node {}
