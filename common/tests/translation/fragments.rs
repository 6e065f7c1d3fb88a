//! The fragments of a packet go where its first one goes.

use common::counters::Reason;
use proptest::prelude::*;

use crate::{
    cases,
    message::{Message, Upper},
    world::{Called, Party, World, call},
};

/// Cuts an IP packet into fragments of so many bytes, a multiple of eight.
fn cut(packet: &[u8], size: usize) -> Vec<Vec<u8>> {
    let v6 = packet[0] >> 4 == 6;
    let (header, payload) = packet.split_at(if v6 { 40 } else { 20 });
    let count = payload.len().div_ceil(size);
    let pieces = payload.chunks(size).enumerate();
    pieces
        .map(|(nth, piece)| {
            let units = u16::try_from(nth * size / 8).unwrap();
            let more = nth + 1 < count;
            let mut header = header.to_vec();
            if v6 {
                let [a, b] = (units << 3 | u16::from(more)).to_be_bytes();
                header.extend([header[6], 0, a, b, 0, 0, 0, 9]);
                header[6] = 44;
                header[4..6].copy_from_slice(&u16::try_from(piece.len() + 8).unwrap().to_be_bytes());
            } else {
                header[2..4].copy_from_slice(&u16::try_from(piece.len() + 20).unwrap().to_be_bytes());
                header[6..8].copy_from_slice(&(units | u16::from(more) << 13).to_be_bytes());
                reseal(&mut header);
            }
            [&header[..], piece].concat()
        })
        .collect()
}

/// Puts them together again.
fn join(fragments: &[Vec<u8>]) -> Vec<u8> {
    let v6 = fragments[0][0] >> 4 == 6;
    let skip = if v6 { 48 } else { 20 };
    let payload: Vec<u8> = fragments.iter().flat_map(|fragment| fragment[skip..].to_vec()).collect();
    let mut header = fragments[0][..if v6 { 40 } else { 20 }].to_vec();
    if v6 {
        header[6] = fragments[0][40];
        header[4..6].copy_from_slice(&u16::try_from(payload.len()).unwrap().to_be_bytes());
    } else {
        header[2..4].copy_from_slice(&u16::try_from(payload.len() + 20).unwrap().to_be_bytes());
        header[6..8].fill(0);
        reseal(&mut header);
    }
    [header, payload].concat()
}

/// Writes an IPv4 header's checksum.
fn reseal(header: &mut [u8]) {
    header[10..12].fill(0);
    let sum = etherparse::checksum::Sum16BitWords::new().add_slice(header).ones_complement();
    header[10..12].copy_from_slice(&sum.to_ne_bytes());
}

proptest! {
    #![proptest_config(cases(2000))]

    /// FR-1, SV-1: put together again, they are the packet, translated; and so is the answer, cut likewise.
    #[test]
    fn fragments_go_together(
        v6 in any::<bool>(),
        (client, called) in call(),
        port in 1_u16..,
        size in 1_usize..40,
        payload in proptest::collection::vec(any::<u8>(), 20..600),
    ) {
        let mut world = World::new(v6);
        let upper = Upper::Udp { checksum: true };
        let sent = Message { src: (client.address(v6), port), dst: called.place(v6), upper, payload };
        let mut pass = |from: Party, message: &Message| {
            let fragments = cut(&message.packet(64, 0), 8 * size);
            let passed = fragments.iter().map(|fragment| world.send(from, fragment).packet.unwrap());
            let joined = join(&passed.collect::<Vec<_>>());
            let message = Message::read(&joined);
            (message.packet(63, 0) == joined).then_some(message)
        };
        let arrived = pass(client, &sent);
        prop_assert!(arrived.is_some(), "a checksum is wrong");
        let arrived = arrived.unwrap();
        prop_assert_eq!(&arrived.payload, &sent.payload);
        let answer = arrived.answer(&sent.payload);
        let back = pass(Party::of(arrived.dst.0), &answer);
        prop_assert_eq!(back, Some(sent.answer(&sent.payload)));
    }

    /// FR-1: one whose first has not been seen is nobody's: to a service's own address it is dropped.
    #[test]
    fn a_stray_fragment_is_dropped(v6 in any::<bool>(), port in 1_u16.., nth in 1_usize..4) {
        let mut world = World::new(v6);
        let (client, called) = (Party::Backend(0), Called::Service);
        let upper = Upper::Udp { checksum: true };
        let sent = Message { src: (client.address(v6), port), dst: called.place(v6), upper, payload: vec![1; 300] };
        let fate = world.send(client, &cut(&sent.packet(64, 0), 64)[nth]);
        prop_assert_eq!((fate.reason, fate.packet), (Reason::FragmentUnknown, None));
    }

    /// FR-1, SN-1: nor does it leave the cluster, where nobody could answer the pod's own address.
    #[test]
    fn a_stray_fragment_does_not_leave(v6 in any::<bool>(), port in 1_u16.., nth in 1_usize..4) {
        let mut world = World::new(v6);
        let (client, called) = (Party::Backend(0), Called::Outside);
        let upper = Upper::Udp { checksum: true };
        let sent = Message { src: (client.address(v6), port), dst: called.place(v6), upper, payload: vec![1; 300] };
        let fate = world.send(client, &cut(&sent.packet(64, 0), 64)[nth]);
        prop_assert_eq!((fate.reason, fate.packet), (Reason::FragmentUnknown, None));
    }

    /// FR-1: the number of a datagram to a service may come again, of one that is for the node itself: all of that is the node's.
    #[test]
    fn a_number_that_comes_again_is_another_datagram(v6 in any::<bool>(), port in 1_u16.., nth in 1_usize..4) {
        let mut world = World::new(v6);
        let upper = Upper::Udp { checksum: true };
        let (address, called) = Called::NodePort.place(v6);
        let src = (Party::Outside.address(v6), port);
        for (to, is_foreign) in [(called, false), (514, true)] {
            let sent = Message { src, dst: (address, to), upper, payload: vec![1; 300] };
            let fragments = cut(&sent.packet(64, 0), 64);
            for fragment in [&fragments[0], &fragments[nth]] {
                let fate = world.send(Party::Outside, fragment);
                prop_assert_eq!(fate.reason == Reason::Foreign, is_foreign, "{:?} to {}", fate.reason, to);
            }
        }
    }
}
