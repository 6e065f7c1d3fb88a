//! How much of a packet has to lie in one piece.
//!
//! Headers are read and written where they lie, so they must not lie in fragments. The kernel keeps a packet's headers in its
//! linear part and, often, nothing else: asking for more than the headers that are there makes it reallocate the packet, which
//! costs more than forwarding it.

use crate::{
    packet::Packet,
    wire::{ETH_LEN, Eth, ether_type, protocol},
};

/// What is asked for where the headers are not the usual ones: VXLAN over IPv6 (84 bytes), IPv4 with options (60) or IPv6
/// with some extensions, TCP.
const UNUSUAL: usize = 192;

/// The largest header that is looked into behind IP's.
const UPPER: usize = 20;

/// Bytes between an outer IP header and the inner frame: UDP and VXLAN.
const TUNNEL: usize = 16;

/// How many bytes from the packet's start have to be linear; a shorter packet's need is its length. With `tunnels`, UDP is
/// taken for VXLAN.
#[inline(always)]
pub fn needed<P: Packet>(packet: &P, tunnels: bool) -> usize {
    let usual = match end_of_ip(packet, 0) {
        Some((end, protocol::UDP)) if tunnels => end_of_ip(packet, end + TUNNEL).map(|(end, _)| end),
        outer => outer.map(|(end, _)| end),
    };
    let needed = match usual {
        Some(end) => end + UPPER,
        None => UNUSUAL,
    };
    let len = packet.len();
    if needed < len { needed } else { len }
}

/// Where the IP header of the frame at `offset` ends, and the protocol behind it; `None` if there is more to it than the fixed
/// header, or if it is not linear itself.
#[inline(always)]
fn end_of_ip<P: Packet>(packet: &P, offset: usize) -> Option<(usize, u8)> {
    let start = offset + ETH_LEN;
    match packet.at::<Eth>(offset)?.ether_type {
        ether_type::IPV4 => {
            let header = packet.at::<[u8; 20]>(start)?;
            // Not ICMP: an error is looked into further, to the ports of the packet that it quotes.
            let plain = header[0] == 0x45 && header[9] != protocol::ICMP;
            plain.then_some((start + 20, header[9]))
        }
        ether_type::IPV6 => {
            let header = packet.at::<[u8; 40]>(start)?;
            // Not ICMP: neighbour discovery is looked into further.
            let plain = matches!(header[6], protocol::TCP | protocol::UDP);
            plain.then_some((start + 40, header[6]))
        }
        _ => None,
    }
}

#[cfg(test)]
mod tests {
    use etherparse::PacketBuilder;

    use super::*;
    use crate::memory::Memory;

    fn tcp(payload: &[u8]) -> Vec<u8> {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 200, 0, 2], [10, 200, 1, 2], 64);
        builder.tcp(1, 2, 3, 4).write(&mut bytes, payload).unwrap();
        bytes
    }

    #[test]
    fn usual_headers_need_no_more_than_themselves() {
        assert_eq!(needed(&Memory::packet(&tcp(&[0; 1000])), false), 54);
        assert_eq!(needed(&Memory::packet(&tcp(&[0; 1000])), true), 54);
    }

    #[test]
    fn a_tunnel_needs_both_headers() {
        let mut bytes = Vec::new();
        let mut vxlan = vec![8, 0, 0, 0, 0, 0, 1, 0];
        vxlan.extend(tcp(&[0; 1000]));
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([10, 240, 0, 20], [10, 240, 0, 21], 64);
        builder.udp(40000, 8472).write(&mut bytes, &vxlan).unwrap();
        assert_eq!(needed(&Memory::packet(&bytes), true), 50 + 54);
        assert_eq!(needed(&Memory::packet(&bytes), false), 54);
    }

    /// An error quotes the headers of a packet, which are translated with it.
    #[test]
    fn icmp_needs_more() {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv4([192, 0, 2, 1], [10, 240, 0, 20], 64);
        builder.icmpv4_raw(3, 4, [0, 0, 5, 120]).write(&mut bytes, &tcp(&[0; 1000])[14..562]).unwrap();
        assert_eq!(needed(&Memory::packet(&bytes), true), UNUSUAL);
    }

    /// A neighbour solicitation is looked into further than any other header.
    #[test]
    fn icmp_for_ipv6_needs_more() {
        let mut bytes = Vec::new();
        let builder = PacketBuilder::ethernet2([1; 6], [2; 6]).ipv6([1; 16], [2; 16], 255);
        builder.icmpv6_echo_request(1, 2).write(&mut bytes, &[0; 1000]).unwrap();
        assert_eq!(needed(&Memory::packet(&bytes), false), UNUSUAL);
    }

    #[test]
    fn options_need_more_and_a_short_packet_is_all_there_is() {
        let mut options = tcp(&[0; 1000]);
        options[14] = 0x46;
        assert_eq!(needed(&Memory::packet(&options), false), UNUSUAL);
        assert_eq!(needed(&Memory::packet(&options[..60]), false), 60);
        assert_eq!(needed(&Memory::packet(&[]), false), 0);
    }
}
