//! TC ingress of an uplink with XDP, in front of `from_uplink`: what XDP has left to TC.

use crate::{counters::Reason, settle::act, tables::Dataplane, verdict::Refusal};

/// Carries out what XDP has decided; `None` is a packet that is `from_uplink`'s to decide about.
#[inline(always)]
pub fn from_xdp<D: Dataplane>(packet: &mut D) -> Option<D::Done> {
    match packet.handed() {
        Ok(Some(action)) => Some(act(packet, Reason::FromXdp, action)),
        Ok(None) => None,
        Err(failure) => Some(Refusal::Failed(failure).discard(packet)),
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{
        memory::Memory,
        packet::{Failed, Helper},
        verdict::Action,
    };

    #[test]
    fn what_was_handed_over_is_carried_out_and_counted_once() {
        let mut packet = Memory::packet(&[0; 64]);
        assert_eq!(from_xdp(&mut packet), None);
        assert!(packet.counts.is_empty());

        let action = Action::Pod { ifindex: 7 };
        packet.handed = Ok(Some(action));
        assert_eq!(from_xdp(&mut packet), Some(action));
        assert_eq!(packet.counts, [(Reason::FromXdp, 64)]);

        packet.counts.clear();
        let failure = Failed { helper: Helper::ChangeHead, code: -12 };
        packet.handed = Err(failure);
        assert_eq!(from_xdp(&mut packet), Some(Action::Drop));
        assert_eq!(packet.counts, [(Reason::HelperFailed, 64)]);
        assert_eq!(packet.failures, [failure]);
    }
}
