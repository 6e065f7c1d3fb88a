//! What a decision comes to.

use crate::{counters::Reason, packet::Failed};

/// What the hook does with the packet.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Action {
    /// Leave it to whatever comes next on this hook, then to the kernel.
    Continue,
    /// Discard it.
    Drop,
    /// Hand it to the pod behind that host-side device: as if the pod's own end had received it.
    Pod {
        /// Interface index of the host-side veth.
        ifindex: u32,
    },
    /// Hand it to the node's own stack, as if the gateway device had received it. So the stack sees every pod, local or
    /// remote, on the device that its route to that pod points to, and a strict `rp_filter` is content.
    Host,
    /// Hand it to the node's own stack, as if it had come from itself: its source is one of the node's own addresses.
    Loopback,
    /// Send it out of a device, headers complete.
    Device {
        /// Interface index.
        ifindex: u32,
    },
    /// Send it out of a device; the kernel routes it by its own header, resolves the neighbour and writes the Ethernet
    /// header.
    Route {
        /// Interface index.
        ifindex: u32,
    },
    /// Send it out of a device to that neighbour; the kernel resolves it and writes the Ethernet header.
    Neighbour {
        /// Interface index.
        ifindex: u32,
        /// Address of the neighbour, as it lies in a packet; IPv4 in the first word.
        address: [u32; 4],
        /// Whether that is an IPv6 address.
        v6: bool,
    },
}

/// What the source of a packet that goes no further is told.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trouble {
    /// Larger than the path takes.
    TooBig {
        /// What it takes, in bytes from the IP header on.
        mtu: u32,
    },
    /// Nobody has that address.
    HostUnreachable,
    /// No hop left.
    TimeExceeded,
    /// Nobody listens there.
    PortUnreachable,
    /// The TCP connection is no more.
    Reset,
    /// Nothing is wrong: it asked for an echo.
    Echo,
}

/// Why a packet does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Discarded silently.
    Drop(Reason),
    /// Discarded, and the source is told.
    Answer(Reason, Trouble),
    /// A helper refused.
    Failed(Failed),
}

impl From<Reason> for Refusal {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::TtlExceeded => Self::Answer(reason, Trouble::TimeExceeded),
            Reason::NoSuchPod => Self::Answer(reason, Trouble::HostUnreachable),
            Reason::NoSuchService | Reason::NoBackend => Self::Answer(reason, Trouble::PortUnreachable),
            Reason::BackendGone => Self::Answer(reason, Trouble::Reset),
            Reason::EchoReply => Self::Answer(reason, Trouble::Echo),
            _ => Self::Drop(reason),
        }
    }
}

impl From<Failed> for Refusal {
    #[inline(always)]
    fn from(failure: Failed) -> Self {
        Self::Failed(failure)
    }
}
