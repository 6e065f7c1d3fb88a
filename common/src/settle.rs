//! The last thing that is done with a packet.

use crate::{
    counters::Reason,
    tables::Dataplane,
    verdict::{Action, Refusal},
};

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
    // An echo request that could not be answered is one that nobody was there for.
    let reason = if reason == Reason::EchoReply { Reason::NoSuchService } else { reason };
    act(packet, reason, Action::Drop)
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
