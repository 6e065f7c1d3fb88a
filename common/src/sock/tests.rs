//! What sockets are given.

use bytemuck::Zeroable as _;

use super::*;
use crate::{
    maps::{Frontend, Service},
    memory::Memory,
    node::Node,
};

const HERE: u64 = 7;
const NODE: u64 = 8;
const POD: Caller = Caller { cookie: 100, namespace: HERE, bound: false };
const MODE_ON: u32 = feature::SOCKETS | feature::UDP_SOCKETS;
/// 10.32.0.1, as words of memory.
const SERVICE4: [u32; 4] = [u32::from_ne_bytes([10, 32, 0, 1]), 0, 0, 0];
const PORT: [u8; 2] = 80_u16.to_be_bytes();

fn called(protocol: u8) -> FrontendKey {
    place(SERVICE4, false, PORT, protocol)
}

fn backend(last: u8) -> Backend {
    let mut address = [0; 16];
    address[..4].copy_from_slice(&[10, 200, 0, last]);
    let port = 8080_u16.to_be_bytes();
    Backend { address, port, family: 4, state: backend_state::READY, generation: 5, group: 3, flags: 0 }
}

/// A node with one service, by TCP and UDP, that has two backends.
fn node(features: u32) -> Memory {
    let mut memory = Memory::packet(&[]);
    memory.node = Box::leak(Box::new(Node { features, ..Node::zeroed() }));
    memory.resolved.namespaces.extend([(HERE, namespace_kind::POD), (NODE, namespace_kind::NODE)]);
    for protocol in [protocol::TCP, protocol::UDP] {
        memory.services.frontends.insert(called(protocol), Frontend { service: 1 });
    }
    let inside = Selection::Table { first: 10, count: 2 }.pack();
    memory.services.services.insert(1, Service { inside, group: 3, generation: 1, ..Service::default() });
    memory.services.maglev.extend([(10, 20), (11, 21)]);
    memory.services.backends.extend([(20, backend(20)), (21, backend(21))]);
    memory
}

fn service(memory: &mut Memory) -> &mut Service {
    memory.services.services.get_mut(&1).unwrap()
}

fn connect(memory: &mut Memory, socket: &Caller, protocol: u8) -> Option<u8> {
    resolve(memory, socket, &called(protocol), Call::Connect).map(|backend| backend.address[3])
}

fn send(memory: &mut Memory) -> Option<u8> {
    resolve(memory, &POD, &called(protocol::UDP), Call::Send).map(|backend| backend.address[3])
}

#[test]
fn a_socket_gets_a_backend_and_is_told_whom_it_called() {
    let mut memory = node(MODE_ON);
    for (random, last) in [(0, 20), (u32::MAX, 21)] {
        memory.services.random = random;
        for protocol in [protocol::TCP, protocol::UDP] {
            let socket = Caller { cookie: u64::from(random) + u64::from(protocol), ..POD };
            assert_eq!(connect(&mut memory, &socket, protocol), Some(last));
            let words = [u32::from_ne_bytes([10, 200, 0, last]), 0, 0, 0];
            let peer = place(words, false, 8080_u16.to_be_bytes(), protocol);
            assert_eq!(super::called(&memory, socket.cookie, &peer), Some(called(protocol)));
            // Nobody else has called it.
            assert_eq!(super::called(&memory, socket.cookie + 1000, &peer), None);
        }
    }
    assert!(memory.counts.iter().all(|(reason, _)| *reason == Reason::Resolved));
    assert_eq!(memory.counts.len(), 4);
}

#[test]
fn mapped_addresses_are_ipv4() {
    let mapped = [0, 0, MAPPED, SERVICE4[0]];
    assert_eq!(place(mapped, true, PORT, protocol::TCP), called(protocol::TCP));
    let v6 = [u32::from_ne_bytes([0xfd, 0, 0, 0]), 0, 0, u32::from_ne_bytes([0, 0, 0, 1])];
    let place6 = place(v6, true, PORT, protocol::TCP);
    assert_eq!((place6.family, place6.address[0], place6.address[15]), (6, 0xfd, 1));
    // The same words are none of IPv4's.
    assert_eq!(place(SERVICE4, true, PORT, protocol::TCP).family, 6);
}

#[test]
fn what_hangs_on_the_client_is_left_to_the_packets() {
    let all: [fn(&mut Service); 4] = [
        |service| service.affinity = 10,
        |service| service.flags = service_flag::SOURCE_RANGES,
        |service| service.inside = Selection::Reject.pack(),
        |service| service.inside = Selection::Drop.pack(),
    ];
    for change in all {
        let mut memory = node(MODE_ON);
        change(service(&mut memory));
        assert_eq!(connect(&mut memory, &POD, protocol::TCP), None);
        assert_eq!(send(&mut memory), None);
        assert_eq!(memory.counts, [(Reason::ToPackets, 0); 2]);
        assert!(memory.resolved.sockets.is_empty() && memory.resolved.choices.is_empty());
    }
}

#[test]
fn backends_that_a_socket_must_not_get() {
    let all: [fn(&mut Backend); 3] = [
        |backend| backend.state = backend_state::GONE,
        |backend| backend.group = 4,
        |backend| backend.flags = backend_flag::EXTERNAL,
    ];
    for change in all {
        let mut memory = node(MODE_ON);
        change(memory.services.backends.get_mut(&20).unwrap());
        assert_eq!(connect(&mut memory, &POD, protocol::TCP), None);
        memory.services.random = u32::MAX;
        assert_eq!(connect(&mut memory, &POD, protocol::TCP), Some(21));
    }
}

#[test]
fn other_namespaces_and_other_addresses_are_left_alone() {
    let mut memory = node(MODE_ON);
    let stranger = Caller { namespace: 9, ..POD };
    assert_eq!(connect(&mut memory, &stranger, protocol::TCP), None);
    assert_eq!(connect(&mut memory, &POD, protocol::SCTP), None);
    let elsewhere = place(SERVICE4, false, [0, 81], protocol::TCP);
    assert_eq!(resolve(&mut memory, &POD, &elsewhere, Call::Connect), None);
    // They are no calls of services.
    assert_eq!(memory.counts, []);
}

#[test]
fn each_mode_has_its_protocols() {
    for (features, tcp, udp) in
        [(0, None, None), (feature::SOCKETS, Some(20), None), (MODE_ON, Some(20), Some(20))]
    {
        let mut memory = node(features);
        assert_eq!(connect(&mut memory, &POD, protocol::TCP), tcp);
        assert_eq!(connect(&mut memory, &POD, protocol::UDP), udp);
        assert_eq!(send(&mut memory), udp);
    }
}

#[test]
fn a_process_of_the_node_keeps_the_address_that_it_has_chosen() {
    let mut memory = node(MODE_ON);
    let node = Caller { namespace: NODE, ..POD };
    assert_eq!(connect(&mut memory, &node, protocol::TCP), Some(20));
    assert_eq!(connect(&mut memory, &Caller { bound: true, ..node }, protocol::TCP), None);
    // A pod has its own addresses only, to which everybody has a way back.
    assert_eq!(connect(&mut memory, &Caller { bound: true, ..POD }, protocol::TCP), Some(20));
}

#[test]
fn who_keeps_sending_keeps_its_backend_while_that_is_ready() {
    let changes: [fn(&mut Memory); 5] = [
        |memory| memory.services.backends.get_mut(&20).unwrap().state = backend_state::NOT_READY,
        |memory| memory.services.backends.get_mut(&20).unwrap().state = backend_state::GONE,
        |memory| memory.services.backends.get_mut(&20).unwrap().generation += 1,
        |memory| memory.services.backends.get_mut(&20).unwrap().group += 1,
        |memory| service(memory).flags |= service_flag::INSIDE_LOCAL,
    ];
    for change in changes {
        let mut memory = node(MODE_ON);
        assert_eq!(send(&mut memory), Some(20));
        memory.services.random = u32::MAX;
        assert_eq!(send(&mut memory), Some(20));
        change(&mut memory);
        assert_eq!(send(&mut memory), Some(21), "it moves");
        memory.services.random = 0;
        let settled = service(&mut memory).flags & service_flag::INSIDE_LOCAL == 0;
        assert!(!settled || send(&mut memory) == Some(21), "and stays there");
    }
}

#[test]
fn who_connects_to_a_backend_itself_has_called_nobody_else() {
    let mut memory = node(MODE_ON);
    connect(&mut memory, &POD, protocol::UDP);
    let peer =
        place([u32::from_ne_bytes([10, 200, 0, 20]), 0, 0, 0], false, 8080_u16.to_be_bytes(), protocol::UDP);
    assert!(super::called(&memory, POD.cookie, &peer).is_some());
    assert_eq!(resolve(&mut memory, &POD, &peer, Call::Connect), None);
    assert_eq!(super::called(&memory, POD.cookie, &peer), None);
}
