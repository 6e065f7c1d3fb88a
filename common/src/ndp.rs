//! Neighbour discovery from a pod (RFC 4861): its gateway is answered for, nobody else.

use network_types::{icmp::Icmpv6Hdr, ip::Ipv6Hdr};

use crate::{
    checksum,
    counters::Reason,
    family::{Family, Fields, Fragment, Ip, V6},
    packet::Failed,
    settle::{act, drop},
    tables::Dataplane,
    verdict::Action,
    wire::{ETH_LEN, Eth, Mac, Wire, load16, protocol},
};

const SOLICITATION: u8 = 135;
const ADVERTISEMENT: u8 = 136;
/// Types 133 to 137: router and neighbour solicitation and advertisement, redirect.
const FIRST: u8 = 133;
const LAST: u8 = 137;

/// Solicited and override flags (section 4.4); not a router, as pods don't take routes from it.
const FLAGS: [u8; 4] = [0x60, 0, 0, 0];
/// Option: target link-layer address, one unit of 8 bytes (section 4.6.1).
const TARGET_MAC: [u8; 2] = [2, 1];

/// A neighbour advertisement with its one option, behind the IPv6 header.
#[repr(C)]
#[derive(Clone, Copy)]
struct Advertisement {
    icmp: Icmpv6Hdr,
    target: [u8; 16],
    option: [u8; 2],
    mac: [u8; 6],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for Advertisement {}

/// A neighbour solicitation without its options.
#[repr(C)]
#[derive(Clone, Copy)]
struct Solicitation {
    icmp: Icmpv6Hdr,
    target: [u8; 16],
}

// SAFETY: `repr(C)`, byte arrays only.
unsafe impl Wire for Solicitation {}

/// If the packet is neighbour discovery, what becomes of it; these are between neighbours, so no source check applies.
#[inline(always)]
pub fn answer<D: Dataplane>(packet: &mut D, ip: &Ip<V6>) -> Option<D::Done> {
    // What a later fragment starts with is payload.
    if ip.protocol != protocol::ICMPV6 || ip.fragment == Fragment::Later {
        return None;
    }
    let icmp_type = packet.at::<Icmpv6Hdr>(ip.payload())?.type_;
    if !(FIRST..=LAST).contains(&icmp_type) {
        return None;
    }
    if icmp_type != SOLICITATION || !asks_for_gateway(packet, ip) {
        return Some(drop(packet, Reason::NeighbourIgnored));
    }
    let ifindex = packet.ifindex();
    Some(match advertise(packet, ip) {
        Ok(()) => act(packet, Reason::NdpReply, Action::Pod { ifindex }),
        Err(failure) => {
            packet.failed(failure);
            drop(packet, Reason::HelperFailed)
        }
    })
}

/// Section 7.1.1: hop limit 255 shows that no router was between, and the code is zero; from `::` it is a probe for a
/// duplicate, no question.
#[inline(always)]
fn asks_for_gateway<D: Dataplane>(packet: &D, ip: &Ip<V6>) -> bool {
    let gateway = V6::gateway(packet.node());
    let on_link = packet.at::<Ipv6Hdr>(ETH_LEN).is_some_and(|header| header.hop_limit == 255);
    on_link
        && ip.payload() == ETH_LEN + V6::HEADER_LEN
        && gateway != [0; 2]
        && ip.src != [0; 2]
        && ip.src != gateway
        && packet
            .at::<Solicitation>(ip.payload())
            .is_some_and(|asked| asked.icmp.code == 0 && load16(&asked.target) == gateway)
}

/// Turns the solicitation, with or without options, into an advertisement with one.
#[inline(always)]
fn advertise<D: Dataplane>(packet: &mut D, ip: &Ip<V6>) -> Result<(), Failed> {
    let mac = packet.node().mac;
    let gateway = packet.node().gateway6;
    let from = V6::gateway(packet.node());
    let missing = size_of::<Advertisement>() - size_of::<Solicitation>();
    // Only the Ethernet and IPv6 headers and the first part of the message stay: all are written anew.
    packet.quote(ETH_LEN + V6::HEADER_LEN + size_of::<Solicitation>(), missing)?;
    let icmp = Icmpv6Hdr { type_: ADVERTISEMENT, code: 0, check: [0; 2], data: FLAGS };
    let len = size_of::<Advertisement>();
    let [m0, m1, m2, m3, m4, m5] = mac;
    let sum = V6::icmp_seed(from, ip.src, len)
        + checksum::word([icmp.type_, icmp.code])
        + checksum::sum(&icmp.data)
        + checksum::sum(&gateway)
        + checksum::sum(&[TARGET_MAC[0], TARGET_MAC[1], m0, m1, m2, m3, m4, m5]);
    if let Some(advertisement) = packet.at_mut::<Advertisement>(ETH_LEN + V6::HEADER_LEN) {
        *advertisement = Advertisement {
            icmp: Icmpv6Hdr { check: checksum::finish(sum), ..icmp },
            target: gateway,
            option: TARGET_MAC,
            mac,
        };
    }
    if let Some(header) = packet.at_mut::<Ipv6Hdr>(ETH_LEN) {
        let fields =
            Fields { src: from, dst: ip.src, protocol: protocol::ICMPV6, tos: 0, ttl: 255, payload: len };
        V6::write(header, &fields);
    }
    if let Some(eth) = packet.at_mut::<Eth>(0) {
        Mac::load(&eth.src).store(&mut eth.dst);
        Mac::load(&mac).store(&mut eth.src);
    }
    Ok(())
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::{hooks, maps::Endpoint, memory::Memory};

    const HERE: [u8; 16] = [0xfd, 0, 0, 0x10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 2];
    const THERE: [u8; 16] = [0xfd, 0, 0, 0x10, 2, 0, 0, 0, 0, 0, 0, 0, 0, 0, 0, 3];

    /// A part of a large echo request, behind its fragment header: `word` is the header's offset and flag.
    fn fragment(word: u16, data: &[u8]) -> Memory {
        let mut bytes = vec![1; 12];
        bytes.extend([0x86, 0xdd, 0x60, 0, 0, 0, 0, 8 + u8::try_from(data.len()).unwrap()]);
        bytes.extend([protocol::FRAGMENT, 64]);
        bytes.extend(HERE);
        bytes.extend(THERE);
        bytes.extend([protocol::ICMPV6, 0]);
        bytes.extend(word.to_be_bytes());
        bytes.extend([0, 0, 0, 7]);
        bytes.extend(data);
        let mut packet = Memory::packet(&bytes);
        for (address, ifindex) in [(HERE, packet.ifindex), (THERE, 2)] {
            let pod = Endpoint { ifindex, slot: ifindex, mac: [ifindex as u8; 6], reserved: [0; 2] };
            packet.pods.insert(address.to_vec(), pod);
        }
        packet
    }

    /// PF-4, PF-9: what a later fragment starts with is payload, whatever it looks like.
    #[test]
    fn a_later_fragment_is_no_neighbour_discovery() {
        for first in FIRST..=LAST {
            let mut packet = fragment(8 << 3, &[first; 32]);
            assert_eq!(hooks::from_pod(&mut packet), Action::Pod { ifindex: 2 }, "payload of {first}");
        }
    }

    /// RFC 6980: neighbour discovery is never fragmented.
    #[test]
    fn a_first_fragment_of_neighbour_discovery_is_ignored() {
        let mut packet = fragment(1, &[SOLICITATION; 32]);
        assert_eq!(hooks::from_pod(&mut packet), Action::Drop);
        assert_eq!(packet.counts, [(Reason::NeighbourIgnored, packet.received)]);
    }
}
