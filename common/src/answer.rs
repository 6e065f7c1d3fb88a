//! Answers to packets that go no further, made out of the packets themselves: what [`icmp`](crate::icmp) and [`tcp`](crate::tcp) have
//! in common.

use crate::{
    tables::Dataplane,
    wire::{Eth, Mac},
};

/// What came of an attempt to answer; counted by whoever made it.
#[repr(u8)]
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Answer {
    /// The packet is now the answer.
    Ready,
    /// This packet may not be answered, or not now.
    Withheld,
    /// A helper refused; the packet is only good for being dropped.
    Failed,
}

/// Swaps the Ethernet addresses: right for an answer by the device that the packet came from.
#[inline(always)]
pub(crate) fn turn<D: Dataplane>(packet: &mut D) {
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        let (dst, src) = (Mac::load(&eth.src), Mac::load(&eth.dst));
        dst.store(&mut eth.dst);
        src.store(&mut eth.src);
    }
}
