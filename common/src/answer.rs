//! Answers to packets that go no further, made out of the packets themselves.

use crate::{
    family::{Family, Ip},
    icmp,
    tables::Dataplane,
    tcp,
    verdict::Trouble,
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

/// Turns the packet, an IP packet behind its Ethernet header, into the answer to its source. What `from` is to be known as says
/// so itself where nobody else could: of an address that is there, whoever has it.
///
/// The Ethernet addresses are swapped, which is right for an answer by the device that the packet came from. `ip` then
/// says what the new header says.
#[inline(always)]
pub fn answer<F: Family, D: Dataplane>(
    packet: &mut D,
    ip: &mut Ip<F>,
    from: &F::Addr,
    trouble: Trouble,
) -> Answer {
    match trouble {
        Trouble::Reset => tcp::reset(packet, ip),
        Trouble::Echo => icmp::echo(packet, ip),
        Trouble::PortUnreachable => {
            let called = ip.dst;
            icmp::error(packet, ip, &called, trouble)
        }
        _ => icmp::error(packet, ip, from, trouble),
    }
}

/// Swaps the Ethernet addresses.
#[inline(always)]
pub(crate) fn turn<D: Dataplane>(packet: &mut D) {
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        let (dst, src) = (Mac::load(&eth.src), Mac::load(&eth.dst));
        dst.store(&mut eth.dst);
        src.store(&mut eth.src);
    }
}
