//! XDP of an uplink: what [`from_uplink()`] decides, before the kernel has made anything of the packet.

use crate::{counters::Reason, hooks::from_uplink, settle::act, tables::Dataplane, verdict::Action};

/// Decides what becomes of a packet that an uplink receives.
#[inline(always)]
pub fn uplink_xdp<D: Dataplane>(packet: &mut D) -> D::Done {
    // Generic XDP comes after GRO, and is not told how large the packets were that are one now.
    if packet.received() > packet.node().frame as usize {
        return act(packet, Reason::ToTc, Action::Continue);
    }
    from_uplink(packet)
}
