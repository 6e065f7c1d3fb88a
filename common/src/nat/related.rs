//! ICMP errors about a packet of a connection: they go to whoever sent it, and quote it as he sent it.

use network_types::icmp::Icmpv4Hdr;

use super::{established, workspace};
use crate::{
    checksum,
    family::{Family, Ip},
    maps::{Tuple, connection_flag},
    packet::Packet,
    rewrite,
    stage::Step,
    tables::{Connections, Dataplane},
    tuple::{self, ICMP_ID},
    wire::{ETH_LEN, Ports, protocol},
};

/// Translates an ICMP error that quotes a packet of a connection.
///
/// The quoted packet has gone one way, so the error goes the way of its answers, and so the entry of the answers says both who
/// it is for and what the quoted packet was before it was translated.
#[inline(never)]
pub fn translate<F, D>(packet: &mut D, ip: &mut Ip<F>) -> Step
where
    F: Family,
    D: Dataplane + Connections<F>,
{
    let Some(staged) = workspace::<F, D>(packet) else { return Step::Untouched };
    let start = ip.payload() + size_of::<Icmpv4Hdr>();
    if !answers_to::<F, D>(packet, start, &mut staged.key) {
        return Step::Untouched;
    }
    let Some(entry) = Connections::<F>::connection(packet, &staged.key) else { return Step::Untouched };
    let becomes = entry.becomes();
    if entry.flags() & (connection_flag::INBOUND | connection_flag::HANDED_ON) != 0 {
        return established::as_it_is(packet, ip, entry);
    }
    let changed = quote::<F, D>(packet, start, &staged.key, becomes);
    let old = F::sum(ip.src) + F::sum(ip.dst);
    // From the other end itself, not from a router on the way: then it is known by another address, too.
    if ip.src == staged.key.src {
        ip.src = becomes.src;
    }
    ip.dst = becomes.dst;
    let new = F::sum(ip.src) + F::sum(ip.dst);
    header(packet, ip, changed, checksum::difference(old, new));
    Step::Translated
}

/// Gives the error the addresses that `ip` has, which change a sum by `addresses`; its quote has changed by `quote`.
#[inline(never)]
fn header<F: Family, P: Packet>(packet: &mut P, ip: &Ip<F>, quote: u32, addresses: u32) {
    F::readdress(packet, ETH_LEN, ip.src, ip.dst);
    // ICMP's checksum covers addresses in IPv6 only.
    let pseudo = if F::IS_V6 { checksum::words(addresses) } else { 0 };
    if let Some(header) = packet.at_mut::<Icmpv4Hdr>(ip.payload()) {
        header.check = checksum::adjust(header.check, checksum::words(quote) + pseudo);
    }
}

/// Reads the tuple of the answers to the packet that is quoted at `start`, if that can be told.
#[inline(never)]
fn answers_to<F: Family, P: Packet>(packet: &P, start: usize, answers: &mut Tuple<F::Addr>) -> bool {
    let Some(quoted) = F::quoted(packet, start) else { return false };
    let Some([a, b, c, d]) = tuple::ports(packet, &quoted) else { return false };
    answers.src = quoted.dst;
    answers.dst = quoted.src;
    answers.src_port = [c, d];
    answers.dst_port = [a, b];
    answers.protocol = quoted.protocol;
    answers.reserved = [0; 3];
    true
}

/// Makes the quoted packet, to which `from` are the answers, the one to which `to` are; what that changes in a sum over it.
#[inline(never)]
fn quote<F, P>(packet: &mut P, start: usize, from: &Tuple<F::Addr>, to: &Tuple<F::Addr>) -> u32
where
    F: Family,
    P: Packet,
{
    let Some(payload) = F::quoted(packet, start).map(|quoted| quoted.payload()) else { return 0 };
    let addresses = rewrite::address_change::<F>(from, to);
    let ports = rewrite::port_change(from, to);
    F::readdress(packet, start, to.dst, to.src);
    if ports != 0 {
        let ([a, b], [c, d]) = (to.dst_port, to.src_port);
        if from.protocol != F::ICMP {
            if let Some(place) = packet.at_mut::<Ports>(payload) {
                *place = [a, b, c, d];
            }
        } else if let Some(id) = packet.at_mut::<[u8; 2]>(payload + ICMP_ID) {
            *id = [a | c, b | d];
        }
    }
    // IPv4's own checksum makes up for its addresses.
    let mut changed = ports + if F::IS_V6 { checksum::words(addresses) } else { 0 };
    // The upper protocol's is quoted or not (RFC 792 asks for eight bytes): what is there is kept right.
    if let Some((at, pseudo)) = rewrite::checksum_at::<F>(from.protocol)
        && let Some(check) = packet.at_mut::<[u8; 2]>(payload + at)
        && (from.protocol != protocol::UDP || *check != [0; 2])
    {
        let covered = ports + if pseudo { checksum::words(addresses) } else { 0 };
        let new = checksum::adjust(*check, covered);
        changed += checksum::difference(checksum::word(*check), checksum::word(new));
        *check = new;
    }
    checksum::words(changed)
}
