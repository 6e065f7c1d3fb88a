//! An ICMP error reaches who sent the packet that it is about, and quotes it as he sent it.

use std::net::IpAddr;

use common::counters::Reason;
use proptest::prelude::*;

use crate::{
    cases,
    cluster::pod,
    message::{Message, Upper, flag, upper},
    world::{Called, Party, World, call, ip},
};

/// Bytes of an ICMP error before what it quotes.
const HEADER: usize = 8;

/// "Too big" about a packet, of which it quotes so many bytes.
fn too_big(from: IpAddr, packet: &[u8], quoted: usize) -> Vec<u8> {
    let quote = &packet[..quoted.min(packet.len())];
    let dst = Message::read(packet).src.0;
    let (at, kind, code) = if dst.is_ipv6() { (40, 2, 0) } else { (20, 3, 4) };
    // An echo request's twin but for the type and code and the four bytes before the quote.
    let blank = Message { src: (from, 0), dst: (dst, 0), upper: Upper::Echo, payload: quote.to_vec() };
    let mut bytes = blank.packet(64, 0);
    bytes[at..at + HEADER].copy_from_slice(&[kind, code, 0, 0, 0, 0, 5, 0]);
    let checksum = icmp_checksum(&bytes);
    bytes[at + 2..at + 4].copy_from_slice(&checksum);
    bytes
}

/// What the checksum of the ICMP message in a packet is to be, if its field is zero; and zero if it is right.
fn icmp_checksum(packet: &[u8]) -> [u8; 2] {
    let (start, addresses) = if packet[0] >> 4 == 6 { (40, 8..40) } else { (20, 0..0) };
    let message = &packet[start..];
    let pseudo = match addresses.len() {
        0 => Vec::new(),
        _ => {
            [&packet[addresses], &[0, 58][..], &u16::try_from(message.len()).unwrap().to_be_bytes()].concat()
        }
    };
    let mut sum = etherparse::checksum::Sum16BitWords::new();
    sum = sum.add_slice(&pseudo).add_slice(message);
    sum.ones_complement().to_ne_bytes()
}

/// A quoted packet without what changes on its way: hops left, and the header's checksum over them. Both zeros of a checksum
/// are one.
fn settled(quote: &[u8]) -> Vec<u8> {
    let mut quote = quote.to_vec();
    let (ttl, start, protocol) = if quote[0] >> 4 == 6 { (7, 40, quote[6]) } else { (8, 20, quote[9]) };
    quote[ttl] = 0;
    if start == 20 {
        quote[10..12].fill(0);
    }
    let at = start
        + match protocol {
            6 => 16,
            17 => 6,
            _ => return quote,
        };
    match quote.get_mut(at..) {
        Some([a @ 0xff, b @ 0xff, ..]) => (*a, *b) = (0, 0),
        // Half of one is no use to anybody.
        Some([half]) => *half = 0,
        _ => {}
    }
    quote
}

proptest! {
    #![proptest_config(cases(4000))]

    /// IC-1, IC-2, SN-6: from the other end itself, or from a router on the way.
    #[test]
    fn errors_reach_who_sent_it(
        v6 in any::<bool>(),
        (client, called) in call(),
        upper in upper(),
        port in 1_u16..,
        payload in proptest::collection::vec(any::<u8>(), 0..300),
        quoted in 28_usize..400,
        router in any::<bool>(),
    ) {
        let mut world = World::new(v6);
        let sent = Message { src: (client.address(v6), port), dst: called.place(v6), upper, payload }.packet(64, 0);
        let passed = world.send(client, &sent).packet.unwrap();
        let server = Party::of(Message::read(&passed).dst.0);
        // Of the cluster's own nodes none is a router to pods that answers under another address.
        let router = router && server == Party::Outside;
        let from = if router { ip(&pod(v6, 201, 7)) } else { Message::read(&passed).dst.0 };
        let quoted = if v6 { quoted + 20 } else { quoted };
        let error = too_big(from, &passed, quoted);
        let fate = world.send(server, &error);
        prop_assert!(fate.packet.is_some(), "{:?}", fate.reason);
        let packet = fate.packet.unwrap();
        let start = if v6 { 40 } else { 20 };
        prop_assert_eq!(icmp_checksum(&packet), [0; 2]);
        let address = |at: std::ops::Range<usize>| ip(&packet[at]);
        let (src, dst) = if v6 { (address(8..24), address(24..40)) } else { (address(12..16), address(16..20)) };
        prop_assert_eq!(dst, client.address(v6));
        prop_assert_eq!(src, if router { from } else { called.place(v6).0 });
        let quote = &packet[start + HEADER..];
        prop_assert_eq!(settled(quote), settled(&sent[..quoted.min(sent.len())]));
    }

    /// IC-1: one about a connection that is not is no reason to change anything.
    #[test]
    fn errors_about_nothing_change_nothing(v6 in any::<bool>(), port in 1_u16.., quoted in 48_usize..80) {
        let mut world = World::new(v6);
        let never = Message {
            src: Called::NodePort.place(v6),
            dst: (Party::Outside.address(v6), port),
            upper: Upper::Tcp(flag::ACK),
            payload: vec![7; 40],
        };
        let error = too_big(Party::Outside.address(v6), &never.packet(64, 0), quoted);
        let fate = world.send(Party::Outside, &error);
        prop_assert_eq!(fate.packet.as_deref(), Some(&error[..]));
        prop_assert_eq!(fate.reason, Reason::Foreign);
    }
}
