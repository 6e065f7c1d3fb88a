//! Which answer the source of a packet gets that goes no further.

use crate::{
    answer::Answer,
    family::{Family, Ip},
    icmp,
    tables::Dataplane,
    tcp,
    verdict::Trouble,
};

/// Turns the packet, an IP packet behind its Ethernet header, into the answer to its source. What `from` is to be known as says
/// so itself where nobody else could: of an address that is there, whoever has it.
///
/// The Ethernet addresses are swapped. `ip` then says what the new header says.
#[inline(always)]
pub(super) fn to_source<F: Family, D: Dataplane>(
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
