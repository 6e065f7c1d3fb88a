//! What a decision comes to.

use crate::{counters::Reason, icmp, packet::Failed, tables::Dataplane};

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

/// Counts the packet, once, under its reason, and carries out the action: the last thing that is done with it.
///
/// Where it is decided, not in one place at the end: what an action has to know would be carried there on the stack.
#[inline(always)]
pub fn act<D: Dataplane>(packet: &mut D, reason: Reason, action: Action) -> D::Done {
    let received = packet.received();
    packet.count(reason, received);
    packet.act(action)
}

/// Discards the packet.
#[inline(always)]
pub fn drop<D: Dataplane>(packet: &mut D, reason: Reason) -> D::Done {
    act(packet, reason, Action::Drop)
}

/// Why a packet does not go on.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Refusal {
    /// Discarded silently.
    Drop(Reason),
    /// Discarded, and the source is told.
    Answer(Reason, icmp::Error),
    /// A helper refused.
    Failed(Failed),
}

impl From<Reason> for Refusal {
    #[inline(always)]
    fn from(reason: Reason) -> Self {
        match reason {
            Reason::TtlExceeded => Self::Answer(reason, icmp::Error::TimeExceeded),
            Reason::NoSuchPod => Self::Answer(reason, icmp::Error::HostUnreachable),
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

impl Refusal {
    /// Discards the packet without telling anybody.
    #[inline(always)]
    pub fn discard<D: Dataplane>(self, packet: &mut D) -> D::Done {
        match self {
            Self::Drop(reason) | Self::Answer(reason, _) => drop(packet, reason),
            Self::Failed(failure) => {
                packet.failed(failure);
                drop(packet, Reason::HelperFailed)
            }
        }
    }
}
