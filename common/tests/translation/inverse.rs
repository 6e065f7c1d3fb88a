//! A translation and that of the answers undo each other.

use common::counters::Reason;
use proptest::prelude::*;

use crate::{
    cases,
    cluster::serving::BACKEND_PORT,
    message::{Message, Upper, upper},
    world::{Called, Party, World, call},
};

/// Whether every checksum that an IP packet has is right.
fn checksums_hold(packet: &[u8]) -> bool {
    let message = Message::read(packet);
    let header = if packet[0] >> 4 == 4 { 4 * usize::from(packet[0] & 15) } else { 40 };
    let ttl = packet[if packet[0] >> 4 == 4 { 8 } else { 7 }];
    let anew = message.packet(ttl, header.saturating_sub(20) / 4 * usize::from(packet[0] >> 4 == 4));
    match message.upper {
        // Its checksum is a CRC over ports that have not changed.
        Upper::Sctp => true,
        _ => anew[..header] == packet[..header] && anew[header..] == packet[header..],
    }
}

/// Who talks to whom, and how: an echo is only of somebody outside (what a service's address answers is its own).
fn talk() -> impl Strategy<Value = ((Party, Called), Upper)> {
    prop_oneof![8 => (call(), upper()), 1 => Just(((Party::Backend(0), Called::Outside), Upper::Echo))]
}

proptest! {
    #![proptest_config(cases(4000))]

    /// SV-1, SV-9, SN-1, SN-6, SN-8, NP-1, NP-2: what a client sends gets to who answers, and the answer comes from whom the client called;
    /// every checksum right, every byte of payload the same.
    #[test]
    fn answers_come_from_whom_was_called(
        v6 in any::<bool>(),
        ((client, called), upper) in talk(),
        port in 1_u16..,
        ttl in 3_u8..,
        options in 0_usize..=10,
        random in any::<u32>(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
        answer in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut world = World::new(v6);
        world.memory.services.random = random;
        let mut place = called.place(v6);
        if upper == Upper::Echo {
            place.1 = 0;
        }
        let sent = Message { src: (client.address(v6), port), dst: place, upper, payload };
        let sent = Message::read(&sent.packet(ttl, 0));
        let fate = world.send(client, &sent.packet(ttl, options));
        let arrived = fate.message();
        prop_assert!(arrived.is_some(), "{:?}", fate.reason);
        let arrived = arrived.unwrap();
        prop_assert!(checksums_hold(fate.packet.as_deref().unwrap()), "{:02x?}", fate.packet);
        prop_assert_eq!(&arrived.payload, &sent.payload);
        prop_assert_eq!(arrived.upper, sent.upper);
        let server = Party::of(arrived.dst.0);
        let port_there = match (called, upper) {
            (Called::Outside, _) | (_, Upper::Sctp) => place.1,
            _ => BACKEND_PORT,
        };
        prop_assert_eq!(arrived.dst.1, port_there);
        prop_assert_eq!(matches!(server, Party::Backend(_)), called != Called::Outside);

        let fate = world.say(server, &arrived.answer(&answer));
        let back = fate.message();
        prop_assert!(back.is_some(), "{:?}", fate.reason);
        prop_assert!(checksums_hold(fate.packet.as_deref().unwrap()), "{:02x?}", fate.packet);
        prop_assert_eq!(back.unwrap(), sent.answer(&answer));
    }

    /// SN-1: what nobody is asked for is not translated: pods talk to pods as they are.
    #[test]
    fn pods_talk_as_they_are(
        v6 in any::<bool>(),
        from in 0_usize..2,
        to in 0_usize..4,
        upper in upper(),
        ports in any::<(u16, u16)>(),
        payload in proptest::collection::vec(any::<u8>(), 0..80),
    ) {
        let mut world = World::new(v6);
        let (from, to) = (Party::Backend(from), Party::Backend(to));
        let sent = Message { src: (from.address(v6), ports.0), dst: (to.address(v6), ports.1), upper, payload };
        let sent = Message::read(&sent.packet(64, 0));
        let fate = world.say(from, &sent);
        prop_assert!(matches!(fate.reason, Reason::ToPod | Reason::ToOverlay | Reason::ToDirect), "{:?}", fate.reason);
        prop_assert_eq!(fate.message().unwrap(), sent);
        prop_assert!(world.memory.conntrack4.entries().is_empty() && world.memory.conntrack6.entries().is_empty());
    }
}
